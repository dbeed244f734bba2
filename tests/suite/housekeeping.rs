//! Partitions made ahead of time, history that ends, and what is forgotten with it.

use std::time::{Duration, Instant};

use millrace_tests::database::Database;
use millrace_tests::queue::{self, Outcome, claim_one};
use serde_json::{Value, json};

const BEGIN: &str = "2031-03-05 12:00:00+00"; // a Wednesday, long after the partitions that the template has

async fn housekeep(database: &Database) -> Value {
    database
        .one("select millrace.housekeep()", &[])
        .await
        .get(0)
}

async fn partitions(database: &Database, table: &str) -> Vec<String> {
    let sql = "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
                where i.inhparent = ('millrace.' || $1::text)::regclass and c.relname ~ '_2031' order by 1";
    database
        .all(sql, &[&table])
        .await
        .iter()
        .map(|row| row.get(0))
        .collect()
}

async fn count(database: &Database, from: &str) -> i64 {
    database
        .one(&format!("select count(*) from millrace.{from}"), &[])
        .await
        .get(0)
}

/// A job with an idempotency key that has succeeded, and one that has died.
async fn history(database: &Database) -> (i64, i64) {
    let request = |key: &str| json!({ "queue": "q", "type": "t", "idempotency_key": key });
    let done = queue::enqueue(database.client(), request("done")).await;
    queue::report(
        database.client(),
        &claim_one(database.client(), "q", "w").await,
        Outcome::Succeeded,
    )
    .await
    .expect("a report");
    let dead = queue::enqueue(database.client(), request("dead")).await;
    queue::report(
        database.client(),
        &claim_one(database.client(), "q", "w").await,
        Outcome::Permanent,
    )
    .await
    .expect("a report");
    (done, dead)
}

#[tokio::test]
async fn partitions_are_made_ahead_and_take_rows_out_of_the_default() {
    let database = Database::fresh().await;
    database.stop_clock_at(BEGIN).await;
    history(&database).await;
    assert_eq!(
        (
            count(&database, "job_events_default").await,
            count(&database, "finished_default").await
        ),
        (6, 1)
    );
    assert_eq!(housekeep(&database).await["partitions_made"], json!(27));
    for table in ["job_events", "attempt", "finished"] {
        let names = partitions(&database, table).await;
        assert_eq!(names.len(), 9, "this week and eight more of {table}");
        assert_eq!(
            names[0],
            format!("{table}_20310303"),
            "weeks begin on Monday"
        );
        assert_eq!(count(&database, &format!("{table}_default")).await, 0);
    }
    assert_eq!(
        (
            count(&database, "job_events").await,
            count(&database, "attempt").await,
            count(&database, "finished").await
        ),
        (6, 2, 1)
    );
    assert_eq!(
        housekeep(&database).await["partitions_made"],
        json!(0),
        "running twice does no harm"
    );
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn rows_of_weeks_gone_by_leave_the_default_too() {
    let database = Database::fresh().await;
    database.stop_clock_at(BEGIN).await;
    history(&database).await;
    database.stop_clock_at("2031-03-26 12:00:00+00").await; // nobody kept house for three weeks
    housekeep(&database).await;
    assert_eq!(
        partitions(&database, "job_events").await[0],
        "job_events_20310303"
    );
    for table in ["job_events", "attempt", "finished"] {
        assert_eq!(
            count(&database, &format!("{table}_default")).await,
            0,
            "{table}"
        );
    }
}

#[tokio::test]
async fn history_ends_when_its_time_is_over_and_keys_are_free_again() {
    let database = Database::fresh().await;
    database.stop_clock_at(BEGIN).await;
    let (done, dead) = history(&database).await;
    housekeep(&database).await;
    let before = partitions(&database, "finished").await.len();

    database.stop_clock_at("2031-04-09 00:00:00+00").await; // 30 days after that week's end
    let did = housekeep(&database).await;
    assert_eq!(did["jobs_retired"], json!(1), "{did}");
    assert_eq!(queue::state(database.client(), done).await, None);
    assert_eq!(
        queue::state(database.client(), dead).await.as_deref(),
        Some("dead"),
        "dead letters are kept for longer"
    );
    assert_eq!(
        (
            count(&database, "job_events").await,
            count(&database, "attempt").await,
            count(&database, "finished").await
        ),
        (0, 0, 0)
    );
    assert!(
        !partitions(&database, "finished")
            .await
            .contains(&"finished_20310303".to_owned()),
        "{before} before"
    );
    let request = |key: &str| json!([{ "queue": "q", "type": "t", "idempotency_key": key }]);
    let again = queue::enqueue_many(database.client(), &request("done"))
        .await
        .expect("an enqueue")[0];
    assert!(
        again.1 && again.0 != done,
        "the key of a forgotten job makes a new one"
    );
    assert_eq!(
        queue::enqueue_many(database.client(), &request("dead"))
            .await
            .expect("an enqueue")[0],
        (dead, false)
    );

    database.stop_clock_at("2031-07-01 00:00:00+00").await;
    housekeep(&database).await;
    assert_eq!(queue::state(database.client(), dead).await, None);
    assert_eq!(count(&database, "dead_letter").await, 0);
    assert_eq!(
        queue::state(database.client(), again.0).await.as_deref(),
        Some("queued"),
        "what has not ended is never forgotten"
    );
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn one_call_forgets_no_more_than_it_is_told() {
    let database = Database::fresh().await;
    database.stop_clock_at(BEGIN).await;
    let jobs: Vec<_> = (0..50)
        .map(|_| json!({ "queue": "q", "type": "t" }))
        .collect();
    queue::enqueue_many(database.client(), &json!(jobs))
        .await
        .expect("an enqueue");
    let leases = queue::claim(database.client(), "q", "w", 50).await;
    let outcome = |n: usize| {
        if n < 30 {
            Outcome::Succeeded
        } else {
            Outcome::Permanent
        }
    };
    let reports: Vec<_> = leases
        .iter()
        .enumerate()
        .map(|(n, l)| outcome(n).report(l.job_id, l.lease_id, "w"))
        .collect();
    queue::report_many(database.client(), &json!(reports))
        .await
        .expect("an answer");
    housekeep(&database).await;
    database.stop_clock_at("2031-12-01 00:00:00+00").await;
    let mut forgotten = Vec::new();
    while forgotten.last() != Some(&0) {
        forgotten.push(
            database
                .one("select millrace.retire_jobs(20)", &[])
                .await
                .get::<_, i32>(0),
        );
        database.assert_no_job_misplaced().await;
    }
    assert_eq!(forgotten.iter().sum::<i32>(), 50);
    assert!(forgotten.iter().all(|jobs| *jobs <= 20), "{forgotten:?}");
    assert_eq!(count(&database, "job").await, 0);
}

#[tokio::test]
async fn workers_long_gone_are_forgotten() {
    let database = Database::fresh().await;
    database
        .run("select millrace.heartbeat('w', 'q', 'idle')")
        .await;
    database.set_clock_ahead(86_000.0).await;
    housekeep(&database).await;
    assert_eq!(count(&database, "worker").await, 1);
    database.set_clock_ahead(87_000.0).await;
    housekeep(&database).await;
    assert_eq!(count(&database, "worker").await, 0);
}

/// A backup reads every table for an hour. Housekeeping still ends leases, and waits for nobody.
#[tokio::test]
async fn a_long_reader_keeps_house_from_partitions_only() {
    let database = Database::fresh().await;
    database.stop_clock_at(BEGIN).await;
    let job = queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    claim_one(database.client(), "q", "w").await;
    let reader = database.connect().await;
    reader.batch_execute("begin; select count(*) from millrace.job_events; select count(*) from millrace.finished").await.expect("a reader");
    database.stop_clock_at("2031-03-05 13:00:00+00").await;
    let did = housekeep(&database).await;
    assert_eq!(did["leases_expired"], json!(1), "{did}");
    assert_eq!(
        queue::state(database.client(), job).await.as_deref(),
        Some("queued")
    );
    assert_eq!(partitions(&database, "job_events").await, [""; 0]);
    reader
        .batch_execute("commit")
        .await
        .expect("the reader's end");
    assert_eq!(housekeep(&database).await["partitions_made"], json!(27));
}

/// One partition is missing far ahead, and a reader has the default one that it must be cut out of.
#[tokio::test]
async fn partitions_that_are_in_use_are_made_another_time() {
    let database = Database::fresh().await;
    database.stop_clock_at(BEGIN).await;
    assert_eq!(housekeep(&database).await["partitions_made"], json!(27));
    let missing = partitions(&database, "job_events").await[8].clone();
    database
        .run(&format!("drop table millrace.{missing}"))
        .await;
    let job = queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    claim_one(database.client(), "q", "w").await;
    let reader = database.connect().await;
    reader
        .batch_execute("begin; select count(*) from millrace.job_events")
        .await
        .expect("a reader");

    database.stop_clock_at("2031-03-05 13:00:00+00").await;
    for expired in [1, 0] {
        let began = Instant::now();
        let did = housekeep(&database).await;
        assert_eq!(did["partitions"], json!("busy"), "{did}");
        assert_eq!(did["leases_expired"], json!(expired), "{did}");
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it waits for 2 s at most: {:?}",
            began.elapsed()
        );
    }
    assert_eq!(
        queue::events(database.client(), job).await[2],
        "lease_expired"
    );
    assert_eq!(partitions(&database, "job_events").await.len(), 8);

    reader
        .batch_execute("commit")
        .await
        .expect("the reader's end");
    let did = housekeep(&database).await;
    assert_eq!(did["partitions_made"], json!(1), "{did}");
    assert_eq!(partitions(&database, "job_events").await[8], missing);
}
