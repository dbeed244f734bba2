//! Two at the same task at the same moment: one of them wins, and the other is told where the task stands then.

use std::collections::BTreeMap;

use millrace_tests::app::App;
use serde_json::json;

use super::{get, in_status};

const ROUNDS: usize = 30;

/// What each of the outcomes came to, counted.
type Outcomes = BTreeMap<String, usize>;

/// Runs two requests that change a task at once, task after task, and counts how they came out, in no order.
async fn race(app: &App, status: &str, one: &str, other: &str) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for _ in 0..ROUNDS {
        let task = in_status(app, status).await;
        let body = json!({});
        let (one, other) = (task.path(one), task.path(other));
        let (left, right) = tokio::join!(app.api.post(&one, &body), app.api.post(&other, &body));
        let word = |answer: millrace_tests::api::Answer| match answer.status {
            201 => "201".to_owned(),
            status => format!("{status} {}", answer.gateway_refusal(status)),
        };
        let mut pair = [word(left), word(right)];
        pair.sort();
        *outcomes.entry(pair.join(" | ")).or_default() += 1;
    }
    app.database.assert_no_job_misplaced().await;
    outcomes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_cancels_one_counts() {
    let app = App::start().await;
    for status in ["pending", "processing", "retrying"] {
        let outcomes = race(&app, status, "/cancel", "/cancel").await;
        let expected = "201 | 400 Task with status cancelled cannot be cancelled. Only pending or processing tasks can be cancelled.";
        assert_eq!(outcomes, [(expected.to_owned(), ROUNDS)].into(), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_retries_one_counts() {
    let app = App::start().await;
    for status in ["failed", "cancelled"] {
        let outcomes = race(&app, status, "/retry", "/retry").await;
        let expected = "201 | 400 Task with status retrying cannot be retried. Only failed or cancelled tasks can be retried.";
        assert_eq!(outcomes, [(expected.to_owned(), ROUNDS)].into(), "{status}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_comes_before_a_claim_or_ends_it() {
    let app = App::start().await;
    let (mut claimed, mut refused) = (0, 0);
    for _ in 0..ROUNDS {
        let mut task = in_status(&app, "pending").await;
        let (cancel, body) = (task.path("/cancel"), json!({}));
        let (cancelled, job) = tokio::join!(
            app.api.post(&cancel, &body),
            app.api.claim_one(&task.queue, "w")
        );
        assert_eq!(cancelled.created()["status"], "cancelled");
        if let Some(job) = job {
            task.claimed = job;
            let report = app.api.result(task.report(json!({ "ok": true }))).await;
            report.assert_refused(409, "cancelled");
            claimed += 1;
        } else {
            refused += 1;
        }
        assert_eq!(get(&app, &task.id).await["status"], "cancelled");
    }
    app.database.assert_no_job_misplaced().await;
    println!("{ROUNDS} cancels: {claimed} ended a lease, {refused} came before the claim");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_or_the_report_counts_and_never_both() {
    let app = App::start().await;
    let (mut cancelled, mut reported) = (0, 0);
    for _ in 0..ROUNDS {
        let task = in_status(&app, "processing").await;
        let (cancel, body) = (task.path("/cancel"), json!({}));
        let (left, right) = tokio::join!(
            app.api.post(&cancel, &body),
            app.api.result(task.report(json!({ "ok": true })))
        );
        let status = get(&app, &task.id).await["status"].clone();
        if right.status == 200 {
            let message = left.gateway_refusal(400);
            assert!(
                message.starts_with("Task with status completed"),
                "{message}"
            );
            assert_eq!(status, "completed");
            reported += 1;
        } else {
            right.assert_refused(409, "cancelled");
            left.created();
            assert_eq!(status, "cancelled");
            cancelled += 1;
        }
    }
    app.database.assert_no_job_misplaced().await;
    println!("{ROUNDS} pairs: {cancelled} cancelled, {reported} reported");
}
