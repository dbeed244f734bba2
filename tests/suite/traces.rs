//! A trace given at enqueue goes with the job: to the claim, into each event, and on to a replay.

use millrace_tests::app::App;
use reqwest::Method;
use serde_json::{Value, json};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// Assigns with a `traceparent` header.
async fn assign(app: &App, header: &str, body: &Value) -> Value {
    let request = app
        .api
        .request(Method::POST, "/api/collab/task.assign")
        .header("traceparent", header);
    app.api.send(request.json(body)).await.ok()
}

/// The trace that each event of the job tells of, in order.
async fn told(app: &App, job: &str) -> Vec<Option<String>> {
    let rows = app
        .database
        .all(
            "select payload ->> 'traceparent' from millrace.job_events where job_id = millrace.job_id($1::text::uuid) order by id",
            &[&job],
        )
        .await;
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn the_header_travels_to_the_claim_and_the_events() {
    let app = App::start().await;
    let task = json!({ "type": "t", "executorId": "q", "maxAttempts": 2 });
    let job = assign(&app, TRACE, &task).await["jobId"].clone();
    let id = job.as_str().expect("a job id");

    for attempt in 1..=2 {
        let claimed = app.api.claim_one("q", "w").await.expect("the job");
        assert_eq!(claimed["traceparent"], TRACE, "attempt {attempt}");
        let result = json!({ "jobId": job, "type": "t", "ok": false, "error": "no", "retryAfterSeconds": 0 });
        app.api.result(result).await.ok();
    }
    let all = vec![Some(TRACE.to_owned()); 5];
    assert_eq!(
        told(&app, id).await,
        all,
        "queued, started, retry, started, dead"
    );

    app.database
        .run("select millrace.replay(id) from millrace.dead_letter")
        .await;
    let replay = app.api.claim_one("q", "w").await.expect("the replay");
    assert_eq!(replay["traceparent"], TRACE);
    assert_eq!(told(&app, id).await.len(), 6);
}

#[tokio::test]
async fn a_job_s_own_trace_goes_before_the_request_s() {
    let app = App::start().await;
    let tasks = json!({ "tasks": [
        { "type": "own", "executorId": "q", "traceparent": OTHER },
        { "type": "none", "executorId": "q" },
    ]});
    assign(&app, TRACE, &tasks).await;
    let claim = json!({ "executorId": "q", "workerId": "w", "limit": 2 });
    let claimed = app.api.claim(claim).await.ok();
    let traces: Vec<_> = claimed["jobs"]
        .as_array()
        .expect("jobs")
        .iter()
        .map(|job| (job["type"].clone(), job["traceparent"].clone()))
        .collect();
    assert_eq!(
        traces,
        [(json!("own"), json!(OTHER)), (json!("none"), json!(TRACE))]
    );
}

#[tokio::test]
async fn a_header_that_is_none_is_ignored_and_a_field_that_is_none_refused() {
    let app = App::start().await;
    let task = json!({ "type": "t", "executorId": "q" });
    let upper = TRACE.to_uppercase();
    for header in ["", "x", &TRACE[..54], &upper, &format!("{TRACE}-x")] {
        assign(&app, header, &task).await;
        let claimed = app.api.claim_one("q", "w").await.expect("the job");
        assert!(claimed.get("traceparent").is_none(), "{header}: {claimed}");
    }
    for field in ["", "x", &upper] {
        let mut task = task.clone();
        task["traceparent"] = json!(field);
        app.api.assign(task).await.assert_invalid("traceparent");
    }
    let error = app
        .database
        .client()
        .query("select millrace.enqueue('q', 't', traceparent => 'x')", &[])
        .await
        .expect_err("SQL refuses it too");
    assert_eq!(
        millrace_tests::database::refusal(&error),
        ("PT400".into(), "invalid_request".into())
    );
}
