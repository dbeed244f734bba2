//! When a failed job is due again, to the microsecond on the database's clock, which stands still here.

use millrace_tests::database::Database;
use millrace_tests::queue::{self, Claimed, Outcome, claim_one};
use serde_json::json;

async fn fresh(settings: &str) -> Database {
    let database = Database::fresh().await;
    database.stop_clock_at("2030-01-07 12:00:00+00").await;
    database
        .run(&format!(
            "select millrace.configure_queue('q', max_attempts => 1000{settings})"
        ))
        .await;
    queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    database
}

/// Fails the attempt; returns the seconds until the next, and moves the clock there.
async fn fail(database: &Database, lease: &Claimed, outcome: Outcome) -> f64 {
    queue::report(database.client(), lease, outcome)
        .await
        .expect("a report");
    let sql = "select extract(epoch from run_at - millrace.clock())::float8, run_at::text from millrace.ready where job_id = $1";
    let row = database.one(sql, &[&lease.job_id]).await;
    database.stop_clock_at(row.get(1)).await;
    row.get(0)
}

/// The delays after so many failures in a row. Just before each retry is due there is nothing to claim.
async fn delays(database: &Database, failures: usize) -> Vec<f64> {
    let mut delays = Vec::new();
    for _ in 0..failures {
        let lease = claim_one(database.client(), "q", "w").await;
        delays.push(fail(database, &lease, Outcome::Failed).await);
    }
    delays
}

#[tokio::test]
async fn without_jitter_the_delay_doubles_up_to_the_cap() {
    let database = fresh(", backoff_jitter => false").await;
    let expected = [
        30.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 3600.0, 3600.0,
    ];
    assert_eq!(
        delays(&database, 9).await,
        expected,
        "the defaults: from 30 seconds up to an hour"
    );

    let database = fresh(
        ", backoff_jitter => false, backoff_base => '1.5 seconds', backoff_cap => '10 seconds'",
    )
    .await;
    assert_eq!(delays(&database, 5).await, [1.5, 3.0, 6.0, 10.0, 10.0]);

    let database =
        fresh(", backoff_jitter => false, backoff_base => '1 minute', backoff_cap => '10 seconds'")
            .await;
    assert_eq!(
        delays(&database, 2).await,
        [10.0, 10.0],
        "a cap below the base"
    );
}

#[tokio::test]
async fn a_retry_is_claimable_at_its_instant_and_not_before() {
    let database = fresh(", backoff_jitter => false").await;
    let lease = claim_one(database.client(), "q", "w").await;
    queue::report(database.client(), &lease, Outcome::Failed)
        .await
        .expect("a report");
    database
        .stop_clock_at("2030-01-07 12:00:29.999999+00")
        .await;
    assert_eq!(queue::claim(database.client(), "q", "w", 1).await, []);
    database.stop_clock_at("2030-01-07 12:00:30+00").await;
    assert_eq!(claim_one(database.client(), "q", "w").await.attempt, 2);
}

#[tokio::test]
async fn a_great_many_attempts_overflow_nothing() {
    let database =
        fresh(", backoff_jitter => false, backoff_base => '365 days', backoff_cap => '365 days'")
            .await;
    let lease = claim_one(database.client(), "q", "w").await;
    database
        .run("update millrace.lease set attempt = 998")
        .await;
    assert_eq!(
        fail(&database, &lease, Outcome::Failed).await,
        365.0 * 86_400.0
    );
}

#[tokio::test]
async fn a_fixed_delay_stays_the_same() {
    let database =
        fresh(", backoff => 'fixed', backoff_base => '7 seconds', backoff_jitter => false").await;
    assert_eq!(delays(&database, 4).await, [7.0; 4]);
    let database = fresh(", backoff_base => '0', backoff_jitter => false").await;
    assert_eq!(delays(&database, 3).await, [0.0; 3], "due again at once");
}

#[tokio::test]
async fn full_jitter_draws_from_nothing_up_to_the_delay() {
    let database = fresh(", backoff => 'fixed', backoff_base => '100 seconds'").await;
    let delays = delays(&database, 100).await;
    assert!(
        delays.iter().all(|delay| (0.0..=100.0).contains(delay)),
        "{delays:?}"
    );
    let mean = delays.iter().sum::<f64>() / 100.0;
    assert!(
        (30.0..70.0).contains(&mean),
        "a mean of {mean} s: not drawn evenly"
    );
    let (least, most) = delays
        .iter()
        .fold((100.0_f64, 0.0_f64), |(l, m), d| (l.min(*d), m.max(*d)));
    assert!(least < 20.0 && most > 80.0, "from {least} to {most} s");
    println!(
        "backoff: 100 delays of at most 100 s drawn from {least:.1} to {most:.1} s, mean {mean:.1} s"
    );
}

#[tokio::test]
async fn a_handlers_own_delay_is_taken_as_it_is() {
    let database = fresh("").await; // jitter is on: it does not touch this
    let lease = claim_one(database.client(), "q", "w").await;
    assert_eq!(
        fail(&database, &lease, Outcome::RetryAfter(86_400.5)).await,
        86_400.5,
        "beyond the cap, too"
    );
    let lease = claim_one(database.client(), "q", "w").await;
    assert_eq!(fail(&database, &lease, Outcome::RetryAfter(0.0)).await, 0.0);
}

#[tokio::test]
async fn never_again_means_dead_at_once() {
    let database = fresh("").await;
    let lease = claim_one(database.client(), "q", "w").await;
    queue::report(database.client(), &lease, Outcome::Permanent)
        .await
        .expect("a report");
    assert_eq!(
        queue::state(database.client(), lease.job_id)
            .await
            .as_deref(),
        Some("dead")
    );
    assert_eq!(
        queue::events(database.client(), lease.job_id).await,
        ["queued", "started", "dead_lettered"]
    );
}

#[tokio::test]
async fn settings_changed_later_hold_for_jobs_enqueued_before() {
    let database = fresh(", backoff_jitter => false").await;
    assert_eq!(delays(&database, 1).await, [30.0]);
    database
        .run(
            "select millrace.configure_queue('q', backoff => 'fixed', backoff_base => '5 seconds')",
        )
        .await;
    assert_eq!(delays(&database, 1).await, [5.0]);
    database
        .run("select millrace.configure_queue('q', max_attempts => 3)")
        .await;
    let lease = claim_one(database.client(), "q", "w").await;
    assert_eq!((lease.attempt, lease.max_attempts), (3, 3));
    queue::report(database.client(), &lease, Outcome::RetryAfter(1.0))
        .await
        .expect("a report");
    assert_eq!(
        queue::state(database.client(), lease.job_id)
            .await
            .as_deref(),
        Some("dead"),
        "not even with a delay of its own"
    );
}

#[tokio::test]
async fn a_jobs_own_limit_comes_before_the_queues() {
    let database = fresh(", backoff_base => '0'").await;
    let job = queue::enqueue(
        database.client(),
        json!({ "queue": "q", "type": "own", "priority": 9, "max_attempts": 2 }),
    )
    .await;
    for attempt in 1..=2 {
        let lease = claim_one(database.client(), "q", "w").await;
        assert_eq!(
            (lease.job_id, lease.attempt, lease.max_attempts),
            (job, attempt, 2)
        );
        queue::report(database.client(), &lease, Outcome::Failed)
            .await
            .expect("a report");
    }
    assert_eq!(
        queue::state(database.client(), job).await.as_deref(),
        Some("dead")
    );
}
