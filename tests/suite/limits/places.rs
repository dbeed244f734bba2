//! Running jobs, per queue and per concurrency key, under a crowd whose workers crash.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use millrace_tests::database::Database;
use millrace_tests::queue::{self, Claimed, Outcome, claim_one};
use serde_json::{Value, json};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::crowd::{enqueue, run, succeed};

const WORKERS: usize = 16;

/// A worker that looks at what is running, and leaves every fifth batch that it gets behind as if it had crashed.
struct Watched {
    sample: &'static str,
    most: AtomicI64,
    samples: AtomicUsize,
    batches: AtomicUsize,
}

impl Watched {
    fn new(sample: &'static str) -> Self {
        Self {
            sample,
            most: AtomicI64::new(0),
            samples: AtomicUsize::new(0),
            batches: AtomicUsize::new(0),
        }
    }

    async fn work(&self, client: &Client, claimed: Vec<Claimed>) {
        let running: i64 = client
            .query_one(self.sample, &[])
            .await
            .expect("a count")
            .get(0);
        self.most.fetch_max(running, Ordering::Relaxed);
        self.samples.fetch_add(1, Ordering::Relaxed);
        if !claimed.is_empty() && self.batches.fetch_add(1, Ordering::Relaxed) % 5 != 4 {
            succeed(client, claimed).await;
        }
    }
}

/// The most jobs that a crowd has running under a limit of 12.
async fn most_of_a_crowd(database: &Database) -> i64 {
    database
        .run("select millrace.configure_queue('q', concurrency_limit => 12, max_attempts => 99, backoff_base => '0', lease => '10 seconds')")
        .await;
    enqueue(
        database,
        1500,
        |n| json!({ "queue": "q", "type": format!("t{}", n % 3), "priority": n % 2 }),
    )
    .await;
    let watched = Watched::new("select count(*) from millrace.lease");
    let claims = run(database, WORKERS, 100, 4.0, 3, async |client, claimed| {
        watched.work(client, claimed).await;
    })
    .await;
    let (most, samples) = (watched.most.into_inner(), watched.samples.into_inner());
    let done = succeeded(database).await;
    println!(
        "places: limit 12, {WORKERS} workers, {claims} claims, {done} jobs done, {samples} samples of the leases, at most {most} running"
    );
    assert!(done > 100, "only {done} jobs got done");
    most
}

/// The witness: a crowd exceeds a limit whose places are not locked.
#[tokio::test]
async fn without_locks_a_limit_is_not_kept() {
    let database = Database::fresh().await;
    database
        .rewrite_function(
            "millrace.take_places(integer,integer,integer)",
            "for update skip locked",
            "",
        )
        .await;
    assert!(
        most_of_a_crowd(&database).await > 12,
        "nobody was in anybody's way"
    );
}

async fn succeeded(database: &Database) -> i64 {
    database
        .one(
            "select count(*) from millrace.finished where outcome = 'succeeded'",
            &[],
        )
        .await
        .get(0)
}

#[tokio::test]
async fn never_more_run_than_the_queues_limit_though_workers_crash() {
    let database = Database::fresh().await;
    assert_eq!(
        most_of_a_crowd(&database).await,
        12,
        "running at once, at most"
    );
    let twice: i64 = database
        .one(
            "select count(*) - count(distinct place) from millrace.lease",
            &[],
        )
        .await
        .get(0);
    assert_eq!(twice, 0, "two jobs have the same place, or one has none");
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn as_many_of_a_key_run_at_once_as_the_queue_says_the_oldest_first() {
    let database = Database::fresh().await;
    database
        .run("select millrace.configure_queue('q', key_concurrency => 3, max_attempts => 99, backoff_base => '0', lease => '10 seconds')")
        .await;
    enqueue(
        &database,
        600,
        |n| json!({ "queue": "q", "type": "t", "concurrency_key": format!("key {}", n % 4) }),
    )
    .await;
    let watched = Watched::new(
        "select coalesce(max(n), 0) from (select count(*) as n from millrace.lease e join millrace.job j on j.id = e.job_id group by j.concurrency_key) as k",
    );
    let claims = run(&database, WORKERS, 120, 4.0, 2, async |client, claimed| {
        watched.work(client, claimed).await
    })
    .await;
    let (most, samples) = (watched.most.into_inner(), watched.samples.into_inner());
    let done = succeeded(&database).await;
    println!(
        "places: 3 of a key, {WORKERS} workers, {claims} claims, {done} jobs done, {samples} samples of the leases, at most {most} of a key running"
    );
    assert_eq!(most, 3, "of one key at once");
    let held: Option<i64> = database
        .one(
            "select max(cardinality(holders))::bigint from millrace.concurrency_slot",
            &[],
        )
        .await
        .get(0);
    assert!(held.is_none_or(|held| held <= 3));
    // A job may begin while up to two older ones of its key are still at it, but not before the first attempt of any third.
    let early: i64 = database
        .one(
            "with begun as (
               select j.id, j.concurrency_key as key, min(e.id) as first, row_number() over (partition by j.concurrency_key order by min(e.id)) as turn,
                      row_number() over (partition by j.concurrency_key order by j.id) as age
                 from millrace.job_events e join millrace.job j on j.id = e.job_id where e.event_type = 'started' group by j.id, j.concurrency_key)
             select count(*) from begun where abs(turn - age) > 2",
            &[],
        )
        .await
        .get(0);
    assert_eq!(early, 0, "jobs of a key that began out of order");
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn keys_take_up_what_a_raised_or_lowered_setting_leaves_them() {
    let database = Database::fresh().await;
    database
        .run("select millrace.configure_queue('q', key_concurrency => 2)")
        .await;
    let jobs: Vec<_> = (0..8)
        .map(|_| json!({ "queue": "q", "type": "t", "concurrency_key": "c" }))
        .collect();
    queue::enqueue_many(database.client(), &json!(jobs))
        .await
        .expect("an enqueue");
    let first = queue::claim(database.client(), "q", "w", 10).await;
    assert_eq!(first.len(), 2);
    database
        .run("select millrace.configure_queue('q', key_concurrency => 4)")
        .await;
    queue::enqueue(database.client(), jobs[0].clone()).await;
    assert_eq!(
        queue::claim(database.client(), "q", "w", 10).await,
        [],
        "no newcomer passes those that wait"
    );
    queue::report(database.client(), &first[0], Outcome::Succeeded)
        .await
        .expect("a report");
    let next = queue::claim(database.client(), "q", "w", 10).await;
    assert_eq!(
        next.len(),
        3,
        "as one ends, as many follow as there is room for"
    );
    database
        .run("select millrace.configure_queue('q', key_concurrency => 1)")
        .await;
    for lease in [&first[1], &next[0], &next[1]] {
        queue::report(database.client(), lease, Outcome::Succeeded)
            .await
            .expect("a report");
        assert_eq!(
            queue::claim(database.client(), "q", "w", 10).await,
            [],
            "others of the key still run"
        );
    }
    queue::report(database.client(), &next[2], Outcome::Succeeded)
        .await
        .expect("a report");
    assert_eq!(queue::claim(database.client(), "q", "w", 10).await.len(), 1);
}

#[tokio::test]
async fn a_claimer_that_takes_its_time_keeps_nobody_from_the_other_places() {
    let database = Database::fresh().await;
    database
        .run("select millrace.configure_queue('q', concurrency_limit => 3)")
        .await;
    enqueue(&database, 10, |_| json!({ "queue": "q", "type": "t" })).await;
    let slow = database.connect().await;
    slow.batch_execute("begin; select count(*) from millrace.claim('q', 'slow', 2)")
        .await
        .expect("a claim");
    database.run("set lock_timeout = '5s'").await;
    assert_eq!(queue::claim(database.client(), "q", "w", 10).await.len(), 1);
    slow.batch_execute("rollback").await.expect("a rollback");
    assert_eq!(queue::claim(database.client(), "q", "w", 10).await.len(), 2);
}

#[tokio::test]
async fn a_new_or_lowered_limit_counts_what_runs() {
    let database = Database::fresh().await;
    enqueue(&database, 30, |_| json!({ "queue": "q", "type": "t" })).await;
    let mut running = queue::claim(database.client(), "q", "w", 4).await;
    for (limit, room) in [(6, 2), (9, 3), (5, 0), (2, 0)] {
        database
            .run(&format!(
                "select millrace.configure_queue('q', concurrency_limit => {limit})"
            ))
            .await;
        let claimed = queue::claim(database.client(), "q", "w", 30).await;
        assert_eq!(claimed.len(), room, "under a limit of {limit}");
        running.extend(claimed);
    }
    assert_eq!(running.len(), 9);
    while let Some(lease) = running.pop() {
        queue::report(database.client(), &lease, Outcome::Succeeded)
            .await
            .expect("a report");
        let more = queue::claim(database.client(), "q", "w", 30).await;
        assert_eq!(
            more.len(),
            usize::from(running.len() < 2),
            "{} still run",
            running.len()
        );
        if running.len() < 2 {
            return;
        }
    }
}

/// An application that enqueues with a key and does not commit must not keep a drain's outcomes waiting for long.
#[tokio::test]
async fn a_channels_report_gives_up_on_a_slot_that_somebody_has_locked() {
    let database = Database::fresh().await;
    let job = json!({ "queue": "q", "type": "t", "concurrency_key": "k" });
    queue::enqueue(database.client(), job).await;
    let lease = claim_one(database.client(), "q", "w").await;
    let application = database.connect().await;
    application
        .batch_execute("begin; select millrace.enqueue('q', 't', concurrency_key => 'k')")
        .await
        .expect("an enqueue");
    let id: String = database
        .one("select millrace.job_uuid($1)::text", &[&lease.job_id])
        .await
        .get(0);
    let outcome = json!({ "id": id, "leaseId": lease.lease_id, "outcome": "done" });
    let report = json!({ "workerId": "w", "outcomes": [outcome] });
    let sql = "select millrace_api.channel_report($1)";
    let refused = (database.client().query_one(sql, &[&report]).await).expect_err("no report");
    assert_eq!(refused.code(), Some(&SqlState::LOCK_NOT_AVAILABLE));
    application.batch_execute("commit").await.expect("a commit");
    let answer: Value = database.one(sql, &[&report]).await.get(0);
    assert_eq!(answer, json!({ "refused": [] }));
}
