//! Time: attempts that hang, runs that must end, leases of what takes longer, and words that come too late.

use std::time::{Duration, Instant};

use millrace::serve::Limits;
use millrace_tests::channel::fate;
use millrace_tests::database::Database;
use millrace_tests::deadline::eventually;
use serde_json::json;

use super::Drain;

#[tokio::test]
async fn a_hang_ends_at_its_deadline_and_costs_nobody_else() {
    let drain = Drain::start(&[
        ("job_seconds", "1"),
        ("run_seconds", "4"),
        ("concurrency", "4"),
    ])
    .await;
    drain
        .database()
        .run("select millrace.configure_queue('channel', backoff_base => '1 minute')")
        .await;
    let mut hanging = Vec::new();
    for _ in 0..3 {
        hanging.push(drain.enqueue(json!({ "do": "hang" })).await);
    }
    for _ in 0..100 {
        drain.enqueue(json!({ "do": "sleep", "ms": 5 })).await;
    }
    let summary = drain.run().await;
    assert_eq!(
        (&summary["done"], &summary["late"], &summary["lost"]),
        (&json!(100), &json!(3), &json!(0))
    );
    for job in hanging {
        let fate = fate(drain.database(), job).await;
        assert_eq!(
            (fate.state.as_str(), fate.code.as_str(), fate.attempts),
            ("queued", "deadline_exceeded", 1)
        );
    }
    let attempts = drain
        .count("select count(*) from millrace.attempt where outcome = 'succeeded'")
        .await;
    println!("3 of 4 places hang, and {attempts} neighbours are done at the first attempt");
    assert_eq!(
        drain.run().await["claimed"],
        0,
        "the instance goes on serving"
    );
}

#[tokio::test]
async fn a_run_ends_in_time_when_everything_hangs() {
    let drain = Drain::start(&[
        ("job_seconds", "1"),
        ("run_seconds", "3"),
        ("concurrency", "5"),
    ])
    .await;
    drain
        .database()
        .run("select millrace.configure_queue('channel', backoff_base => '1 minute')")
        .await;
    for _ in 0..50 {
        drain.enqueue(json!({ "do": "hang" })).await;
    }
    let start = Instant::now();
    let summary = drain.run().await;
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(4), "{elapsed:?}");
    assert!(
        (5..=15).contains(&summary["late"].as_u64().unwrap_or(0)),
        "{summary}"
    );
    assert_eq!(summary["more"], true);
    assert_eq!(drain.count("select count(*) from millrace.lease").await, 0);
    println!("a run of 3 s over 50 hanging jobs took {elapsed:?}: {summary}");
}

#[tokio::test]
async fn a_handler_that_cannot_be_cancelled_holds_up_no_report() {
    let variables = [("job_seconds", "1"), ("run_seconds", "4")];
    let database = Database::fresh().await;
    let drain = Drain::with_handler("blocks", database, &variables, Limits::default()).await;
    let done = drain.enqueue(json!(1)).await;
    let blocks = drain.enqueue(json!(6_000)).await;
    let start = Instant::now();
    let summary = drain.run().await;
    let answered = start.elapsed();
    assert_eq!(
        (&summary["done"], &summary["late"]),
        (&json!(1), &json!(1)),
        "{summary}"
    );
    assert_eq!(fate(drain.database(), done).await.state, "succeeded");
    assert_eq!(
        fate(drain.database(), blocks).await.code,
        "deadline_exceeded"
    );
    assert!(answered < Duration::from_secs(5), "{answered:?}");
    // The cancellation waits for the callee, and the instance with it; then it serves again.
    drain.app.api.get("/channels/channel").await.ok();
    let served = start.elapsed();
    println!(
        "a call blocks for 6 s: the run is answered after {answered:?}, the next request after {served:?}"
    );
}

#[tokio::test]
async fn the_lease_of_a_long_job_is_extended() {
    let drain = Drain::start(&[
        ("job_seconds", "6"),
        ("run_seconds", "8"),
        ("lease_seconds", "2"),
    ])
    .await;
    let job = drain.enqueue(json!({ "do": "sleep", "ms": 4_500 })).await;
    let summary = drain.run().await;
    assert_eq!(
        (&summary["done"], &summary["refused"]),
        (&json!(1), &json!(0)),
        "the lease was 2 s"
    );
    assert_eq!(fate(drain.database(), job).await.attempts, 1);
}

#[tokio::test]
async fn a_lease_that_somebody_has_locked_is_extended_once_it_is_free() {
    let drain = Drain::start(&[
        ("job_seconds", "6"),
        ("run_seconds", "8"),
        ("lease_seconds", "2"),
    ])
    .await;
    for _ in 0..2 {
        drain.enqueue(json!({ "do": "sleep", "ms": 4_500 })).await;
    }
    let extended =
        "select count(*) from millrace.lease where expires_at > leased_at + interval '2 seconds'";
    let holder = drain.database().connect().await;
    let (summary, ()) = tokio::join!(drain.run(), async {
        eventually("both are leased", async || {
            (drain.count("select count(*) from millrace.lease").await == 2).then_some(())
        })
        .await;
        let lock = "begin; select from millrace.lease where job_id = (select min(job_id) from millrace.lease) for update";
        holder.batch_execute(lock).await.expect("the lock");
        eventually("the other is extended", async || {
            (drain.count(extended).await == 1).then_some(())
        })
        .await;
        holder.batch_execute("rollback").await.expect("its end");
    });
    assert_eq!(
        (&summary["done"], &summary["refused"], &summary["lost"]),
        (&json!(2), &json!(0), &json!(0)),
        "{summary}"
    );
}

#[tokio::test]
async fn what_a_run_says_after_its_lease_ran_out_does_not_count() {
    let drain = Drain::start(&[]).await;
    let job = drain.enqueue(json!({ "do": "sleep", "ms": 1_500 })).await;
    let (summary, ()) = tokio::join!(drain.run(), async {
        eventually("the job is leased", async || {
            (drain.count("select count(*) from millrace.lease").await == 1).then_some(())
        })
        .await;
        drain.database().set_clock_ahead(100.0).await;
    });
    assert_eq!(
        (&summary["done"], &summary["refused"]),
        (&json!(1), &json!(1)),
        "{summary}"
    );
    assert_ne!(fate_of(&drain, job).await, "succeeded");
}

async fn fate_of(drain: &Drain, job: i64) -> String {
    let state = millrace_tests::queue::state(drain.database().client(), job).await;
    state.expect("the job")
}
