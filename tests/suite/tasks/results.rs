//! Results: kept and answered as they were reported, and refused where they are too large, with the limit in the words.

use millrace_tests::app::App;
use millrace_tests::database::explain;
use serde_json::{Value, json};

use super::{get, in_status};

#[tokio::test]
async fn a_result_is_answered_as_it_was_reported() {
    let app = App::start().await;
    for result in [
        json!({ "title": "Example", "nested": { "null": null, "list": [1, 2.50, "ä"] } }),
        json!([]),
        json!("text"),
        json!(0),
        json!(false),
    ] {
        let task = in_status(&app, "processing").await;
        let report = task.report(json!({ "ok": true, "result": result }));
        app.api.result(report).await.ok();
        assert_eq!(get(&app, &task.id).await["result"], result);
    }
    // A worker that says nothing leaves none.
    let task = in_status(&app, "completed").await;
    assert_eq!(get(&app, &task.id).await.get("result"), None);
}

#[tokio::test]
async fn digits_of_a_result_are_kept() {
    let app = App::start().await;
    let task = in_status(&app, "processing").await;
    let report = task.report(json!({ "ok": true, "result": "N" }));
    let number = "12345678901234567890.10";
    let text = report.to_string().replace("\"N\"", number);
    app.api
        .post_text("/api/collab/task.result", text)
        .await
        .ok();
    let answer = app.api.get(&task.path("")).await;
    assert!(
        answer.text.contains(&format!(r#""result": {number}"#)),
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn a_result_over_the_limit_of_a_body_is_refused_with_the_limit() {
    let app = App::start().await;
    let task = in_status(&app, "processing").await;
    let large = "x".repeat(1 << 20);
    let report = task.report(json!({ "ok": true, "result": large }));
    let refused = app.api.result(report).await;
    refused.assert_refused(413, "body_too_large");
    let body = refused.json();
    assert_eq!(body["error"], "the body has more than 1048576 bytes");
    assert_eq!(get(&app, &task.id).await["status"], "processing");

    // A little less goes, and comes back whole.
    let fits = "x".repeat((1 << 20) - 1000);
    let report = task.report(json!({ "ok": true, "result": fits }));
    app.api.result(report).await.ok();
    assert_eq!(get(&app, &task.id).await["result"], Value::from(fits));
}

#[tokio::test]
async fn a_result_over_the_limit_of_the_core_is_refused_with_the_limit() {
    let app = App::start().await;
    let task = in_status(&app, "processing").await;
    let (id, lease) = (
        &task.id,
        task.claimed["lease_id"].as_i64().expect("a lease"),
    );
    // The text of such a jsonb has two quotation marks more.
    let report = |length: usize| {
        format!("select millrace.report({id}, {lease}, 'w', true, to_jsonb(repeat('x', {length})))")
    };
    let client = app.database.client();
    let error = client.batch_execute(&report((2 << 20) - 1)).await;
    let error = explain(&error.expect_err("a result that is too large"));
    assert!(error.contains("result is larger than 2 MiB"), "{error}");
    assert_eq!(get(&app, id).await["status"], "processing");
    app.database.run(&report((2 << 20) - 2)).await;
    let task = get(&app, id).await;
    assert_eq!(task["status"], "completed");
    assert_eq!(
        task["result"].as_str().map(str::len),
        Some((2 << 20) - 2),
        "whole"
    );
}
