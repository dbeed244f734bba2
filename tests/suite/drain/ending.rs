//! How runs go on to the last job and no further: what one job's end makes due, what waits for the next run, loops, and locks that others hold.

use std::time::{Duration, Instant};

use millrace::serve::Limits;
use millrace_tests::database::Database;
use millrace_tests::deadline::eventually;
use millrace_tests::queue;
use serde_json::json;

use super::{Drain, QUEUE};

const FINISHED: &str = "select count(*) from millrace.finished";
const RUNS: &str = "select count(distinct worker) from millrace.attempt";
const LEASES: &str = "select count(*) from millrace.lease";

async fn enqueue_with_key(drain: &Drain, milliseconds: u64) {
    let payload = json!({ "do": "sleep", "ms": milliseconds });
    let request =
        json!({ "queue": QUEUE, "type": "t", "payload": payload, "concurrency_key": "k" });
    queue::enqueue(drain.database().client(), request).await;
}

async fn finished(drain: &Drain, jobs: i64) {
    eventually("the jobs are done", async || {
        (drain.count(FINISHED).await == jobs).then_some(())
    })
    .await;
}

async fn leased(drain: &Drain, jobs: i64) {
    eventually("the jobs are leased", async || {
        (drain.count(LEASES).await == jobs).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_jobs_of_one_key_are_done_in_one_run() {
    let drain = Drain::start(&[]).await;
    for _ in 0..5 {
        enqueue_with_key(&drain, 30).await;
    }
    assert_eq!(drain.run().await["done"], 5);
    for _ in 0..5 {
        enqueue_with_key(&drain, 30).await;
    }
    drain.post_async().await;
    finished(&drain, 10).await;
    assert_eq!(drain.count(RUNS).await, 2, "one that was awaited, one not");
}

#[tokio::test]
async fn what_is_asked_for_after_the_last_claim_is_for_the_next_run() {
    let drain = Drain::start(&[("run_seconds", "4"), ("job_seconds", "3")]).await;
    drain.enqueue(json!({ "do": "sleep", "ms": 2_500 })).await;
    drain.post_async().await;
    leased(&drain, 1).await;
    // Claims end after the first second.
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    drain.enqueue(json!({ "do": "done" })).await;
    assert_eq!(drain.post_async().await.json()["joined"], true);
    finished(&drain, 2).await;
    assert_eq!(drain.count(RUNS).await, 2);
}

#[tokio::test]
async fn what_a_rate_limit_spreads_is_done_by_one_run_after_the_other() {
    let drain = Drain::start(&[("run_seconds", "2"), ("job_seconds", "1")]).await;
    let limit =
        "select millrace.configure_queue('channel', rate_limit => 2, rate_interval => '1 second')";
    drain.database().run(limit).await;
    for _ in 0..10 {
        drain.enqueue(json!({ "do": "done" })).await;
    }
    drain.post_async().await;
    finished(&drain, 10).await;
    println!(
        "10 jobs at 2 a second, one request, {} runs",
        drain.count(RUNS).await
    );
}

#[tokio::test]
async fn a_loop_in_a_run_that_nobody_waits_for_is_ended_as_well() {
    let limits = Limits {
        request_timeout: Duration::from_secs(3),
        ..Limits::default()
    };
    let settings = [("run_seconds", "2"), ("job_seconds", "1")];
    let drain = Drain::over(Database::fresh().await, &settings, limits).await;
    drain.enqueue(json!({ "do": "spin" })).await;
    let start = Instant::now();
    assert_eq!(drain.post_async().await.status, 202);
    leased(&drain, 1).await;
    eventually(
        "this thread, which the guest runs on, is idle",
        async || {
            let before = processor_ticks();
            tokio::time::sleep(Duration::from_secs(1)).await;
            (processor_ticks() - before < 5).then_some(())
        },
    )
    .await;
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_secs(3), "{elapsed:?}");
    drain.enqueue(json!({ "do": "done" })).await;
    assert_eq!(drain.run().await["done"], 1);
    println!("a loop behind a 202 was over after {elapsed:?}");
}

/// The processor's time that this thread has used, in hundredths of a second (proc(5)).
fn processor_ticks() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    let fields = fields.split_whitespace().skip(11).take(2);
    fields
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum()
}

#[tokio::test]
async fn a_lock_that_somebody_holds_makes_no_run_longer() {
    let drain = Drain::start(&[("run_seconds", "3"), ("job_seconds", "1")]).await;
    for _ in 0..12 {
        drain.enqueue(json!({ "do": "sleep", "ms": 700 })).await;
    }
    let holder = drain.database().connect().await;
    let start = Instant::now();
    let (summary, ()) = tokio::join!(drain.run(), async {
        leased(&drain, 10).await;
        let lock = "begin; lock table millrace.lease in access exclusive mode";
        holder.batch_execute(lock).await.expect("the lock");
    });
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(8), "{elapsed:?}: {summary}");
    assert_eq!(
        (&summary["done"], &summary["lost"], &summary["more"]),
        (&json!(10), &json!(10), &json!(true)),
        "{summary}"
    );
    holder.batch_execute("rollback").await.expect("its end");
    println!("a run of 3 s beside a lock took {elapsed:?}: {summary}");
}

#[tokio::test]
async fn a_slot_that_somebody_holds_keeps_no_other_outcome_waiting() {
    let drain = Drain::start(&[]).await;
    enqueue_with_key(&drain, 500).await;
    for _ in 0..5 {
        drain.enqueue(json!({ "do": "sleep", "ms": 500 })).await;
    }
    let holder = drain.database().connect().await;
    let (summary, ()) = tokio::join!(drain.run(), async {
        leased(&drain, 6).await;
        let hold = "begin; select millrace.enqueue('channel', 't', '{\"do\": \"done\"}', concurrency_key => 'k')";
        holder.batch_execute(hold).await.expect("the slot");
        finished(&drain, 5).await;
        holder.batch_execute("commit").await.expect("its end");
    });
    assert_eq!(
        (&summary["done"], &summary["lost"]),
        (&json!(7), &json!(0)),
        "{summary}"
    );
}
