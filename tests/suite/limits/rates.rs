//! Starts of a queue's jobs in an interval.

use millrace_tests::database::{Database, refusal};
use millrace_tests::queue::{self, Outcome};
use serde_json::json;

use super::crowd::{enqueue, run, starts, succeed};

const WORKERS: usize = 16;

/// A crowd under one limit, for `intervals` intervals by the queue's clock.
async fn crowd_under(limit: i32, seconds: f64, intervals: u32, size: i32) {
    let database = Database::fresh().await;
    let (started, most) = crowd_in(&database, limit, seconds, intervals, size).await;
    assert!(
        most <= i64::from(limit),
        "{most} started within an interval"
    );
    assert!(
        started * 10 >= i64::from(limit) * i64::from(intervals) * 7,
        "only {started} started in {intervals} intervals of {limit}"
    );
    database.assert_no_job_misplaced().await;
}

/// How many jobs a crowd starts under one limit, and how many at most within an interval.
async fn crowd_in(
    database: &Database,
    limit: i32,
    seconds: f64,
    intervals: u32,
    size: i32,
) -> (i64, i64) {
    database
        .run(&format!("select millrace.configure_queue('q', rate_limit => {limit}, rate_interval => make_interval(secs => {seconds}))"))
        .await;
    let jobs = usize::try_from(limit).expect("positive") * (intervals as usize + 3);
    enqueue(
        database,
        jobs,
        |n| json!({ "queue": "q", "type": "t", "priority": n % 3 }),
    )
    .await;
    let claims = run(
        database,
        WORKERS,
        intervals * 7,
        seconds / 7.0,
        size,
        succeed,
    )
    .await;
    let (started, most) = starts(database, seconds, None).await;
    println!(
        "rates: {limit} per {seconds} s, {WORKERS} workers taking {size}, {claims} claims: {started} started in {intervals} intervals, {most} at most within one"
    );
    (started, most)
}

/// The witness: a crowd exceeds a limit whose tokens are not locked.
#[tokio::test]
async fn without_locks_a_limit_is_not_kept() {
    let database = Database::fresh().await;
    database
        .rewrite_function(
            "millrace.lock_buckets(millrace.queue,integer)",
            "for update skip locked",
            "",
        )
        .await;
    let (_, most) = crowd_in(&database, 7, 60.0, 6, 3).await;
    assert!(most > 7, "nobody was in anybody's way");
}

#[tokio::test]
async fn a_limit_of_one_an_hour_is_kept_by_a_crowd() {
    crowd_under(1, 3600.0, 4, 5).await;
}

#[tokio::test]
async fn a_limit_of_seven_a_minute_is_kept_by_a_crowd() {
    crowd_under(7, 60.0, 6, 3).await;
}

#[tokio::test]
async fn a_limit_whose_tokens_share_buckets_is_kept_by_a_crowd() {
    crowd_under(50, 60.0, 6, 2).await;
}

#[tokio::test]
async fn a_limit_whose_tokens_come_back_in_twentieths_is_kept_by_a_crowd() {
    crowd_under(1000, 100.0, 4, 10).await;
}

/// Ten jobs in a queue that may start three a minute, at a stopped clock.
async fn three_a_minute() -> Database {
    let database = Database::fresh().await;
    database.stop_clock_at("2030-01-07 12:00:00+00").await;
    database
        .run("select millrace.configure_queue('q', rate_limit => 3, rate_interval => '1 minute', max_attempts => 9, backoff_base => '0')")
        .await;
    enqueue(&database, 10, |_| json!({ "queue": "q", "type": "t" })).await;
    database
}

async fn claimed(database: &Database) -> usize {
    queue::claim(&database.connect().await, "q", "w", 10)
        .await
        .len()
}

#[tokio::test]
async fn tokens_outlive_connections_and_come_back_to_the_instant() {
    let database = three_a_minute().await;
    assert_eq!(queue::claim(database.client(), "q", "w", 2).await.len(), 2);
    database.stop_clock_at("2030-01-07 12:00:20+00").await;
    assert_eq!(claimed(&database).await, 1);
    assert_eq!(claimed(&database).await, 0);
    database
        .stop_clock_at("2030-01-07 12:00:59.999999+00")
        .await;
    assert_eq!(claimed(&database).await, 0);
    database.stop_clock_at("2030-01-07 12:01:00+00").await;
    assert_eq!(claimed(&database).await, 2);
    database.stop_clock_at("2030-01-07 12:01:20+00").await;
    assert_eq!(claimed(&database).await, 1);
    database.stop_clock_at("2030-01-07 23:00:00+00").await;
    assert_eq!(claimed(&database).await, 3, "nothing adds up meanwhile");
}

#[tokio::test]
async fn a_claim_that_is_rolled_back_or_finds_nothing_takes_no_token() {
    let database = three_a_minute().await;
    database
        .run("begin; select count(*) from millrace.claim('q', 'w', 3); rollback; select count(*) from millrace.claim('q', 'w', 3, type => 'other')")
        .await;
    assert_eq!(claimed(&database).await, 3);
}

#[tokio::test]
async fn a_start_counts_whatever_comes_of_it() {
    let database = three_a_minute().await;
    for outcome in [Outcome::Failed, Outcome::Postponed(0.0), Outcome::Permanent] {
        let lease = queue::claim_one(database.client(), "q", "w").await;
        queue::report(database.client(), &lease, outcome)
            .await
            .expect("a report");
    }
    assert_eq!(claimed(&database).await, 0);
}

#[tokio::test]
async fn a_limit_that_changes_keeps_what_was_taken() {
    let database = three_a_minute().await;
    assert_eq!(claimed(&database).await, 3);
    database
        .run("select millrace.configure_queue('q', rate_limit => 5)")
        .await;
    assert_eq!(claimed(&database).await, 2);
    database
        .run("select millrace.configure_queue('q', rate_limit => 1)")
        .await;
    assert_eq!(claimed(&database).await, 0);
    database
        .run("select millrace.configure_queue('q', rate_limit => 0)")
        .await;
    assert_eq!(claimed(&database).await, 5, "0 lifts the limit");
}

#[tokio::test]
async fn a_shorter_interval_counts_from_its_beginning() {
    let database = three_a_minute().await;
    assert_eq!(claimed(&database).await, 3);
    database
        .run("select millrace.configure_queue('q', rate_limit => 3, rate_interval => '10 seconds')")
        .await;
    assert_eq!(claimed(&database).await, 0, "three have started within it");
    database.stop_clock_at("2030-01-07 12:00:10+00").await;
    assert_eq!(claimed(&database).await, 3);
}

#[tokio::test]
async fn a_claimer_with_the_tokens_in_hand_keeps_nobody_waiting() {
    let database = three_a_minute().await;
    let slow = database.connect().await;
    slow.batch_execute("begin; select count(*) from millrace.claim('q', 'slow', 1)")
        .await
        .expect("a claim");
    database.run("set lock_timeout = '5s'").await;
    assert_eq!(
        queue::claim(database.client(), "q", "w", 10).await.len(),
        2,
        "the tokens that are left"
    );
    slow.batch_execute("rollback").await.expect("a rollback");
    assert_eq!(queue::claim(database.client(), "q", "w", 10).await.len(), 1);
}

#[tokio::test]
async fn malformed_limits_are_refused() {
    let database = Database::fresh().await;
    let wrong = [
        "configure_queue('q', rate_limit => 5)",
        "configure_queue('q', rate_interval => '1 second')",
        "configure_queue('q', rate_limit => -1, rate_interval => '1 second')",
        "configure_queue('q', rate_limit => 100001, rate_interval => '1 second')",
        "configure_queue('q', rate_limit => 5, rate_interval => '0.09 seconds')",
        "configure_queue('q', rate_limit => 5, rate_interval => '32 days')",
        "configure_queue('q', key_rate_limit => 5)",
        "configure_queue('q', key_concurrency => 0)",
        "configure_queue('q', key_concurrency => 1001)",
        "configure_queue('q', concurrency_limit => 10001)",
        "configure_key('q', ' ', 5, '1 second')",
        "configure_key('q', 'k', 5)",
        "configure_key('q', 'k', 0, '1 second')",
        "configure_key('', 'k', 5, '1 second')",
        "hold('')",
        "hold('q', repeat('x', 201), now())",
        "hold('q', until => now() + interval '11 years')",
        "enqueue('q', 't', limit_key => ' ')",
    ];
    for call in wrong {
        let error = database
            .client()
            .batch_execute(&format!("select millrace.{call}"))
            .await
            .expect_err(call);
        assert_eq!(
            refusal(&error),
            ("PT400".to_owned(), "invalid_request".to_owned()),
            "{call}"
        );
    }
    for limit in [
        "concurrency_limit => 1",
        "rate_limit => 1, rate_interval => '1 second'",
        "key_rate_limit => 1, key_rate_interval => '1 second'",
    ] {
        let database = Database::fresh().await;
        database
            .run(&format!(
                "select millrace.configure_queue('q', {limit}); select millrace.enqueue('q', 't')"
            ))
            .await;
        let strict = "begin isolation level repeatable read; select millrace.claim('q', 'w')";
        let error = database
            .client()
            .batch_execute(strict)
            .await
            .expect_err(limit);
        assert_eq!(
            refusal(&error),
            ("PT400".to_owned(), "isolation_level".to_owned()),
            "{limit}"
        );
    }
    println!("limits: {} malformed ones refused", wrong.len());
}
