//! The events of a job and of a queue, read from where one left off: none lost, none twice, whoever commits when.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use millrace_tests::database::{Database, explain, refusal};
use millrace_tests::queue::{self, Outcome, claim, claim_one, crowd};
use serde_json::{Value, json};
use tokio_postgres::Client;

const WRITERS: usize = 10;
const ROUNDS: usize = 40;

/// One page of a stream.
async fn read(client: &Client, what: &str, of: &str, after: Option<&str>, limit: usize) -> Value {
    let request = json!({ what: of, "after": after, "limit": limit });
    let sql = "select millrace_api.collab_events(jsonb_strip_nulls($1))";
    let rows = client.query_one(sql, &[&request]).await;
    rows.unwrap_or_else(|e| panic!("{request}: {}", explain(&e)))
        .get(0)
}

/// The place after a queue's last event so far.
async fn end(client: &Client, queue: &str) -> String {
    let page = read(client, "executorId", queue, None, 1).await;
    page["cursor"].as_str().expect("a cursor").to_owned()
}

/// A reader that goes on from the page's end, or as if it had been cut off in the middle of the page, by turns.
struct Reader<'a> {
    client: &'a Client,
    queue: &'a str,
    cursor: String,
    seen: Vec<Value>,
    turn: usize,
}

impl Reader<'_> {
    /// Reads one page; answers whether there was anything in it.
    async fn turn(&mut self) -> bool {
        self.turn += 1;
        let limit = [1, 3, 17, 500][self.turn % 4];
        let page = read(
            self.client,
            "executorId",
            self.queue,
            Some(&self.cursor),
            limit,
        )
        .await;
        let events = page["events"].as_array().expect("events");
        let taken = match self.turn % 3 {
            0 => events.len() / 2,
            _ => events.len(),
        };
        self.seen
            .extend(events[..taken].iter().map(|e| e["event"].clone()));
        let cursor = match taken < events.len() && taken > 0 {
            true => &events[taken - 1]["cursor"],
            false if taken < events.len() => return true, // nothing of it arrived: the same place again
            false => &page["cursor"],
        };
        self.cursor = cursor.as_str().expect("a cursor").to_owned();
        !events.is_empty()
    }
}

/// Enqueues, claims and reports, in transactions that overlap and whose ids are drawn long before they commit.
async fn write(client: &Client, worker: &str) {
    let request = json!({ "queue": "q", "type": "t" });
    for n in 0..ROUNDS {
        client
            .batch_execute("begin; select pg_current_xact_id()")
            .await
            .expect("a transaction");
        queue::enqueue_many(client, &json!([request, request]))
            .await
            .expect("an enqueue");
        tokio::task::yield_now().await;
        let end = if n % 5 == 0 { "rollback" } else { "commit" };
        client.batch_execute(end).await.expect("its end");
        for lease in claim(client, "q", worker, 3).await {
            queue::report(client, &lease, Outcome::Succeeded)
                .await
                .expect("a report");
        }
    }
}

#[tokio::test]
async fn a_queue_is_read_without_loss_or_repetition_while_many_write() {
    let database = Database::fresh().await;
    let _permit = crowd(WRITERS as u32 + 2).await;
    database
        .run("select millrace.configure_queue('q'); select millrace.configure_queue('other')")
        .await;
    // One that began before all and commits after all: what others write must not wait for it, and what it writes must not be lost.
    let long = database.connect().await;
    long.batch_execute("begin; select millrace.enqueue('q', 'long')")
        .await
        .expect("a long transaction");
    let done = Arc::new(AtomicBool::new(false));
    let writers = (0..WRITERS).map(|number| {
        let database = &database;
        async move {
            let client = database.connect().await;
            write(&client, &format!("w{number}")).await;
        }
    });
    let reading = async {
        let client = database.connect().await;
        let mut reader = Reader {
            cursor: end(&client, "q").await,
            client: &client,
            queue: "q",
            seen: Vec::new(),
            turn: 0,
        };
        let mut before_the_long_one = 0;
        loop {
            let over = done.load(Ordering::Relaxed);
            let found = reader.turn().await;
            if !found && over && before_the_long_one == 0 {
                before_the_long_one = reader.seen.len();
                long.batch_execute("commit").await.expect("a commit");
            } else if !found && over {
                break;
            }
        }
        (reader.seen, before_the_long_one)
    };
    let writing = async {
        join_all(writers).await;
        done.store(true, Ordering::Relaxed);
    };
    let ((seen, before), ()) = futures::future::join(reading, writing).await;

    let rows = database
        .all("select id from millrace.job_events order by id", &[])
        .await;
    let written: BTreeSet<i64> = rows.iter().map(|row| row.get(0)).collect();
    let read: Vec<i64> = seen
        .iter()
        .map(|e| e["id"].as_i64().expect("an id"))
        .collect();
    let distinct: BTreeSet<i64> = read.iter().copied().collect();
    assert_eq!(distinct.len(), read.len(), "none is read twice");
    assert_eq!(distinct, written, "and none is lost");
    assert_eq!(before, written.len() - 1, "nobody waited for the long one");
    println!(
        "event streams: {} events of {WRITERS} writers, each read once",
        read.len()
    );
}

#[tokio::test]
async fn what_was_missed_is_caught_up_with_page_by_page() {
    let database = Database::fresh().await;
    let client = database.client();
    database
        .run("select millrace.configure_queue('q'); select millrace.enqueue('other', 't')")
        .await;
    let begin = end(client, "q").await;
    for _ in 0..30 {
        queue::enqueue_many(
            client,
            &json!(vec![json!({ "queue": "q", "type": "t" }); 40]),
        )
        .await
        .expect("an enqueue");
    }
    for page_size in [1, 7, 40, 1000] {
        let (mut cursor, mut read_ids, mut pages) = (begin.clone(), Vec::new(), 0);
        loop {
            let page = read(client, "executorId", "q", Some(&cursor), page_size).await;
            let events = page["events"].as_array().expect("events").clone();
            read_ids.extend(events.iter().filter_map(|e| e["event"]["id"].as_i64()));
            cursor = page["cursor"].as_str().expect("a cursor").to_owned();
            pages += 1;
            if events.is_empty() {
                break;
            }
        }
        assert_eq!(read_ids.len(), 1200, "{pages} pages of {page_size}");
        assert!(read_ids.is_sorted());
    }
}

#[tokio::test]
async fn a_job_is_read_from_its_beginning_to_its_end() {
    let database = Database::fresh().await;
    let client = database.client();
    queue::enqueue(client, json!({ "queue": "q", "type": "t" })).await;
    let id: uuid::Uuid = database
        .one("select millrace.job_uuid(max(id)) from millrace.job", &[])
        .await
        .get(0);
    let id = id.to_string();
    let page = read(client, "jobId", &id, None, 100).await;
    assert_eq!(
        (&page["events"][0]["event"]["event_type"], &page["ended"]),
        (&json!("queued"), &json!(false))
    );
    assert_eq!(page["events"][0]["event"]["job_id"], json!(id));

    let lease = claim_one(client, "q", "w").await;
    queue::report(client, &lease, Outcome::Permanent)
        .await
        .expect("a report");
    let first = page["cursor"].as_str().expect("a cursor");
    let short = read(client, "jobId", &id, Some(first), 1).await;
    assert_eq!(short["ended"], json!(false), "there is one more to read");
    let rest = read(client, "jobId", &id, short["cursor"].as_str(), 100).await;
    assert_eq!(
        (&rest["events"][0]["event"]["event_type"], &rest["ended"]),
        (&json!("dead_lettered"), &json!(true))
    );
    let none = read(client, "jobId", &id, rest["cursor"].as_str(), 100).await;
    assert_eq!(
        (&none["events"], &none["cursor"], &none["ended"]),
        (&json!([]), &rest["cursor"], &json!(true))
    );
}

#[tokio::test]
async fn a_place_that_is_none_is_refused() {
    let database = Database::fresh().await;
    let client = database.client();
    let job = queue::enqueue(client, json!({ "queue": "q", "type": "t" })).await;
    let sql = "select millrace_api.collab_events(jsonb_build_object('executorId', 'q', 'after', $1::text))";
    let wrong = [
        "",
        "7",
        "x",
        "1:2",
        "9:3:",
        "5:9:7,6",
        "1:1:/1:1:",
        "1:1:/1:1:/0/x",
        "1:1:1:",
        "1:1:\n",
        "99999999999:99999999999:",
        "1:1:/1:99999999999:/0/0",
        "99999999999999999999:1:",
        "1:1:/1:1:/9999999999999999999/1' or true",
    ];
    for place in wrong {
        let error = client.query_one(sql, &[&place]).await.expect_err(place);
        assert_eq!(
            refusal(&error),
            ("PT400".into(), "invalid_cursor".into()),
            "{place}"
        );
    }
    let sql = "select millrace_api.collab_events(jsonb_build_object('jobId', millrace.job_uuid($1), 'after', $2::text))";
    for place in ["", "x", "-1", "1:1:", "9999999999999999999999"] {
        let error = client
            .query_one(sql, &[&job, &place])
            .await
            .expect_err(place);
        assert_eq!(
            refusal(&error),
            ("PT400".into(), "invalid_cursor".into()),
            "{place}"
        );
    }
    let error = client
        .query_one(sql, &[&(job + 1), &"0"])
        .await
        .expect_err("no such job");
    assert_eq!(refusal(&error), ("PT404".into(), "job_not_found".into()));
}

/// All that is unread after `place`, page by page, each page of up to `limit`.
async fn read_all(client: &Client, queue: &str, place: &str, limit: usize) -> Vec<Value> {
    let (mut cursor, mut read_events) = (place.to_owned(), Vec::new());
    loop {
        let page = read(client, "executorId", queue, Some(&cursor), limit).await;
        let events = page["events"].as_array().expect("events");
        read_events.extend(events.iter().map(|e| e["event"].clone()));
        cursor = page["cursor"].as_str().expect("a cursor").to_owned();
        if events.is_empty() {
            return read_events;
        }
    }
}

#[tokio::test]
async fn a_jobs_events_keep_their_order_whichever_transaction_began_first() {
    let database = Database::fresh().await;
    let client = database.client();
    database.run("select millrace.configure_queue('q')").await;
    let begin = end(client, "q").await;
    // The claimer has its transaction's id before the jobs are there.
    let claimer = database.connect().await;
    claimer
        .batch_execute("begin; select pg_current_xact_id()")
        .await
        .expect("a transaction");
    let requests = vec![json!({ "queue": "q", "type": "t" }); 150];
    queue::enqueue_many(client, &json!(requests))
        .await
        .expect("an enqueue");
    assert_eq!(claim(&claimer, "q", "w", 150).await.len(), 150);
    claimer.batch_execute("commit").await.expect("a commit");

    let events = read_all(client, "q", &begin, 100).await;
    assert_eq!(events.len(), 300);
    let place = |kind: &str, job: &Value| {
        events
            .iter()
            .position(|e| e["event_type"] == kind && e["job_id"] == *job)
    };
    for event in &events {
        let job = &event["job_id"];
        assert!(place("queued", job) < place("started", job), "{job}");
    }
}

#[tokio::test]
async fn a_transaction_larger_than_a_group_is_read_whole() {
    let database = Database::fresh().await;
    let client = database.client();
    database.run("select millrace.enqueue('q', 't')").await;
    let begin = end(client, "q").await;
    let many = "select millrace.enqueue_many((select jsonb_agg('{\"queue\": \"q\", \"type\": \"t\"}'::jsonb) from generate_series(1, 1000)));";
    database
        .run(&format!("{many} begin; {} commit; {many}", many.repeat(6)))
        .await;
    let ids: Vec<i64> = read_all(client, "q", &begin, 300)
        .await
        .iter()
        .filter_map(|e| e["id"].as_i64())
        .collect();
    let distinct: BTreeSet<i64> = ids.iter().copied().collect();
    assert_eq!((ids.len(), distinct.len()), (8000, 8000));
}

#[tokio::test]
async fn a_place_taken_by_a_transaction_that_writes_is_before_what_it_writes_later() {
    let database = Database::fresh().await;
    let client = database.client();
    let other = database.connect().await;
    client
        .batch_execute("begin; select millrace.enqueue('q', 't')")
        .await
        .expect("a transaction");
    other
        .batch_execute("select millrace.enqueue('other', 't')")
        .await
        .expect("a transaction that ends meanwhile");
    let place = end(client, "q").await;
    assert!(read_all(client, "q", &place, 10).await.is_empty());
    client
        .batch_execute("select millrace.enqueue('q', 'later'); commit")
        .await
        .expect("a commit");
    let events = read_all(client, "q", &place, 10).await;
    assert_eq!(events.len(), 2, "{events:?}");
}

#[tokio::test]
async fn a_clock_that_steps_back_hides_no_event() {
    let database = Database::fresh().await;
    let client = database.client();
    let job = queue::enqueue(client, json!({ "queue": "q", "type": "t" })).await;
    let lease = claim_one(client, "q", "w").await;
    queue::report(client, &lease, Outcome::Succeeded)
        .await
        .expect("a report");
    database
        .run("update millrace.job_events set created_at = created_at - interval '2 seconds' where event_type <> 'queued'")
        .await;
    let sql =
        "select millrace_api.collab_events(jsonb_build_object('jobId', millrace.job_uuid($1)))";
    let page: Value = database.one(sql, &[&job]).await.get(0);
    assert_eq!(page["events"].as_array().map(Vec::len), Some(3), "{page}");
}
