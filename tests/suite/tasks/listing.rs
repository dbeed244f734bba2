//! Lists of tasks: filters, pages, totals, and how much one page may hold.

use std::collections::BTreeSet;

use millrace_tests::app::App;
use serde_json::{Value, json};

use super::{STATUSES, TASKS, get, id_of, in_status, pending};

/// A page, whose form is checked by the way.
async fn page(app: &App, query: &str) -> Value {
    let page = app.api.get(&format!("{TASKS}?{query}")).await.ok();
    let fields = super::fields(&page);
    assert_eq!(fields, ["limit", "offset", "tasks", "total"]);
    page
}

/// The ids on a page, in its order.
fn ids(page: &Value) -> Vec<String> {
    let tasks = page["tasks"].as_array().expect("tasks");
    tasks.iter().map(id_of).collect()
}

#[tokio::test]
async fn a_list_has_what_fits_each_filter_the_newest_first() {
    let app = App::start().await;
    let empty = page(&app, "").await;
    assert_eq!(
        empty,
        json!({ "tasks": [], "total": 0, "limit": 50, "offset": 0 })
    );
    let mut made = Vec::new();
    for status in STATUSES {
        for _ in 0..2 {
            made.push((status, in_status(&app, status).await));
        }
    }
    let urgent = pending(&app, json!({ "type": "urgent", "priority": 20 })).await;
    let newest_first = |wanted: &[&str]| -> Vec<String> {
        let fitting = made
            .iter()
            .rev()
            .filter(|(status, _)| wanted.contains(status));
        fitting.map(|(_, task)| task.id.clone()).collect()
    };
    for status in STATUSES {
        let mut expected = newest_first(&[status]);
        if status == "pending" {
            expected.insert(0, urgent.id.clone());
        }
        let found = page(&app, &format!("status={status}")).await;
        assert_eq!(
            (ids(&found), &found["total"]),
            (expected.clone(), &json!(expected.len()))
        );
        for task in found["tasks"].as_array().expect("tasks") {
            assert_eq!(*task, get(&app, &id_of(task)).await, "as one alone");
        }
    }
    let only = vec![urgent.id.clone()];
    for query in [
        "type=urgent".to_owned(),
        "priority=20".to_owned(),
        format!("queue={}", urgent.queue),
        "type=urgent&priority=20&status=pending".to_owned(),
    ] {
        let found = page(&app, &query).await;
        assert_eq!(
            (ids(&found), &found["total"]),
            (only.clone(), &json!(1)),
            "{query}"
        );
    }
    for query in [
        "type=unknown",
        "queue=unknown",
        "priority=-100",
        "type=urgent&status=failed",
    ] {
        let found = page(&app, query).await;
        assert_eq!(
            (&found["tasks"], &found["total"]),
            (&json!([]), &json!(0)),
            "{query}"
        );
    }
    let all = page(&app, "type=t&limit=1000").await;
    assert_eq!(ids(&all), newest_first(&STATUSES));
    // Text in a parameter comes decoded.
    assert_eq!(ids(&page(&app, "type=%75rgent").await), only);
}

#[tokio::test]
async fn pages_by_offset_make_the_whole() {
    let app = App::start().await;
    let jobs = "select millrace.enqueue_many((select jsonb_agg(jsonb_build_object('queue', 'q' || i % 3, 'type', 't' || i % 5)) from generate_series(1, 230) as i))";
    app.database.run(jobs).await;
    let whole = ids(&page(&app, "limit=1000").await);
    assert_eq!(whole.len(), 230);
    let mut pages = 0;
    for limit in [3, 50, 229, 230, 231] {
        let mut read = Vec::new();
        while read.len() < whole.len() {
            let query = format!("limit={limit}&offset={}", read.len());
            let part = page(&app, &query).await;
            assert_eq!(
                (&part["total"], &part["limit"], &part["offset"]),
                (&json!(230), &json!(limit), &json!(read.len()))
            );
            read.extend(ids(&part));
            pages += 1;
        }
        assert_eq!(read, whole, "{limit}");
    }
    let behind = page(&app, "offset=230").await;
    assert_eq!(
        (&behind["tasks"], &behind["total"]),
        (&json!([]), &json!(230))
    );
    let behind = page(&app, "offset=9007199254740991").await;
    assert_eq!(behind["tasks"], json!([]));
    println!("{pages} pages by offset");
}

#[tokio::test]
async fn pages_by_before_hold_still_while_tasks_arrive() {
    let app = App::start().await;
    for _ in 0..25 {
        pending(&app, json!({})).await;
    }
    let whole: BTreeSet<String> = ids(&page(&app, "").await).into_iter().collect();
    let (mut read, mut query) = (Vec::new(), "limit=4".to_owned());
    loop {
        let part = ids(&page(&app, &query).await);
        let Some(last) = part.last() else { break };
        query = format!("limit=4&before={last}");
        read.extend(part);
        pending(&app, json!({})).await; // it is newer than all that is read from here on
    }
    let once: BTreeSet<String> = read.iter().cloned().collect();
    assert_eq!((once.len(), once), (read.len(), whole));
}

#[tokio::test]
async fn a_page_that_would_be_too_large_is_refused_and_never_short() {
    let app = App::start().await;
    // Nine payloads of 1,000,000 bytes are more than 8 MiB; eight are not.
    let big = "select millrace.enqueue_many((select jsonb_agg(jsonb_build_object('queue', 'q', 'type', 'big', 'payload', repeat('x', 1000000))) from generate_series(1, 10)))";
    app.database.run(big).await;
    let refused = app.api.get(&format!("{TASKS}?limit=9")).await;
    refused.assert_gateway_invalid("limit");
    assert!(refused.gateway_refusal(400).contains("8 MiB"));
    assert_eq!(ids(&page(&app, "limit=8").await).len(), 8);
    assert_eq!(ids(&page(&app, "limit=8&offset=8").await).len(), 2);
}

#[tokio::test]
async fn a_list_that_names_no_limit_holds_what_fits_and_says_how_many() {
    let app = App::start().await;
    let big = "select millrace.enqueue_many((select jsonb_agg(jsonb_build_object('queue', 'q', 'type', 'big', 'payload', repeat('x', 1000000))) from generate_series(1, 20)))";
    app.database.run(big).await;
    let whole: Vec<String> = (1..=20).rev().map(|id| id.to_string()).collect();
    let mut read = Vec::new();
    let mut sizes = Vec::new();
    while read.len() < whole.len() {
        let part = page(&app, &format!("offset={}", read.len())).await;
        let found = ids(&part);
        // At the end of the list it is the usual limit again.
        let limit = if found.len() < 8 { 50 } else { found.len() };
        assert_eq!(
            (&part["total"], &part["limit"], &part["offset"]),
            (&json!(20), &json!(limit), &json!(read.len()))
        );
        sizes.push(found.len());
        read.extend(found);
    }
    assert_eq!((read, sizes), (whole, vec![8, 8, 4]));
    let query = json!({ "query": "{ tasks { tasks { id payload } total limit } }" });
    let answer = app.api.post("/graphql", &query).await.text;
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let list = &answer["data"]["tasks"];
    assert_eq!(
        (&list["total"], &list["limit"]),
        (&json!(20), &json!(8)),
        "{}",
        answer["errors"]
    );
}
