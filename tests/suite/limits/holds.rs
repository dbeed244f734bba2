//! Holds of a queue and of a key.

use millrace_tests::database::Database;
use millrace_tests::queue::{self, Outcome};
use serde_json::{Value, json};

/// A queue with two jobs each of the keys a and b and of none, at a stopped clock.
async fn keyed() -> Database {
    let database = Database::fresh().await;
    database.stop_clock_at("2030-01-07 12:00:00+00").await;
    let jobs: Vec<_> = ["a", "b", "a", "b"]
        .iter()
        .map(|key| json!({ "queue": "q", "type": "t", "limit_key": key }))
        .collect();
    queue::enqueue_many(database.client(), &json!(jobs))
        .await
        .expect("an enqueue");
    queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    database
}

async fn claimed(database: &Database) -> Vec<i64> {
    let claimed = queue::claim(database.client(), "q", "w", 10).await;
    let jobs = claimed.iter().map(|c| c.job_id).collect();
    for lease in &claimed {
        queue::report(database.client(), lease, Outcome::Succeeded)
            .await
            .expect("a report");
    }
    jobs
}

#[tokio::test]
async fn nothing_of_a_held_queue_starts_before_the_instant() {
    let database = keyed().await;
    database
        .run("select millrace.hold('q', until => '2030-01-07 12:00:30+00')")
        .await;
    assert_eq!(claimed(&database).await, [0; 0]);
    let until: Option<String> = database
        .one("select to_char(held_until at time zone 'UTC', 'HH24:MI:SS') from millrace.queue_limits('q')", &[])
        .await
        .get(0);
    assert_eq!(until.as_deref(), Some("12:00:30"));
    database.stop_clock_at("2030-01-07 12:00:29.999+00").await;
    assert_eq!(claimed(&database).await, [0; 0]);
    database.stop_clock_at("2030-01-07 12:00:30+00").await;
    assert_eq!(claimed(&database).await.len(), 5);
}

#[tokio::test]
async fn a_queues_hold_is_lifted() {
    let database = keyed().await;
    database
        .run("select millrace.hold('q', until => '2031-01-01'); select millrace.hold('q')")
        .await;
    assert_eq!(claimed(&database).await.len(), 5);
}

#[tokio::test]
async fn a_held_key_waits_and_the_others_go_on() {
    let database = keyed().await;
    database
        .run("select millrace.hold('q', 'a', '2030-01-07 12:00:30+00')")
        .await;
    assert_eq!(claimed(&database).await.len(), 3);
    database.stop_clock_at("2030-01-07 12:00:29+00").await;
    assert_eq!(claimed(&database).await, [0; 0]);
    database
        .run("select millrace.hold('q', 'a', '2030-01-07 12:00:40+00')")
        .await;
    database.stop_clock_at("2030-01-07 12:00:30+00").await;
    assert_eq!(
        claimed(&database).await,
        [0; 0],
        "it was held longer meanwhile"
    );
    database.stop_clock_at("2030-01-07 12:00:40+00").await;
    assert_eq!(claimed(&database).await.len(), 2);
}

#[tokio::test]
async fn a_keys_hold_that_is_lifted_or_shortened_counts_at_once() {
    for (until, at) in [
        ("null", "12:00:01"),
        ("'2030-01-07 12:00:05+00'", "12:00:05"),
    ] {
        let database = keyed().await;
        database
            .run("select millrace.hold('q', 'a', '2030-01-07 18:00:00+00')")
            .await;
        assert_eq!(claimed(&database).await.len(), 3);
        database.stop_clock_at("2030-01-07 12:00:01+00").await;
        database
            .run(&format!("select millrace.hold('q', 'a', {until})"))
            .await;
        database.stop_clock_at(&format!("2030-01-07 {at}+00")).await;
        assert_eq!(claimed(&database).await.len(), 2, "until {until}");
    }
}

#[tokio::test]
async fn a_held_key_is_seen_and_an_idle_one_is_forgotten() {
    let database = keyed().await;
    database
        .run("select millrace.hold('q', 'a', '2030-01-07 12:00:30+00')")
        .await;
    assert_eq!(claimed(&database).await.len(), 3);
    let keys = async || -> (i64, i64) {
        let row = database
            .one("select (select count(*) from millrace.key_limits('q')), (select count(*) from millrace.limited_key)", &[])
            .await;
        (row.get(0), row.get(1))
    };
    assert_eq!(
        keys().await,
        (1, 2),
        "a is held, of b there is nothing to say"
    );
    database.run("select millrace.housekeep()").await;
    assert_eq!(keys().await, (1, 1));
    database.stop_clock_at("2030-01-07 12:01:00+00").await;
    database.run("select millrace.housekeep()").await;
    assert_eq!(keys().await, (0, 0));
    assert_eq!(claimed(&database).await.len(), 2);
}

/// What a drain is told that claims from `q`: how many jobs it got, and when there may be more.
async fn drained(database: &Database) -> (usize, Value) {
    let sql = "select millrace_api.channel_claim('{\"queue\": \"q\", \"workerId\": \"w\", \"limit\": 10, \"leaseSeconds\": 60}')";
    let answer: Value = database.one(sql, &[]).await.get(0);
    let jobs = answer["jobs"].as_array().expect("jobs").len();
    (jobs, answer["dueInMs"].clone())
}

#[tokio::test]
async fn a_drain_is_told_when_a_hold_ends_or_a_token_comes_back() {
    let database = keyed().await;
    let due = async || -> Value {
        let sql = "select millrace_api.due_channels('{}') -> 'channels'";
        database.one(sql, &[]).await.get(0)
    };
    database
        .run("select millrace.hold('q', until => '2030-01-07 12:00:30+00')")
        .await;
    assert_eq!(drained(&database).await, (0, json!(30_000)));
    assert_eq!(due().await, json!([]));
    database
        .run("select millrace.hold('q'); select millrace.configure_queue('q', rate_limit => 2, rate_interval => '3 seconds')")
        .await;
    assert_eq!(drained(&database).await, (2, json!(3_000)));
    assert_eq!(due().await, json!([]), "not within a run's patience");
    database.stop_clock_at("2030-01-07 12:00:02.2+00").await;
    assert_eq!(drained(&database).await, (0, json!(800)));
    assert_eq!(due().await, json!(["q"]));
    database.stop_clock_at("2030-01-07 12:00:03+00").await;
    assert_eq!(drained(&database).await, (2, json!(3_000)));
}
