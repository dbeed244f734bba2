//! One run at a time: requests that come meanwhile join it, and nobody's wake-up is lost.

use std::time::{Duration, Instant};

use millrace_tests::deadline::eventually;
use serde_json::json;

use super::Drain;

const FINISHED: &str = "select count(*) from millrace.finished";
const RUNS: &str = "select count(distinct worker) from millrace.attempt";

#[tokio::test]
async fn who_prefers_it_is_answered_before_the_run() {
    let drain = Drain::start(&[]).await;
    drain.enqueue(json!({ "do": "sleep", "ms": 300 })).await;
    let answer = drain.post_async().await;
    assert_eq!(
        (answer.status, answer.header("preference-applied")),
        (202, "respond-async")
    );
    answer.assert_form();
    assert_eq!(
        drain.count(FINISHED).await,
        0,
        "it was answered before the job was done"
    );
    eventually("the job is done", async || {
        (drain.count(FINISHED).await == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn requests_during_a_run_join_it() {
    let drain = Drain::start(&[]).await;
    drain.enqueue(json!({ "do": "sleep", "ms": 1_500 })).await;
    drain.post_async().await;
    eventually("the run has its job", async || {
        (drain.count("select count(*) from millrace.lease").await == 1).then_some(())
    })
    .await;
    let start = Instant::now();
    drain.enqueue(json!({ "do": "done" })).await;
    for _ in 0..50 {
        let answer = drain.post_async().await;
        assert_eq!(
            (answer.status, &answer.json()["joined"]),
            (202, &json!(true))
        );
    }
    assert_eq!(drain.run().await["joined"], true, "who waits need not");
    eventually("the new job is done", async || {
        (drain.count(FINISHED).await == 1).then_some(())
    })
    .await;
    let elapsed = start.elapsed();
    assert!(
        elapsed < Duration::from_millis(1_400),
        "before the first one ended: {elapsed:?}"
    );
    eventually("both are done", async || {
        (drain.count(FINISHED).await == 2).then_some(())
    })
    .await;
    assert_eq!(drain.count(RUNS).await, 1);
    println!("51 requests joined one run, whose second job was done after {elapsed:?}");
}

#[tokio::test]
async fn no_wake_up_is_lost() {
    let drain = Drain::start(&[]).await;
    for round in 1..=150 {
        drain.enqueue(json!({ "do": "done" })).await;
        drain.post_async().await;
        // Some come while the last run still ends, some while there is none.
        if round % 3 == 0 {
            eventually("the job is done", async || {
                (drain.count(FINISHED).await == round).then_some(())
            })
            .await;
        }
    }
    println!("150 wake-ups, {} runs", drain.count(RUNS).await);
}

#[tokio::test]
async fn a_run_takes_more_than_one_batch_and_waits_for_what_is_due_soon() {
    let drain = Drain::start(&[("concurrency", "7")]).await;
    for _ in 0..100 {
        drain.enqueue(json!({ "do": "done" })).await;
    }
    drain.database().run("select millrace.enqueue(queue => 'channel', type => 't', payload => '{\"do\": \"done\"}', delay => interval '400 milliseconds')").await;
    let summary = drain.run().await;
    assert_eq!(
        (&summary["done"], &summary["more"]),
        (&json!(101), &json!(false))
    );
    let most = drain.count("select max(n) from (select count(*) as n from millrace.attempt group by started_at) as batch").await;
    assert_eq!(most, 7, "no more at once than may run");
}

#[tokio::test]
async fn a_limited_queue_is_drained_within_its_limit() {
    let drain = Drain::start(&[]).await;
    drain
        .database()
        .run("select millrace.configure_queue('channel', concurrency_limit => 2)")
        .await;
    for _ in 0..12 {
        drain.enqueue(json!({ "do": "sleep", "ms": 30 })).await;
    }
    let summary = drain.run().await;
    assert_eq!(summary["done"], 12, "{summary}");
    let most = drain.count("select max(n) from (select count(*) as n from millrace.attempt group by started_at) as batch").await;
    assert!(most <= 2, "{most}");
    drain
        .database()
        .run("select millrace.pause('channel')")
        .await;
    drain.enqueue(json!({ "do": "done" })).await;
    assert_eq!(drain.run().await["claimed"], 0, "nor while it is paused");
}

#[tokio::test]
async fn a_run_that_ends_by_its_time_calls_for_the_next() {
    let settings = [("run_seconds", "2"), ("job_seconds", "1")];
    let drain = Drain::start(&settings).await;
    for _ in 0..60 {
        drain.enqueue(json!({ "do": "sleep", "ms": 400 })).await;
    }
    assert_eq!(drain.run().await["more"], true);
    eventually("all jobs are done", async || {
        (drain.count(FINISHED).await == 60).then_some(())
    })
    .await;
    let runs = drain.count(RUNS).await;
    assert!(runs > 1);
    println!("one request, {runs} runs of 2 s, 60 jobs of 400 ms");
}
