//! The life of a task: how it is created, what it looks like at each stage, its log, and the numbers.

use millrace_tests::app::App;
use reqwest::Method;
use serde_json::{Value, json};

use super::{STATUSES, TASKS, claim, fields, get, id_of, in_status, pending};

const ALWAYS: [&str; 9] = [
    "attempts",
    "createdAt",
    "id",
    "maxAttempts",
    "payload",
    "priority",
    "queue",
    "status",
    "type",
];

/// The fields that a task has beside those that it always has.
fn more(task: &Value) -> Vec<&str> {
    let all = fields(task);
    assert!(ALWAYS.iter().all(|name| all.contains(name)), "{task}");
    all.into_iter()
        .filter(|name| !ALWAYS.contains(name))
        .collect()
}

#[tokio::test]
async fn what_is_left_out_has_the_defaults_of_the_contract() {
    let app = App::start().await;
    let task = app
        .api
        .post(TASKS, &json!({ "type": "email" }))
        .await
        .created();
    assert_eq!(more(&task), [""; 0]);
    let expected = json!({ "type": "email", "status": "pending", "priority": 5, "payload": {}, "attempts": 0, "maxAttempts": 5, "queue": "tasks" });
    for (name, value) in expected.as_object().expect("an object") {
        assert_eq!(&task[name], value, "{name}");
    }
    let id = task["id"].as_str().expect("a text");
    assert!(id.parse::<i64>().is_ok_and(|id| id > 0), "{id}");
    assert_eq!(get(&app, id).await, task);
}

#[tokio::test]
async fn a_task_looks_as_far_as_it_has_come() {
    let app = App::start().await;
    let mut made = pending(&app, json!({ "payload": { "a": null, "n": 1.10 } })).await;
    let task = get(&app, &made.id).await;
    assert_eq!((&task["status"], more(&task).len()), (&json!("pending"), 0));

    claim(&app, &mut made).await;
    let first = get(&app, &made.id).await;
    assert_eq!(
        (&first["status"], &first["attempts"]),
        (&json!("processing"), &json!(1))
    );
    assert_eq!(more(&first), ["startedAt"]);

    let failed = made.report(json!({ "error": "it broke", "retryAfterSeconds": 60 }));
    app.api.result(failed).await.ok();
    let task = get(&app, &made.id).await;
    assert_eq!(
        (&task["status"], &task["attempts"]),
        (&json!("retrying"), &json!(1))
    );
    assert_eq!(more(&task), ["error", "startedAt"]);
    assert_eq!(
        (&task["error"], &task["startedAt"]),
        (&json!("it broke"), &first["startedAt"])
    );

    app.database.set_clock_ahead(61.0).await;
    claim(&app, &mut made).await;
    let second = get(&app, &made.id).await;
    assert_eq!(
        (&second["attempts"], more(&second)),
        (&json!(2), vec!["startedAt"])
    );
    assert!(
        second["startedAt"].as_str() > first["startedAt"].as_str(),
        "{second}"
    );

    let failed = made.report(json!({ "error": "it broke again", "retryAfterSeconds": 0 }));
    app.api.result(failed).await.ok();
    let task = get(&app, &made.id).await;
    assert_eq!(
        (&task["error"], &task["startedAt"]),
        (&json!("it broke again"), &second["startedAt"]),
        "of the latest attempt"
    );

    claim(&app, &mut made).await;
    let third = get(&app, &made.id).await;
    let done = made.report(json!({ "ok": true, "result": { "sent": true, "why": null } }));
    app.api.result(done).await.ok();
    let task = get(&app, &made.id).await;
    assert_eq!(
        (&task["status"], &task["attempts"]),
        (&json!("completed"), &json!(3))
    );
    assert_eq!(more(&task), ["completedAt", "result", "startedAt"]);
    assert_eq!(task["result"], json!({ "sent": true, "why": null }));
    assert_eq!(task["payload"], json!({ "a": null, "n": 1.10 }));
    assert_eq!(task["startedAt"], third["startedAt"]);
}

#[tokio::test]
async fn a_task_that_failed_says_why_and_since_when() {
    let app = App::start().await;
    let failed = in_status(&app, "failed").await;
    let task = get(&app, &failed.id).await;
    assert_eq!(more(&task), ["error", "failedAt", "startedAt"]);
    assert_eq!(task["error"], "it broke");
    // Without words the code is what there is to say.
    let retrying = in_status(&app, "retrying").await;
    assert_eq!(get(&app, &retrying.id).await["error"], "busy");
    // A task that was never started has no start, whatever became of it.
    let cancelled = in_status(&app, "cancelled").await;
    assert_eq!(more(&get(&app, &cancelled.id).await), [""; 0]);
    let answer = app.api.post(&retrying.path("/cancel"), &json!({})).await;
    assert_eq!(more(&answer.created()), ["startedAt"]);
}

#[tokio::test]
async fn a_payload_of_null_is_none() {
    let app = App::start().await;
    let task = pending(&app, json!({ "payload": null })).await;
    assert_eq!(get(&app, &task.id).await["payload"], json!({}));
    let job = json!({ "name": "n", "type": "t", "schedule": "* * * * *", "payload": null });
    let job = app.api.post("/api/jobs", &job).await.created();
    assert_eq!(job["payload"], json!({}));
    let path = format!("/api/jobs/{}", id_of(&job));
    assert_eq!(app.api.get(&path).await.ok(), job);
}

#[tokio::test]
async fn a_task_goes_where_and_when_it_is_told() {
    let app = App::start().await;
    let later = pending(
        &app,
        json!({ "priority": 20, "maxAttempts": 7, "delaySeconds": 60 }),
    )
    .await;
    let task = get(&app, &later.id).await;
    assert_eq!(
        (&task["priority"], &task["maxAttempts"], &task["queue"]),
        (&json!(20), &json!(7), &json!(later.queue))
    );
    assert!(app.api.claim_one(&later.queue, "w").await.is_none());
    app.database.set_clock_ahead(61.0).await;
    assert!(app.api.claim_one(&later.queue, "w").await.is_some());

    let far = pending(&app, json!({ "runAt": "2035-01-01T00:00:00+02:00" })).await;
    let logs = app.api.get(&far.path("/logs")).await.ok();
    assert_eq!(
        logs["logs"][0]["metadata"]["runAt"],
        "2034-12-31T22:00:00+00:00"
    );
}

#[tokio::test]
async fn an_idempotency_key_answers_with_the_first_task_as_it_stands() {
    let app = App::start().await;
    let task = json!({ "type": "t", "idempotencyKey": "welcome-1", "payload": 1 });
    let first = app.api.post(TASKS, &task).await.created();
    let id = first["id"].as_str().expect("an id");
    app.api
        .post(&format!("{TASKS}/{id}/cancel"), &json!({}))
        .await
        .created();
    let again = app.api.post(TASKS, &task).await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert_eq!(
        (&again.ok()["id"], "cancelled"),
        (
            &first["id"],
            get(&app, id).await["status"].as_str().expect("a status")
        )
    );
    let elsewhere =
        json!({ "type": "t", "idempotencyKey": "welcome-1", "queue": "another", "payload": 1 });
    assert_ne!(
        app.api.post(TASKS, &elsewhere).await.created()["id"],
        first["id"]
    );
}

#[tokio::test]
async fn tasks_that_name_no_queue_go_to_that_of_the_variable() {
    let app = App::start_with(&[("tasks_queue", "mine")]).await;
    let task = app.api.post(TASKS, &json!({ "type": "t" })).await.created();
    assert_eq!(task["queue"], "mine");
    let app = App::start_with(&[("tasks_queue", " ")]).await;
    let refused = app.api.post(TASKS, &json!({ "type": "t" })).await;
    assert_eq!(
        refused.gateway_refusal(500),
        "the application is not configured correctly"
    );
}

#[tokio::test]
async fn a_task_belongs_to_the_trace_of_its_request() {
    let app = App::start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = app
        .api
        .request(Method::POST, TASKS)
        .header("traceparent", trace)
        .json(&json!({ "type": "t" }));
    let task = app.api.send(request).await.created();
    let id = task["id"].as_str().expect("an id");
    let logs = app.api.get(&format!("{TASKS}/{id}/logs")).await.ok();
    assert_eq!(logs["logs"][0]["metadata"]["traceparent"], trace);
}

/// The level and the message of each line of a task's log, times left out.
async fn lines(app: &App, path: &str) -> Vec<(String, String)> {
    let logs = app.api.get(path).await.ok();
    let lines = logs["logs"].as_array().expect("lines");
    assert_eq!(logs["total"], lines.len(), "{logs}");
    let text = |line: &Value, name: &str| line[name].as_str().expect("a text").to_owned();
    let timeless = |line: &Value| match line["metadata"]["runAt"].as_str() {
        Some(time) => text(line, "message").replace(time, "TIME"),
        None => text(line, "message"),
    };
    lines
        .iter()
        .map(|line| (text(line, "level"), timeless(line)))
        .collect()
}

#[tokio::test]
async fn the_log_tells_a_tasks_whole_life() {
    let app = App::start().await;
    let mut made = pending(&app, json!({})).await;
    claim(&app, &mut made).await;
    let failed = made.report(json!({ "error": "it broke", "retryAfterSeconds": 0 }));
    app.api.result(failed).await.ok();
    claim(&app, &mut made).await;
    let sql = "select millrace.report($1::text::bigint, $2, 'w', false, error_code => 'provider_away', postponed => '0')";
    let lease = made.claimed["lease_id"].as_i64().expect("a lease");
    app.database.one(sql, &[&made.id, &lease]).await;
    claim(&app, &mut made).await;
    app.database.set_clock_ahead(61.0).await;
    app.database.run("select millrace.housekeep()").await;
    app.database.set_clock_ahead(7300.0).await;
    claim(&app, &mut made).await;
    let dead = made.report(json!({ "permanent": true, "errorCode": "gone" }));
    app.api.result(dead).await.ok();
    app.api
        .post(&made.path("/retry"), &json!({}))
        .await
        .created();
    app.api
        .post(&made.path("/cancel"), &json!({}))
        .await
        .created();
    app.api
        .post(&made.path("/retry"), &json!({}))
        .await
        .created();
    claim(&app, &mut made).await;
    app.api
        .post(&made.path("/cancel"), &json!({}))
        .await
        .created();
    app.api
        .post(&made.path("/retry"), &json!({}))
        .await
        .created();
    claim(&app, &mut made).await;
    app.api
        .result(made.report(json!({ "ok": true })))
        .await
        .ok();

    let expected = [
        ("info", "Task queued, due at TIME"),
        ("info", "Attempt 1 started by worker w"),
        (
            "warn",
            "Attempt 1 failed, and the next one is due at TIME: it broke",
        ),
        ("info", "Attempt 2 started by worker w"),
        ("info", "Attempt 2 was postponed until TIME: provider_away"),
        ("info", "Attempt 2 started by worker w"),
        (
            "warn",
            "Attempt 2 was lost, for its lease ran out before worker w reported",
        ),
        (
            "warn",
            "Attempt 2 failed, and the next one is due at TIME: the lease ran out before the worker reported",
        ),
        ("info", "Attempt 3 started by worker w"),
        (
            "error",
            "Attempt 3 failed, and the task will not be tried again: gone",
        ),
        ("info", "Task queued again after it had failed"),
        ("info", "Task cancelled while it was waiting"),
        ("info", "Task queued again after it was cancelled"),
        ("info", "Attempt 4 started by worker w"),
        ("info", "Task cancelled while it was processed"),
        ("info", "Task queued again after it was cancelled"),
        ("info", "Attempt 5 started by worker w"),
        ("info", "Attempt 5 succeeded"),
    ];
    let found = lines(&app, &made.path("/logs")).await;
    let found: Vec<_> = found
        .iter()
        .map(|(level, message)| (level.as_str(), message.as_str()))
        .collect();
    assert_eq!(found, expected);

    let whole = app.api.get(&made.path("/logs")).await.ok();
    let from = |line: usize| &whole["logs"][line]["metadata"]["from"];
    assert_eq!(*from(11), Value::Null, "it was retrying, not pending");
    assert_eq!(
        (from(10), from(14)),
        (&json!("failed"), &json!("processing"))
    );

    // In parts, whatever their size, it is the same.
    for limit in [1, 5, 7] {
        let mut read: Vec<Value> = Vec::new();
        loop {
            let path = made.path(&format!("/logs?limit={limit}&offset={}", read.len()));
            let part = app.api.get(&path).await.ok();
            assert_eq!(
                (&part["total"], &part["taskId"]),
                (&json!(expected.len()), &json!(made.id))
            );
            let part = part["logs"].as_array().expect("lines").clone();
            if part.is_empty() {
                break;
            }
            read.extend(part);
        }
        assert_eq!(json!(read), whole["logs"], "{limit}");
    }
    println!("a log of {} lines of all kinds", expected.len());
}

#[tokio::test]
async fn a_replay_is_told_in_both_logs() {
    let app = App::start().await;
    let failed = in_status(&app, "failed").await;
    let sql = "select millrace.replay(id)::text from millrace.dead_letter where job_id = $1::text::bigint";
    let replay: String = app.database.one(sql, &[&failed.id]).await.get(0);
    let old = lines(&app, &failed.path("/logs")).await;
    assert_eq!(
        old.last().expect("a line").1,
        format!("Task retried as task {replay}")
    );
    let new = lines(&app, &format!("{TASKS}/{replay}/logs")).await;
    assert_eq!(
        new[0].1,
        format!("Task queued as a retry of task {}, due at TIME", failed.id)
    );
}

#[tokio::test]
async fn the_numbers_are_those_of_all_queues() {
    let app = App::start().await;
    let stats = || app.api.get("/api/tasks/stats/summary");
    let empty = stats().await.ok();
    assert_eq!(
        (&empty["total"], &empty["byPriority"]),
        (&json!(0), &json!({}))
    );
    for status in STATUSES {
        assert_eq!(empty["byStatus"][status], 0);
    }
    for (place, status) in STATUSES.iter().enumerate() {
        for _ in 0..=place {
            in_status(&app, status).await;
        }
    }
    pending(&app, json!({ "priority": 20 })).await;
    let stats = stats().await.ok();
    let by_status = json!({ "pending": 2, "processing": 2, "completed": 3, "failed": 4, "cancelled": 5, "retrying": 6 });
    assert_eq!(
        stats,
        json!({ "total": 22, "byStatus": by_status, "byPriority": { "5": 21, "20": 1 } })
    );
}
