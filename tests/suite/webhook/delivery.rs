//! What is sent: the request, its signatures, and the same message again where an attempt failed.

use millrace_tests::provider::{Fault, Nobody, RetryAfter, by_key};
use serde_json::{Value, json};

use super::{Sending, is_signed};

#[tokio::test]
async fn a_job_is_one_signed_request() {
    let sending = Sending::start().await;
    let secret = sending.register("acme").await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    // Numbers are as they were enqueued, digit for digit.
    let sql = "select millrace.enqueue_webhook('acme', 'invoice.paid', '{\"amount\": 10000000000000000000001.10, \"é\": \"<&>\"}', traceparent => $1)";
    let job: i64 = sending.app.database.one(sql, &[&trace]).await.get(0);
    let run = sending.run().await;
    assert_eq!(
        (&run["claimed"], &run["done"]),
        (&json!(1), &json!(1)),
        "{run}"
    );

    let seen = sending.receiver.requests();
    let [seen] = &seen[..] else {
        panic!("{seen:?}");
    };
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/hook/acme?a=b")
    );
    assert_eq!(seen.header("content-type"), "application/json");
    assert_eq!(seen.header("content-length"), seen.body.len().to_string());
    assert_eq!(seen.header("user-agent"), "millrace");
    assert_eq!(
        seen.header("host"),
        sending.receiver.url.trim_start_matches("http://")
    );
    assert_eq!(seen.header("webhook-id"), sending.uuid(job).await);
    assert_eq!(seen.header("traceparent"), trace);
    assert!(is_signed(seen, &secret));
    assert!(!is_signed(seen, "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"));
    for credentials in ["authorization", "x-api-key", "cookie"] {
        assert_eq!(seen.header(credentials), "");
    }

    let enqueued = "select to_char(enqueued_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') from millrace.job where id = $1";
    let enqueued: String = sending.app.database.one(enqueued, &[&job]).await.get(0);
    let body = seen.json();
    assert_eq!(body["type"], "invoice.paid");
    let timestamp = body["timestamp"].as_str().expect("a timestamp");
    assert!(
        enqueued.starts_with(timestamp.trim_end_matches("+00:00")),
        "{timestamp} is not {enqueued}"
    );
    assert!(
        seen.body.contains("10000000000000000000001.10"),
        "{}",
        seen.body
    );
    assert_eq!(body["data"]["é"], "<&>");
    assert_eq!(sending.state(job).await, "succeeded");
}

#[tokio::test]
async fn any_url_is_told_unsigned() {
    let sending = Sending::start().await;
    let job = sending
        .enqueue(&json!({ "url": format!("{}/x", sending.receiver.url), "data": [1] }))
        .await;
    sending.run().await;
    let seen = sending.receiver.requests();
    assert_eq!(seen[0].header("webhook-signature"), "");
    assert_eq!(seen[0].header("webhook-id"), sending.uuid(job).await);
    assert_eq!(seen[0].json()["data"], json!([1]));
}

/// Where an entry names the receiver's address, and where it is one of any host's.
#[tokio::test]
async fn an_attempt_that_failed_is_followed_by_the_same_message() {
    for (host, named) in [
        ("127.0.0.1", "http://127.0.0.1:*"),
        ("localhost", "http://127.0.0.0/8:*"),
    ] {
        fails_and_follows(host, named).await;
    }
}

async fn fails_and_follows(host: &str, named: &str) {
    let variables = [
        ("webhook_timeout_seconds", "1"),
        ("webhook_private_host", named),
    ];
    let sending = Sending::start_with(&variables).await;
    let base = sending.receiver.url.replace("127.0.0.1", host);
    let secret = sending.register_at("acme", &base).await;
    let faults = [
        (Fault::ResetBeforeReading, "broken_off"),
        (Fault::ResetBeforeActing, "broken_off"),
        (Fault::ResetAfterActing, "broken_off"),
        (Fault::NotHttp, "broken_off"),
        (
            Fault::SlowAnswer(std::time::Duration::from_secs(20)),
            "timeout",
        ),
        (Fault::ErrorBeforeActing(500), "receiver_failed"),
        (Fault::ErrorAfterActing(502), "receiver_failed"),
        (Fault::ErrorBeforeActing(404), "refused_by_receiver"),
        (Fault::TooMany(RetryAfter::Unsaid), "rate_limited"),
    ];
    let mut jobs = Vec::new();
    for (fault, _) in faults {
        sending.receiver.plan([fault]);
        jobs.push(sending.tell("acme", json!({ "n": jobs.len() })).await);
        sending.run().await;
    }
    for (job, (fault, code)) in jobs.iter().zip(faults) {
        assert_eq!(sending.codes(*job).await, [code], "{fault:?}");
        assert_eq!(sending.state(*job).await, "queued", "{fault:?}");
    }
    sending.app.database.set_clock_ahead(3600.0).await;
    sending.run().await;
    let seen = sending.receiver.requests();
    let mut sent = 0;
    for (job, (fault, code)) in jobs.iter().zip(faults) {
        assert_eq!(sending.codes(*job).await, [code, ""], "{fault:?}");
        let id = sending.uuid(*job).await;
        let of_job: Vec<_> = seen
            .iter()
            .filter(|seen| seen.header("webhook-id") == id)
            .collect();
        assert!(
            of_job
                .iter()
                .all(|seen| seen.body == of_job[0].body && is_signed(seen, &secret)),
            "{fault:?}"
        );
        sent += of_job.len();
    }
    let effects = sending.receiver.effects();
    let messages = by_key(&effects).len();
    assert_eq!(messages, jobs.len(), "each at least once, under one id");
    println!(
        "{} messages, {sent} requests read, {} taken, {messages} ids",
        jobs.len(),
        effects.len()
    );
}

#[tokio::test]
async fn nobody_there_is_tried_again() {
    let sending = Sending::start().await;
    let nobody = Nobody::new();
    let job = sending.enqueue(&json!({ "url": nobody.url })).await;
    let run = sending.run().await;
    assert_eq!(run["retry"], 1, "{run}");
    assert_eq!(sending.codes(job).await, ["unreachable"]);
}

#[tokio::test]
async fn a_large_answer_is_not_read() {
    let sending = Sending::start().await;
    sending.register("acme").await;
    sending.receiver.plan([Fault::Oversized(64 << 20)]);
    let job = sending.tell("acme", Value::Null).await;
    sending.run().await;
    assert_eq!(sending.state(job).await, "succeeded");
}
