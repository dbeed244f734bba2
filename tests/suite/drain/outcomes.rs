//! What a handler says, and what becomes of the job.

use std::time::{SystemTime, UNIX_EPOCH};

use millrace_tests::channel::fate;
use serde_json::{Value, json};

use super::{Drain, QUEUE};

#[tokio::test]
async fn each_verdict_becomes_what_it_says() {
    let drain = Drain::start(&[]).await;
    let mut jobs = Vec::new();
    for (payload, state, outcome, code, attempts) in [
        (json!({ "do": "done" }), "succeeded", "succeeded", "", 1),
        (json!({ "do": "retry" }), "queued", "failed", "busy", 1),
        (
            json!({ "do": "retry", "after_ms": 90_000 }),
            "queued",
            "failed",
            "busy",
            1,
        ),
        (json!({ "do": "dead" }), "dead", "failed", "gone", 1),
        (
            json!({ "do": "postpone", "ms": 45_000 }),
            "queued",
            "postponed",
            "down",
            0,
        ),
        (
            json!({ "do": "something else" }),
            "dead",
            "failed",
            "no_wish",
            1,
        ),
    ] {
        jobs.push((drain.enqueue(payload).await, state, outcome, code, attempts));
    }
    drain
        .database()
        .run("select millrace.configure_queue('channel', backoff_base => '30 seconds')")
        .await;
    let summary = drain.run().await;
    for (field, count) in [
        ("claimed", 6),
        ("done", 1),
        ("retry", 2),
        ("dead", 2),
        ("postponed", 1),
        ("late", 0),
        ("refused", 0),
        ("lost", 0),
    ] {
        assert_eq!(summary[field], count, "{field} in {summary}");
    }
    assert_eq!(summary["more"], false);
    let mut delays = Vec::new();
    for (job, state, outcome, code, attempts) in &jobs {
        let fate = fate(drain.database(), *job).await;
        assert_eq!(
            (
                fate.state.as_str(),
                fate.outcome.as_str(),
                fate.code.as_str()
            ),
            (*state, *outcome, *code)
        );
        assert_eq!(fate.attempts, *attempts, "{code}");
        delays.extend(fate.delay.map(f64::round));
    }
    assert_eq!(
        delays,
        [30.0, 90.0, 45.0],
        "the queue's backoff, the handler's delay, the postponement"
    );
    println!("{} verdicts", jobs.len());
}

/// What the handler saw of a job, which it left as the receipt's details.
async fn told(drain: &Drain, job: i64) -> Value {
    let result = fate(drain.database(), job).await.result;
    assert_eq!(result["id"], "told", "{result}");
    result["details"].clone()
}

#[tokio::test]
async fn the_handler_sees_the_job_as_the_contract_says() {
    let drain = Drain::start(&[("job_seconds", "7")]).await;
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let sql = format!(
        "select millrace.enqueue(queue => '{QUEUE}', type => 'greet', payload => '{{\"do\": \"tell\", \"n\": 12345678901234567890.10}}', traceparent => '{traceparent}', max_attempts => 9)"
    );
    let job: i64 = drain.database().one(&sql, &[]).await.get(0);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock")
        .as_millis() as u64;
    drain.run().await;
    let seen = told(&drain, job).await;
    let uuid: String = drain
        .database()
        .one("select millrace.job_uuid($1)::text", &[&job])
        .await
        .get(0);
    for (field, value) in [
        ("id", json!(uuid)),
        ("queue", json!(QUEUE)),
        ("type", json!("greet")),
        ("attempt", json!(1)),
        ("max_attempts", json!(9)),
        ("traceparent", json!(traceparent)),
        ("resumed", json!(false)),
    ] {
        assert_eq!(seen[field], value, "{field}");
    }
    let payload = seen["payload"].as_str().expect("a text");
    assert!(
        payload.contains("12345678901234567890.10"),
        "digit for digit: {payload}"
    );
    let deadline = seen["deadline"].as_u64().expect("a deadline");
    assert!(
        (now + 6_000..now + 9_000).contains(&deadline),
        "7 s from {now}: {deadline}"
    );
}

#[tokio::test]
async fn a_lost_attempt_is_told_to_the_next() {
    let drain = Drain::start(&[]).await;
    let job = drain.enqueue(json!({ "do": "tell" })).await;
    drain
        .database()
        .run("select from millrace.claim('channel', 'a worker that crashes')")
        .await;
    drain.database().set_clock_ahead(100.0).await;
    assert_eq!(
        drain.run().await["claimed"],
        0,
        "it expires, and is due 20 s later"
    );
    drain.database().set_clock_ahead(200.0).await;
    drain.run().await;
    let seen = told(&drain, job).await;
    assert_eq!(
        (&seen["resumed"], &seen["attempt"]),
        (&json!(true), &json!(2))
    );
}

#[tokio::test]
async fn what_a_handler_says_wrongly_costs_no_other_job_its_outcome() {
    let drain = Drain::start(&[]).await;
    let mut odd = Vec::new();
    for details in [
        "{".to_owned(),
        "\"\\u0000\"".to_owned(),
        "1e999999".to_owned(),
        "[".repeat(100_000),
        format!("\"{}\"", "x".repeat(65_537)),
    ] {
        odd.push(
            drain
                .enqueue(json!({ "do": "done", "id": "x", "details": details }))
                .await,
        );
    }
    let id = drain
        .enqueue(json!({ "do": "done", "id": "a␀b".repeat(1000), "details": null }))
        .await;
    let failed = drain.enqueue(json!({ "do": "retry", "after_ms": 60_000, "code": "Not A Code", "message": "é␀".repeat(5000) })).await;
    let good = drain
        .enqueue(json!({ "do": "done", "id": "g", "details": "{\"n\": 1.10}" }))
        .await;
    let summary = drain.run().await;
    assert_eq!(
        (&summary["done"], &summary["retry"], &summary["lost"]),
        (&json!(odd.len() + 2), &json!(1), &json!(0))
    );
    for job in &odd {
        let fate = fate(drain.database(), *job).await;
        assert_eq!(
            (fate.state.as_str(), fate.result),
            ("succeeded", json!({ "id": "x" }))
        );
    }
    let kept = fate(drain.database(), id).await.result;
    assert_eq!(kept["id"].as_str().map(|id| id.chars().count()), Some(500));
    assert_eq!(fate(drain.database(), good).await.result["id"], "g");
    let failed = fate(drain.database(), failed).await;
    assert_eq!(
        (failed.code.as_str(), failed.message.chars().count()),
        ("handler_failed", 2000)
    );
    println!("{} odd answers", odd.len() + 2);
}
