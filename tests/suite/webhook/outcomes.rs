//! What an answer leads to: when the next attempt is, which redirect is followed (none), and what never goes out.

use millrace_tests::provider::{Answer, Fault, Provider, RetryAfter};
use serde_json::{Value, json};

use super::{Receiver, Sending};

/// In how many seconds a job is due.
async fn due_in(sending: &Sending, job: i64) -> f64 {
    let sql = "select extract(epoch from r.run_at - millrace.clock())::float8 from millrace.ready r where r.job_id = $1";
    sending.app.database.one(sql, &[&job]).await.get(0)
}

#[tokio::test]
async fn a_receiver_s_retry_after_counts_up_to_an_hour() {
    let sending = Sending::start().await;
    sending.register("acme").await;
    for (retry_after, seconds) in [
        (RetryAfter::Seconds(120), 120.0),
        (RetryAfter::Seconds(5), 5.0),
        (RetryAfter::Seconds(86400), 3600.0),
        (RetryAfter::Date(300), 300.0),
    ] {
        sending.receiver.plan([Fault::TooMany(retry_after)]);
        let job = sending.tell("acme", Value::Null).await;
        sending.run().await;
        let due = due_in(&sending, job).await;
        assert!(
            (seconds - 10.0..=seconds).contains(&due),
            "{retry_after:?}: due in {due} s"
        );
        assert_eq!(sending.codes(job).await, ["rate_limited"]);
    }
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_goes_nowhere() {
    let sending = Sending::start().await;
    let elsewhere = Provider::start(super::taking as Receiver).await;
    let mut asked = 0;
    for status in [300, 301, 302, 303, 304, 305, 307, 308] {
        let target = elsewhere.url.clone();
        let redirecting = Provider::start(move |_: &_, _: &mut _| {
            Answer::empty(status).with("location", format!("{target}/stolen"))
        })
        .await;
        let job = sending.enqueue(&json!({ "url": redirecting.url })).await;
        sending.run().await;
        assert_eq!(sending.codes(job).await, ["redirected"], "{status}");
        asked += redirecting.count();
    }
    assert_eq!((asked, elsewhere.count()), (8, 0));
}

#[tokio::test]
async fn what_is_no_message_is_a_dead_letter() {
    let sending = Sending::start().await;
    let url = format!("{}/", sending.receiver.url);
    let large = "x".repeat((1 << 20) + 1);
    for (payload, code) in [
        (json!({}), "invalid_payload"),
        (json!([]), "invalid_payload"),
        (json!({ "data": 1 }), "invalid_payload"),
        (json!({ "url": 1 }), "invalid_payload"),
        (json!({ "url": url, "endpoint": "acme" }), "invalid_payload"),
        (
            json!({ "url": url, "headers": { "x": "y" } }),
            "invalid_payload",
        ),
        (json!({ "url": url, "data": large }), "body_too_large"),
        (json!({ "endpoint": "nobody" }), "endpoint_not_found"),
        (json!({ "url": "ftp://127.0.0.1/" }), "address_forbidden"),
        (
            json!({ "url": url.replace("http://", "http://user:word@") }),
            "address_forbidden",
        ),
        (
            json!({ "url": format!("{url}\r\nx: y") }),
            "address_forbidden",
        ),
    ] {
        let job = sending.enqueue(&payload).await;
        sending.run().await;
        assert_eq!(sending.codes(job).await, [code], "{payload:.100}");
        assert_eq!(sending.state(job).await, "dead", "{payload:.100}");
    }
    assert_eq!(sending.receiver.count(), 0);
}
