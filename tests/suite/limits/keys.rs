//! Starts of a limit key's jobs in an interval.

use millrace_tests::database::Database;
use millrace_tests::queue::{self, Want};
use serde_json::json;

use super::crowd::{enqueue, run, starts, succeed};

const WORKERS: usize = 16;

#[tokio::test]
async fn every_key_keeps_its_own_limit_under_a_crowd() {
    let database = Database::fresh().await;
    database
        .run("select millrace.configure_queue('q', key_rate_limit => 10, key_rate_interval => '1 minute'),
                     millrace.configure_key('q', 'key 0', 60, '1 minute'), millrace.configure_key('q', 'key 1', 1, '2 minutes')")
        .await;
    // Six keys and none; each seventh job has none.
    enqueue(&database, 2800, |n| {
        json!({ "queue": "q", "type": "t", "priority": n % 2, "limit_key": (n % 7 < 6).then(|| format!("key {}", n % 7)) })
    })
    .await;
    let inserted = "select n_tup_ins from pg_stat_user_tables where schemaname = 'millrace' and relname = 'ready'";
    let claims = run(&database, WORKERS, 6 * 7, 60.0 / 7.0, 5, succeed).await;
    for (key, limit, seconds) in [
        ("key 0", 60, 60.0),
        ("key 1", 1, 120.0),
        ("key 2", 10, 60.0),
        ("key 3", 10, 60.0),
        ("key 4", 10, 60.0),
        ("key 5", 10, 60.0),
    ] {
        let (started, most) = starts(&database, seconds, Some(key)).await;
        println!(
            "keys: {key}, {limit} per {seconds} s: {started} started in 360 s, {most} at most within an interval"
        );
        assert!(most <= limit, "{key}: {most} started within an interval");
        #[allow(clippy::cast_possible_truncation)] // whole seconds
        let intervals = 360 / seconds as i64;
        assert!(
            started * 10 >= limit * intervals * 7,
            "{key}: only {started} started"
        );
    }
    let free: i64 = database
        .one("select count(*) from millrace.finished f join millrace.job j on j.id = f.job_id where j.limit_key is null", &[])
        .await
        .get(0);
    assert_eq!(free, 400, "jobs without a key wait for none");
    database.assert_no_job_misplaced().await;
    database.run("select pg_stat_force_next_flush()").await;
    let written: i64 = database.one(inserted, &[]).await.get(0);
    println!("keys: {WORKERS} workers, {claims} claims, {written} entries written for 2800 jobs");
}

#[tokio::test]
async fn a_line_is_served_in_order_at_the_full_rate() {
    let database = Database::fresh().await;
    database.stop_clock_at("2030-01-07 12:00:00+00").await;
    database.run("select millrace.configure_queue('q', key_rate_limit => 4, key_rate_interval => '1 minute')").await;
    let mut expected = Vec::new();
    let job = || json!({ "queue": "q", "type": "t", "limit_key": "k" });
    for _ in 0..12 {
        expected.push(queue::enqueue(database.client(), job()).await);
    }
    let mut got = Vec::new();
    for second in (0..240).step_by(5) {
        database
            .stop_clock_at(&format!(
                "2030-01-07 12:{:02}:{:02}+00",
                second / 60,
                second % 60
            ))
            .await;
        if second == 30 {
            // These come while there is a line, so they go behind it, though the claim finds them first.
            for _ in 0..4 {
                expected.push(queue::enqueue(database.client(), job()).await);
            }
        }
        let claimed = queue::claim(database.client(), "q", "w", 100).await;
        got.extend(claimed.iter().map(|c| (c.job_id, second)));
        succeed(database.client(), claimed).await;
    }
    assert_eq!(
        got.iter().map(|(job, _)| *job).collect::<Vec<_>>(),
        expected
    );
    let (_, last) = got[got.len() - 1];
    assert!(last <= 225, "16 jobs at 4 a minute took {last} s");
    println!(
        "keys: 16 jobs at 4 a minute started at {:?} s",
        got.iter().map(|(_, second)| second).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_limit_that_changes_counts_at_once_for_those_in_line() {
    let database = Database::fresh().await;
    database.stop_clock_at("2030-01-07 12:00:00+00").await;
    database.run("select millrace.configure_queue('q', key_rate_limit => 1, key_rate_interval => '1 day')").await;
    enqueue(
        &database,
        20,
        |n| json!({ "queue": "q", "type": "t", "limit_key": format!("k{}", n % 2) }),
    )
    .await;
    let claim = async || queue::claim(database.client(), "q", "w", 100).await.len();
    assert_eq!(claim().await, 2);
    database
        .run("select millrace.configure_key('q', 'k0', 4, '1 day')")
        .await;
    assert_eq!(claim().await, 3, "k0 has three more");
    database
        .run("select millrace.configure_queue('q', key_rate_limit => 2)")
        .await;
    assert_eq!(claim().await, 1, "k1 has one more, k0 a limit of its own");
    database
        .run("select millrace.configure_key('q', 'k0')")
        .await;
    assert_eq!(claim().await, 0, "k0 is over the queue's limit");
    database
        .run("select millrace.configure_queue('q', key_rate_limit => 0)")
        .await;
    assert_eq!(claim().await, 14, "0 lifts the limit");
    assert_eq!(claim().await, 0);
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn a_key_is_counted_over_all_types_and_apart_in_each_queue() {
    let database = Database::fresh().await;
    for queue in ["q", "other"] {
        database.run(&format!("select millrace.configure_queue('{queue}', key_rate_limit => 2, key_rate_interval => '1 hour')")).await;
        for job_type in ["t", "u"] {
            let job = json!({ "queue": queue, "type": job_type, "limit_key": "k" });
            queue::enqueue_many(database.client(), &json!([job, job]))
                .await
                .expect("an enqueue");
        }
    }
    for (queue, job_type, expected) in [
        ("q", "t", 2),
        ("q", "u", 0),
        ("other", "u", 2),
        ("other", "t", 0),
    ] {
        let want = Want {
            job_type: Some(job_type),
            ..Want::any(queue, "w", 10)
        };
        let claimed = queue::try_claim(database.client(), want)
            .await
            .expect("a claim");
        assert_eq!(claimed.len(), expected, "{job_type} of {queue}");
    }
}

#[tokio::test]
async fn a_key_that_another_claim_has_in_hand_keeps_nobody_waiting() {
    let database = Database::fresh().await;
    database.run("select millrace.configure_queue('q', key_rate_limit => 5, key_rate_interval => '1 hour')").await;
    enqueue(
        &database,
        10,
        |n| json!({ "queue": "q", "type": "t", "limit_key": format!("k{}", n % 2) }),
    )
    .await;
    database
        .run("select millrace.hold('q', 'k0'), millrace.hold('q', 'k1')")
        .await; // makes their rows
    let slow = database.connect().await;
    slow.batch_execute("begin; select count(*) from millrace.claim('q', 'slow', 1)")
        .await
        .expect("a claim");
    database.run("set lock_timeout = '5s'").await;
    assert_eq!(
        queue::claim(database.client(), "q", "w", 10).await.len(),
        5,
        "those of the other key"
    );
    slow.batch_execute("rollback").await.expect("a rollback");
    assert_eq!(queue::claim(database.client(), "q", "w", 10).await.len(), 5);
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn replays_and_retries_keep_their_key_and_rolled_back_claims_take_no_token() {
    let database = Database::fresh().await;
    database.run("select millrace.configure_queue('q', key_rate_limit => 2, key_rate_interval => '1 hour', max_attempts => 1)").await;
    enqueue(
        &database,
        1,
        |_| json!({ "queue": "q", "type": "t", "limit_key": "k" }),
    )
    .await;
    database
        .run("begin; select count(*) from millrace.claim('q', 'w', 1); rollback")
        .await;
    for _ in 0..2 {
        let lease = queue::claim_one(database.client(), "q", "w").await;
        queue::report(database.client(), &lease, queue::Outcome::Failed)
            .await
            .expect("a report");
        database
            .run("select millrace.replay(id) from millrace.dead_letter where retried_at is null")
            .await;
    }
    assert_eq!(
        queue::claim(database.client(), "q", "w", 1).await,
        [],
        "two starts of the key, one of them a replay's"
    );
}
