//! Retrying and cancelling: from which status, with what effect, and what the worker of a cancelled task is told.

use millrace_tests::app::App;
use millrace_tests::database::refusal;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Made, STATUSES, claim, get, in_status, pending};

#[tokio::test]
async fn each_status_can_be_cancelled_and_retried_as_the_contract_has_it() {
    let app = App::start().await;
    for status in STATUSES {
        let task = in_status(&app, status).await;
        let answer = app.api.post(&task.path("/cancel"), &json!({})).await;
        match status {
            "pending" | "processing" | "retrying" => {
                let cancelled = answer.created();
                assert_eq!(cancelled["status"], "cancelled");
                assert_eq!(cancelled, get(&app, &task.id).await);
            }
            _ => assert_eq!(
                answer.gateway_refusal(400),
                format!(
                    "Task with status {status} cannot be cancelled. Only pending or processing tasks can be cancelled."
                )
            ),
        }
        let task = in_status(&app, status).await;
        let answer = app.api.post(&task.path("/retry"), &json!({})).await;
        match status {
            "failed" | "cancelled" => {
                let retried = answer.created();
                assert_eq!(retried["status"], "retrying");
                assert_eq!(retried, get(&app, &task.id).await);
            }
            _ => assert_eq!(
                answer.gateway_refusal(400),
                format!(
                    "Task with status {status} cannot be retried. Only failed or cancelled tasks can be retried."
                )
            ),
        }
    }
    app.database.assert_no_job_misplaced().await;
    println!(
        "{} transitions from {} statuses",
        2 * STATUSES.len(),
        STATUSES.len()
    );
}

/// Has the task's attempts fail until it has failed; returns how many that took.
async fn fail_all(app: &App, task: &mut Made) -> usize {
    let mut attempts = 0;
    while get(app, &task.id).await["status"] != "failed" {
        claim(app, task).await;
        let report = task.report(json!({ "retryAfterSeconds": 0 }));
        app.api.result(report).await.ok();
        attempts += 1;
    }
    attempts
}

/// What a retry with this body makes of a task whose three attempts were used up: the attempts that it shows, and those that it has before it.
async fn attempts_after(app: &App, body: &str) -> (i64, usize) {
    let mut task = pending(app, json!({ "maxAttempts": 3 })).await;
    assert_eq!(fail_all(app, &mut task).await, 3);
    let request = app.api.request(Method::POST, &task.path("/retry"));
    let request = match body {
        "" => request,
        body => request
            .header("content-type", "application/json")
            .body(body.to_owned()),
    };
    let retried = app.api.send(request).await.created();
    let shown = retried["attempts"].as_i64().expect("a number");
    (shown, fail_all(app, &mut task).await)
}

#[tokio::test]
async fn a_retry_gives_one_more_attempt_or_all_of_them() {
    let app = App::start().await;
    // No body, an empty object, false and null are the same: one more.
    for body in [
        "",
        "{}",
        r#"{"resetAttempts":false}"#,
        r#"{"resetAttempts":null}"#,
    ] {
        assert_eq!(attempts_after(&app, body).await, (3, 1), "{body:?}");
    }
    assert_eq!(
        attempts_after(&app, r#"{"resetAttempts":true}"#).await,
        (0, 3)
    );
}

#[tokio::test]
async fn a_failed_task_that_was_replayed_names_the_new_one() {
    let app = App::start().await;
    let task = in_status(&app, "failed").await;
    let sql = "select millrace.replay(id)::text from millrace.dead_letter where job_id = $1::text::bigint";
    let replay: String = app.database.one(sql, &[&task.id]).await.get(0);
    let answer = app.api.post(&task.path("/retry"), &json!({})).await;
    assert_eq!(
        answer.gateway_refusal(409),
        format!(
            "Task with ID {} was retried before, as task {replay}.",
            task.id
        )
    );
    assert_eq!(get(&app, &replay).await["status"], "pending");
    // Cancelling it is another matter: it has failed, and that is that.
    let answer = app.api.post(&task.path("/cancel"), &json!({})).await;
    assert!(answer.gateway_refusal(400).contains("status failed"));
}

#[tokio::test]
async fn a_body_may_be_left_out_and_must_be_an_object_otherwise() {
    let app = App::start().await;
    let task = in_status(&app, "pending").await;
    let mut tried = 0;
    for action in ["/retry", "/cancel"] {
        for (media_type, body, status) in [
            ("text/plain", "{}", 415),
            ("", "{}", 415),
            ("application/json", "[]", 400),
            ("application/json", "null", 400),
            ("application/json", "{", 400),
            ("application/json", r#"{"reset":true}"#, 400),
            ("application/json", r#"{"resetAttempts":"true"}"#, 400),
            ("application/json", r#"{"resetAttempts":1}"#, 400),
        ] {
            let request = app.api.request(Method::POST, &task.path(action));
            let request = match media_type {
                "" => request.body(body),
                media_type => request.header("content-type", media_type).body(body),
            };
            app.api.send(request).await.gateway_refusal(status);
            tried += 1;
        }
    }
    assert_eq!(get(&app, &task.id).await["status"], "pending");
    // A media type without a body says nothing.
    let request = app.api.request(Method::POST, &task.path("/cancel"));
    let request = request.header("content-type", "text/plain");
    assert_eq!(app.api.send(request).await.created()["status"], "cancelled");
    println!("{tried} bodies refused");
}

/// What a worker that holds a lease is told by each of the ways in which workers speak.
async fn told(app: &App, task: &Made) -> Vec<(&'static str, String)> {
    let lease = task.claimed["lease_id"].as_i64().expect("a lease");
    let id: i64 = task.id.parse().expect("a number");
    let mut told = Vec::new();
    let report = task.report(json!({ "ok": true }));
    told.push(("task.result", app.api.result(report).await.code()));
    let reports = json!({ "results": [task.report(json!({ "ok": true }))] });
    let several = app.api.result(reports).await.ok();
    let code = several["results"][0]["code"].as_str().expect("a code");
    told.push(("task.result of several", code.to_owned()));
    for (name, sql) in [
        ("report", "select millrace.report($1, $2, 'w', true)"),
        (
            "extend_lease",
            "select millrace.extend_lease($1, $2, 'w')::text",
        ),
        (
            "report_task_result",
            "select service_api.report_task_result('w', $1, $2, true)",
        ),
        (
            "service_api.extend_lease",
            "select service_api.extend_lease('w', $1, $2)",
        ),
    ] {
        let client = app.database.client();
        let error = client.query(sql, &[&id, &lease]).await.expect_err(name);
        told.push((name, refusal(&error).1));
    }
    told
}

#[tokio::test]
async fn the_worker_of_a_cancelled_task_is_told_so() {
    let app = App::start().await;
    let task = in_status(&app, "processing").await;
    app.api
        .post(&task.path("/cancel"), &json!({}))
        .await
        .created();
    let told = told(&app, &task).await;
    for (how, code) in &told {
        assert_eq!(code, "cancelled", "{how}");
    }
    assert_eq!(get(&app, &task.id).await["status"], "cancelled");
    println!("told by {} ways of speaking", told.len());
}

#[tokio::test]
async fn the_runbooks_worker_of_a_cancelled_task_is_told_so() {
    const ANN: &str = "11111111-1111-4111-8111-111111111111";
    let app = App::start().await;
    let task = pending(&app, json!({ "queue": "jobs" })).await;
    let sql = format!("select id::text from claim_next_job('{ANN}')");
    let claimed: String = app.database.one(&sql, &[]).await.get(0);
    assert_eq!(claimed, task.id);
    app.api
        .post(&task.path("/cancel"), &json!({}))
        .await
        .created();
    let sql = format!("select resolve_job({claimed}, '{ANN}', true)");
    let error = app.database.client().query(&sql, &[]).await;
    let (_, code) = refusal(&error.expect_err("the word of a worker whose job was cancelled"));
    assert_eq!(code, "cancelled");
    assert_eq!(get(&app, &task.id).await["status"], "cancelled");
}

#[tokio::test]
async fn what_is_retried_is_a_task_like_others() {
    let app = App::start().await;
    for status in ["failed", "cancelled"] {
        let mut task = in_status(&app, status).await;
        let retried = app.api.post(&task.path("/retry"), &json!({})).await;
        assert_eq!(retried.created()["id"], Value::from(task.id.as_str()));
        claim(&app, &mut task).await;
        app.api
            .result(task.report(json!({ "ok": true })))
            .await
            .ok();
        assert_eq!(get(&app, &task.id).await["status"], "completed");
    }
}
