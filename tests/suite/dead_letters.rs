//! `GET /functions/v1/dlq-list` and `POST /functions/v1/dlq-retry`: which dead letters there are, and trying their jobs again.

use millrace_tests::app::App;
use millrace_tests::database::Database;
use millrace_tests::queue::untrue_counts;
use millrace_tests::scope::assert_scope;
use reqwest::Method;
use serde_json::{Value, json};

const LIST: &str = "/functions/v1/dlq-list";
const RETRY: &str = "/functions/v1/dlq-retry";

/// Makes `jobs` dead letters of the queue, whose reasons are `r0`, `r1` and `r2` in turns, a thousand at a time.
pub async fn kill(database: &Database, queue: &str, kind: &str, jobs: i64) {
    let mut left = jobs;
    while left > 0 {
        let batch = left.min(1000);
        let enqueue = "select count(*) from millrace.enqueue_many((
                         select jsonb_agg(jsonb_build_object('queue', $1::text, 'type', $2::text, 'payload', jsonb_build_object('n', n)))
                           from generate_series(1, $3::bigint) as n))";
        database.one(enqueue, &[&queue, &kind, &batch]).await;
        let fail = "with claimed as materialized (select * from millrace.claim($1, 'w', 1000))
                    select count(*) from millrace.report_many((
                      select jsonb_agg(jsonb_build_object('job_id', c.job_id, 'lease_id', c.lease_id, 'worker', 'w', 'succeeded', false,
                                                          'permanent', true, 'error_code', 'r' || c.job_id % 3, 'error', 'it broke'))
                        from claimed c))";
        let failed: i64 = database.one(fail, &[&queue]).await.get(0);
        assert_eq!(failed, batch);
        left -= batch;
    }
}

/// All items of a list and how many pages they came on.
pub async fn listed(app: &App, query: &str) -> (Vec<Value>, usize) {
    let (mut all, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = app.api.get(&format!("{LIST}?{query}{cursor}")).await.ok();
        let items = page["items"].as_array().expect("items");
        assert_eq!(page["count"], items.len());
        all.extend(items.iter().cloned());
        pages += 1;
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (all, pages),
        }
    }
}

fn ids(items: &[Value]) -> Vec<i64> {
    items
        .iter()
        .filter_map(|item| item["id"].as_i64())
        .collect()
}

/// What `dlq-retry` answers.
pub async fn retry(app: &App, body: Value) -> Value {
    app.api.post(RETRY, &body).await.ok()
}

#[tokio::test]
async fn a_dead_letter_is_shown_and_retried_once() {
    let app = App::start().await;
    let task = json!({ "type": "t", "executorId": "q", "payload": {"n": 1.10, "nothing": null}, "priority": -3, "idempotencyKey": "i", "maxAttempts": 1 });
    let assigned = app.api.assign(task).await.ok();
    let job = app.api.claim_one("q", "w").await.expect("a job");
    app.api
        .result(json!({ "jobId": job["id"], "type": "t", "ok": false, "error": "it broke", "errorCode": "broken" }))
        .await
        .ok();

    let list = app.api.get(LIST).await.ok();
    let letter = list["items"][0].clone();
    let expected = json!({
        "items": [{
            "id": letter["id"], "job_id": assigned["jobId"], "executor_id": "q", "type": "t", "reason": "broken", "error": "it broke",
            "payload": {"n": 1.10, "nothing": null}, "created_at": letter["created_at"], "retries": 1, "retried_at": null,
            "retried_job_id": null
        }],
        "count": 1, "nextCursor": null, "ts": list["ts"]
    });
    assert_eq!(list, expected);

    let first = retry(&app, json!({ "dlqId": letter["id"] })).await;
    assert_eq!(
        first.as_object().map(serde_json::Map::len),
        Some(1),
        "{first}"
    );
    let second = app.api.post(RETRY, &json!({ "dlqId": letter["id"] })).await;
    second.assert_refused(409, "already_replayed");
    assert_eq!(
        second.json()["details"],
        first["jobId"],
        "which names the first"
    );
    let as_text = json!({ "dlqId": letter["id"].to_string() });
    app.api
        .post(RETRY, &as_text)
        .await
        .assert_refused(409, "already_replayed");
    app.api
        .post(RETRY, &json!({ "dlqId": 999 }))
        .await
        .assert_refused(404, "dead_letter_not_found");

    let list = app.api.get(LIST).await.ok();
    assert_eq!(list["items"][0]["retried_job_id"], first["jobId"]);
    assert!(list["items"][0]["retried_at"].is_string());
    let again = app.api.claim_one("q", "w").await.expect("the new job");
    assert_eq!(
        (
            &again["id"],
            &again["payload"],
            &again["priority"],
            &again["max_attempts"],
            &again["attempt"]
        ),
        (
            &first["jobId"],
            &letter["payload"],
            &json!(-3),
            &json!(1),
            &json!(1)
        )
    );

    let events = async |id: &Value| {
        let id = id.as_str().expect("an id");
        app.api
            .get(&format!("/api/collab/events/by-job/{id}"))
            .await
            .ok()["items"]
            .clone()
    };
    let old = events(&assigned["jobId"]).await;
    assert_eq!(
        (&old[3]["event_type"], &old[3]["payload"]["job_id"]),
        (&json!("replayed"), &first["jobId"])
    );
    let new = events(&first["jobId"]).await;
    assert_eq!(
        (&new[0]["event_type"], &new[0]["payload"]["replay_of"]),
        (&json!("queued"), &assigned["jobId"])
    );
    assert_eq!(untrue_counts(app.database.client()).await, [""; 0]);
}

#[tokio::test]
async fn lists_have_every_dead_letter_once_while_others_die() {
    let app = App::start().await;
    for (queue, kind, jobs) in [("a", "t1", 700), ("b", "t1", 300), ("a", "t2", 500)] {
        kill(&app.database, queue, kind, jobs).await;
    }
    retry(
        &app,
        json!({ "all": true, "executorId": "b", "limit": 120 }),
    )
    .await;
    let newest: i64 = app
        .database
        .one("select max(id) from millrace.dead_letter", &[])
        .await
        .get(0);
    let mut seen = 0;
    for (query, filter) in [
        ("limit=100", "true"),
        ("", "true"),
        ("limit=7&executorId=b", "q.name = 'b'"),
        (
            "limit=50&executorId=a&type=t2",
            "q.name = 'a' and j.type = 't2'",
        ),
        ("limit=50&type=t1", "j.type = 't1'"),
        ("limit=33&reason=r1", "d.reason = 'r1'"),
        ("limit=20&retried=true", "d.retried_at is not null"),
        (
            "limit=20&retried=false&executorId=b",
            "d.retried_at is null and q.name = 'b'",
        ),
        (
            "limit=100&retried=false&reason=r0",
            "d.retried_at is null and d.reason = 'r0'",
        ),
        ("limit=20&executorId=nobody", "false"),
    ] {
        let sql = format!(
            "select d.id from millrace.dead_letter d join millrace.job j on j.id = d.job_id join millrace.queue q on q.id = d.queue_id
              where d.id <= $1 and {filter} order by d.id desc"
        );
        let rows = app.database.all(&sql, &[&newest]).await;
        let truth: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        // One dies between two looks; it is not among the truth, and moves nothing.
        kill(&app.database, "a", "t2", 1).await;
        let (items, _) = listed(&app, query).await;
        let listed = ids(&items);
        assert!(
            listed.is_sorted_by(|a, b| a > b),
            "{query} repeats, or is out of order"
        );
        let before: Vec<_> = listed.into_iter().filter(|id| *id <= newest).collect();
        assert_eq!(before, truth, "{query}");
        seen += truth.len();
    }
    println!("dead letters: 10 filters saw {seen} of {newest}, each once");
}

#[tokio::test]
async fn times_select_who_died_when() {
    let app = App::start().await;
    for second in 1..=9 {
        app.database
            .stop_clock_at(&format!("2030-01-01 00:0{second}:00Z"))
            .await;
        kill(&app.database, "q", "t", 3).await;
    }
    for (query, count) in [
        ("from=2030-01-01T00:05:00Z", 15),
        ("to=2030-01-01T00:05:00Z", 12),
        ("from=2030-01-01T00:03:00Z&to=2030-01-01T00:05:00Z", 6),
        ("from=2030-01-01T02:05:00.000001%2B02:00", 12),
        ("from=2030-01-01T00:05:00Z&to=2030-01-01T00:05:00Z", 0),
        ("to=2000-01-01T00:00:00Z", 0),
        ("from=2040-01-01T00:00:00Z", 0),
    ] {
        let (items, _) = listed(&app, &format!("limit=5&{query}")).await;
        assert_eq!(items.len(), count, "{query}");
    }
    let batch =
        json!({ "all": true, "from": "2030-01-01T00:03:00Z", "to": "2030-01-01T00:05:00Z" });
    assert_eq!(retry(&app, batch).await["retried"], 6);
    let (items, _) = listed(
        &app,
        "retried=true&to=2030-01-01T00:05:00Z&from=2030-01-01T00:03:00Z",
    )
    .await;
    assert_eq!(items.len(), 6);
}

#[tokio::test]
async fn many_are_retried_only_by_saying_so() {
    let app = App::start().await;
    kill(&app.database, "q", "t", 5).await;
    for (body, field) in [
        (json!({}), "all"),
        (json!({ "executorId": "q" }), "all"),
        (json!({ "type": "t", "limit": 5 }), "all"),
        (json!({ "all": false, "executorId": "q" }), "all"),
        (json!({ "all": null, "executorId": "q" }), "all"),
        (json!({ "all": "true" }), "all"),
        (json!({ "all": 1 }), "all"),
        (json!({ "dlqId": 1, "all": true }), "all"),
        (json!({ "dlqId": 1, "all": false }), "all"),
        (json!({ "dlqId": 1, "executorId": "q" }), "executorId"),
        (json!({ "dlqId": null }), "dlqId"),
        // A filter that was meant to be set must not widen to everything.
        (json!({ "all": true, "executorId": null }), "executorId"),
        (json!({ "all": true, "type": null }), "type"),
        (json!({ "all": true, "reason": null }), "reason"),
        (json!({ "all": true, "from": null }), "from"),
        (json!({ "all": true, "to": null }), "to"),
        (json!({ "dlqId": 0 }), "dlqId"),
        (json!({ "dlqId": -1 }), "dlqId"),
        (json!({ "dlqId": 1.5 }), "dlqId"),
        (json!({ "dlqId": "x" }), "dlqId"),
        (json!({ "dlqId": [1] }), "dlqId"),
        (json!({ "all": true, "limit": 0 }), "limit"),
        (json!({ "all": true, "limit": 1001 }), "limit"),
        (json!({ "all": true, "cursor": "x" }), "cursor"),
        (json!({ "all": true, "executorId": "" }), "executorId"),
        (json!({ "all": true, "reason": 7 }), "reason"),
        (json!({ "all": true, "from": "yesterday" }), "from"),
        (json!({ "all": true, "retried": true }), "retried"),
        (json!({ "All": true }), "All"),
    ] {
        app.api.post(RETRY, &body).await.assert_invalid(field);
    }
    let retried: i64 = app
        .database
        .one("select count(retried_at) from millrace.dead_letter", &[])
        .await
        .get(0);
    assert_eq!(retried, 0, "no refusal may retry anything");
}

#[tokio::test]
async fn a_batch_takes_the_oldest_that_fit_and_says_whether_there_are_more() {
    let app = App::start().await;
    kill(&app.database, "a", "t1", 30).await;
    kill(&app.database, "b", "t1", 30).await;
    kill(&app.database, "a", "t2", 30).await;
    let batch = retry(&app, json!({ "all": true, "executorId": "a", "limit": 20 })).await;
    let letters: Vec<_> = batch["jobs"]
        .as_array()
        .expect("jobs")
        .iter()
        .map(|job| job["dlqId"].as_i64())
        .collect();
    assert_eq!(letters, (1..=20).map(Some).collect::<Vec<_>>());
    assert_eq!(
        (&batch["retried"], &batch["more"], &batch["nextCursor"]),
        (&json!(20), &json!(true), &json!("20"))
    );
    let batch = retry(&app, json!({ "all": true, "type": "t2", "reason": "r1" })).await;
    assert_eq!(
        (&batch["retried"], &batch["more"], &batch["nextCursor"]),
        (&json!(10), &json!(false), &Value::Null)
    );
    for job in batch["jobs"].as_array().expect("jobs") {
        let id = job["jobId"].as_str().expect("an id");
        let new = app.api.get(&format!("/api/collab/job/{id}")).await.ok();
        let old = new["job"]["replay_of"].as_str().expect("an id");
        let old = app.api.get(&format!("/api/collab/job/{old}")).await.ok();
        assert_eq!(
            (&old["job"]["replayed_as"], &old["job"]["error_code"]),
            (&json!(id), &json!("r1"))
        );
        assert_eq!(new["job"]["type"], "t2");
    }
    // 10 of a/t1, 30 of b/t1 and 20 of a/t2 are left: exactly a batch's worth, so nothing more.
    let batch = retry(&app, json!({ "all": true, "limit": 60 })).await;
    assert_eq!(
        (&batch["retried"], &batch["more"]),
        (&json!(60), &json!(false))
    );
    let none = retry(&app, json!({ "all": true })).await;
    assert_eq!(
        none,
        json!({ "retried": 0, "jobs": [], "more": false, "nextCursor": null })
    );
    assert_eq!(untrue_counts(app.database.client()).await, [""; 0]);
    app.database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn a_bad_parameter_of_a_list_is_named() {
    let app = App::start().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("cursor=null", "cursor"),
        ("cursor=", "cursor"),
        ("executorId=", "executorId"),
        ("type=%00", "type"),
        ("reason=", "reason"),
        ("from=1", "from"),
        ("to=2030-01-01T00:00:00", "to"),
        ("retried=1", "retried"),
        ("retried=", "retried"),
        ("dlqId=1", "dlqId"),
    ] {
        app.api
            .get(&format!("{LIST}?{query}"))
            .await
            .assert_invalid(field);
    }
    for (path, allowed, method) in [
        (LIST, "GET", Method::POST),
        (LIST, "GET", Method::DELETE),
        (RETRY, "POST", Method::GET),
        (RETRY, "POST", Method::PUT),
    ] {
        let answer = app.api.send(app.api.request(method, path)).await;
        answer.assert_refused(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), allowed);
    }
    app.api
        .post_text(RETRY, "{")
        .await
        .assert_refused(400, "invalid_json");
    app.api
        .post_text(RETRY, "[1]")
        .await
        .assert_refused(400, "invalid_request");
}

#[tokio::test]
async fn readers_may_list_and_operators_may_retry() {
    let app = App::start().await;
    let listing = assert_scope(&app, "read", || app.api.bare(Method::GET, LIST)).await;
    let body = json!({ "dlqId": 1 });
    let retrying = assert_scope(&app, "operate", || {
        app.api.bare(Method::POST, RETRY).json(&body)
    })
    .await;
    println!("dead letters: {listing} kinds of callers list, {retrying} retry");
}
