//! Jobs that take the instance with them: a panic, memory without end, a loop without end, and the host that goes away.

use std::time::{Duration, Instant};

use millrace::serve::Limits;
use millrace_tests::channel::fate;
use millrace_tests::database::Database;
use millrace_tests::deadline::eventually;
use serde_json::{Value, json};

use super::Drain;

/// Runs until the queue is empty, whatever ends the runs; after each, the clock moves past the leases and the retries. Answers how many there were.
async fn run_dry(drain: &Drain) -> u32 {
    for run in 1..100 {
        drain.post().await;
        drain
            .database()
            .set_clock_ahead(f64::from(run) * 60.0)
            .await;
        let left =
            "select (select count(*) from millrace.ready) + (select count(*) from millrace.lease)";
        if drain.count(left).await == 0 {
            return run;
        }
    }
    panic!("100 runs were not enough");
}

/// The most attempts that a job which did no harm has lost.
async fn lost_by_a_neighbour(drain: &Drain, poison: &[i64]) -> i64 {
    let sql = "select coalesce(max(n), 0) from (select count(*) as n from millrace.attempt a
                 where a.outcome = 'lease_expired' and a.job_id <> all ($1) group by a.job_id) as lost";
    drain.database().one(sql, &[&poison]).await.get(0)
}

/// How many attempts were lost in the run that lost this job's second or a later attempt, at most.
async fn lost_beside_a_repeated_loss(drain: &Drain) -> i64 {
    drain
        .count(
            "select coalesce(max(n), 0) from (
               select (select count(*) from millrace.attempt b where b.worker = a.worker and b.outcome = 'lease_expired') as n
                 from millrace.attempt a where a.outcome = 'lease_expired' and a.attempt > 1) as lost",
        )
        .await
}

async fn assert_died_alone(drain: &Drain, poison: &[i64]) {
    for job in poison {
        let fate = fate(drain.database(), *job).await;
        assert_eq!(
            (fate.state.as_str(), fate.code.as_str(), fate.attempts),
            ("dead", "lease_expired", 3)
        );
    }
    assert_eq!(
        lost_beside_a_repeated_loss(drain).await,
        1,
        "whose attempt was lost is claimed alone"
    );
}

#[tokio::test]
async fn poison_walks_to_the_dead_letters_and_costs_a_neighbour_one_attempt_at_most() {
    let drain = Drain::start(&[]).await;
    let mut poison = Vec::new();
    for index in 0..200 {
        let payload = match index {
            20 | 120 => json!({ "do": "panic" }),
            121 => json!({ "do": "allocate" }),
            _ => json!({ "do": "sleep", "ms": 20 }),
        };
        let job = drain.enqueue(payload.clone()).await;
        if payload["do"] != "sleep" {
            poison.push(job);
        }
    }
    let runs = run_dry(&drain).await;
    assert_died_alone(&drain, &poison).await;
    let lost = lost_by_a_neighbour(&drain, &poison).await;
    assert_eq!(
        lost, 1,
        "some were in hand beside it, and none of them twice"
    );
    let done = drain
        .count("select count(*) from millrace.finished where outcome = 'succeeded'")
        .await;
    assert_eq!(done, 197);
    let attempts = drain.count("select count(*) from millrace.attempt").await;
    let lost = drain
        .count("select count(*) from millrace.attempt where outcome = 'lease_expired'")
        .await;
    println!(
        "200 jobs, 3 of them poison: {runs} runs, {attempts} attempts, {lost} lost, {done} done, 3 dead"
    );
    drain.database().assert_no_job_misplaced().await;
}

#[tokio::test]
async fn a_job_that_loops_for_ever_is_ended_by_the_host() {
    let database = Database::fresh().await;
    database.run("select millrace.configure_queue('channel', backoff => 'fixed', backoff_base => '20 seconds', backoff_jitter => false, max_attempts => 3)").await;
    let limits = Limits {
        request_timeout: Duration::from_secs(2),
        ..Limits::default()
    };
    let drain = Drain::over(
        database,
        &[("run_seconds", "4"), ("job_seconds", "1")],
        limits,
    )
    .await;
    let spin = drain.enqueue(json!({ "do": "spin" })).await;
    for _ in 0..20 {
        drain.enqueue(json!({ "do": "sleep", "ms": 1 })).await;
    }
    let start = Instant::now();
    let runs = run_dry(&drain).await;
    assert_died_alone(&drain, &[spin]).await;
    assert!(lost_by_a_neighbour(&drain, &[spin]).await <= 1);
    assert_eq!(
        drain.count("select count(*) from millrace.finished").await,
        20
    );
    println!(
        "a loop was ended 3 times in {runs} runs, {:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn what_a_host_that_goes_away_had_in_hand_is_done_by_the_next() {
    let drain = Drain::start(&[]).await;
    for _ in 0..30 {
        drain.enqueue(json!({ "do": "sleep", "ms": 400 })).await;
    }
    drain.post_async().await;
    eventually("a first batch is done and a second in hand", async || {
        let (done, held) = (
            "select count(*) from millrace.finished",
            "select count(*) from millrace.lease",
        );
        (drain.count(done).await >= 10 && drain.count(held).await > 0).then_some(())
    })
    .await;
    let Drain { app, _manifest } = drain;
    let database = app.cut_off();
    database.set_clock_ahead(100.0).await;
    let drain = Drain::over(database, &[], Limits::default()).await;
    let runs = run_dry(&drain).await;
    assert_eq!(
        drain.count("select count(*) from millrace.finished").await,
        30
    );
    let lost = drain
        .count("select count(*) from millrace.attempt where outcome = 'lease_expired'")
        .await;
    assert!((1..=10).contains(&lost), "{lost}");
    assert_eq!(lost_by_a_neighbour(&drain, &[]).await, 1);
    println!("a host went away with {lost} jobs in hand; {runs} runs later all 30 are done");
}

#[tokio::test]
async fn a_job_alone_waits_until_nothing_else_is_in_hand() {
    let drain = Drain::start(&[("concurrency", "3")]).await;
    let lost = drain.enqueue(json!({ "do": "sleep", "ms": 100 })).await;
    drain
        .database()
        .run("select from millrace.claim('channel', 'a worker that crashes')")
        .await;
    drain.database().set_clock_ahead(100.0).await;
    drain.run().await;
    drain.database().set_clock_ahead(200.0).await;
    for _ in 0..9 {
        drain.enqueue(json!({ "do": "sleep", "ms": 100 })).await;
    }
    assert_eq!(drain.run().await["done"], 10);
    // When it was reported nobody else's attempt was under way: theirs were reported before it began, or claimed after it ended.
    let overlaps = "select count(*) from millrace.attempt a, millrace.attempt b
                     where a.job_id = $1 and a.attempt = 2 and b.job_id <> $1
                       and b.started_at < a.finished_at - interval '60 ms' and b.finished_at > a.finished_at - interval '60 ms'";
    let overlaps: i64 = drain.database().one(overlaps, &[&lost]).await.get(0);
    assert_eq!(overlaps, 0);
    let summary: Value = drain.run().await;
    assert_eq!(summary["claimed"], 0);
}
