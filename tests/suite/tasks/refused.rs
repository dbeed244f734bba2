//! Requests that are refused: parameters, bodies, ids, methods and paths.

use millrace_tests::app::App;
use millrace_tests::routes::assert_forms_refused;
use reqwest::Method;
use serde_json::json;

use super::{TASKS, in_status};

#[tokio::test]
async fn a_bad_parameter_is_named_and_never_ignored() {
    let app = App::start().await;
    let task = in_status(&app, "pending").await;
    let long = "x".repeat(201);
    let mut cases = 0;
    let lists = [
        (
            "limit",
            vec![
                "",
                "0",
                "1001",
                "-1",
                "ten",
                "1.5",
                "1e2",
                "+5",
                "0x10",
                "9223372036854775808",
                "%31%20",
                "null",
            ],
        ),
        (
            "offset",
            vec![
                "",
                "-1",
                "ten",
                "1.0",
                "9007199254740992",
                "9223372036854775808",
            ],
        ),
        ("priority", vec!["", "-101", "101", "high", "5.0"]),
        (
            "status",
            vec!["", "queued", "PENDING", "pending,failed", "done"],
        ),
        ("type", vec!["", "%20", "%00", "%ff", &long]),
        ("queue", vec!["", "%09", &long]),
        (
            "before",
            vec![
                "",
                "0",
                "-1",
                "x",
                "01",
                "9223372036854775808",
                "123456789012345678901",
            ],
        ),
        ("page", vec!["1"]),
        ("Limit", vec!["1"]),
    ];
    for (name, values) in &lists {
        for value in values {
            let answer = app.api.get(&format!("{TASKS}?{name}={value}")).await;
            answer.assert_gateway_invalid(name);
            cases += 1;
        }
    }
    let logs = [
        ("limit", vec!["0", "1001", "x"]),
        ("offset", vec!["-1", "x"]),
        ("before", vec!["1"]),
    ];
    for (name, values) in &logs {
        for value in values {
            let answer = app
                .api
                .get(&task.path(&format!("/logs?{name}={value}")))
                .await;
            answer.assert_gateway_invalid(name);
            cases += 1;
        }
    }
    for path in [
        format!("{TASKS}?limit=1&limit=1"),
        format!("{TASKS}?status=failed&status=failed"),
    ] {
        let message = app.api.get(&path).await.gateway_refusal(400);
        assert!(message.ends_with("is given twice"), "{message}");
        cases += 1;
    }
    // Routes without parameters refuse any.
    for (method, path) in [
        (Method::GET, task.path("")),
        (Method::GET, "/api/tasks/stats/summary".to_owned()),
        (Method::POST, TASKS.to_owned()),
        (Method::POST, task.path("/retry")),
        (Method::POST, task.path("/cancel")),
    ] {
        let request = app.api.request(method.clone(), &format!("{path}?limit=1"));
        let request = match method {
            Method::POST => request.json(&json!({ "type": "t" })),
            _ => request,
        };
        app.api.send(request).await.assert_gateway_invalid("limit");
        cases += 1;
    }
    println!("{cases} bad parameters, each named");
}

#[tokio::test]
async fn a_bad_field_is_named_and_never_ignored() {
    let app = App::start().await;
    let long = "x".repeat(201);
    let mut cases = 0;
    for (field, values) in [
        (
            "type",
            vec![
                json!(null),
                json!(""),
                json!(" "),
                json!(5),
                json!([]),
                json!("a\0"),
                json!(long),
            ],
        ),
        (
            "priority",
            vec![
                json!(0),
                json!(21),
                json!(-1),
                json!(5.5),
                json!("5"),
                json!("HIGH"),
                json!(1e30),
                json!(true),
            ],
        ),
        (
            "queue",
            vec![
                json!(""),
                json!("\t"),
                json!(7),
                json!(long),
                json!("millrace.alerts"),
            ],
        ),
        (
            "maxAttempts",
            vec![json!(0), json!(1001), json!("3"), json!(1.5)],
        ),
        (
            "delaySeconds",
            vec![json!(-1), json!(315_360_001), json!(1.5), json!("60")],
        ),
        (
            "runAt",
            vec![
                json!("tomorrow"),
                json!("2030-01-01T00:00:00"),
                json!(0),
                json!("2099-01-01T00:00:00Z"),
            ],
        ),
        ("idempotencyKey", vec![json!(""), json!(1), json!(long)]),
        ("payload", vec![json!("a\0b"), json!({ "a": ["\0"] })]),
        (
            "traceparent",
            vec![json!(
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            )],
        ),
        ("status", vec![json!("completed")]),
        ("id", vec![json!("1")]),
    ] {
        for value in values {
            let mut body = json!({ "type": "t" });
            body[field] = value;
            app.api
                .post(TASKS, &body)
                .await
                .assert_gateway_invalid(field);
            cases += 1;
        }
    }
    let (open, close) = ("[".repeat(200), "]".repeat(200));
    let deep = format!(r#"{{"type":"t","payload":{open}{close}}}"#);
    let answer = app.api.post_text(TASKS, deep).await;
    answer.assert_gateway_invalid("payload");
    let both = json!({ "type": "t", "delaySeconds": 1, "runAt": "2030-01-01T00:00:00Z" });
    let message = app.api.post(TASKS, &both).await.gateway_refusal(400);
    assert_eq!(
        message,
        "the body: delaySeconds and runAt exclude each other"
    );
    app.api
        .post(TASKS, &json!({}))
        .await
        .assert_gateway_invalid("type");
    let twice = r#"{"type":"t","type":"t"}"#;
    app.api
        .post_text(TASKS, twice)
        .await
        .assert_gateway_invalid("type");
    let count: i64 = app
        .database
        .one("select count(*) from millrace.job", &[])
        .await
        .get(0);
    assert_eq!(count, 0, "nothing was enqueued");
    println!("{} bad bodies, each field named", cases + 4);
}

#[tokio::test]
async fn an_id_that_names_no_task_is_not_found_whatever_it_is() {
    let app = App::start().await;
    let only = in_status(&app, "pending").await;
    assert_eq!(only.id, "1", "the one that there is");
    let (mut cases, long) = (0, "9".repeat(500));
    for id in [
        "2",
        "0",
        "-1",
        "+1",
        "01",
        "1.0",
        "1e0",
        "x",
        "stats",
        "null",
        "%31",
        "%00",
        "%2F",
        "1%20",
        "%F0%9F%98%80",
        "00000000-0000-8000-8000-000000000001",
        "9223372036854775807",
        "9223372036854775808",
        "18446744073709551617",
        &long,
    ] {
        let shown = match id.len() {
            500 => format!("{}…", &long[..100]),
            _ => id.to_owned(),
        };
        for (method, rest) in [
            (Method::GET, ""),
            (Method::GET, "/logs"),
            (Method::POST, "/retry"),
            (Method::POST, "/cancel"),
        ] {
            let request = app.api.request(method, &format!("{TASKS}/{id}{rest}"));
            let message = app.api.send(request).await.gateway_refusal(404);
            assert_eq!(message, format!("Task with ID {shown} not found"));
            cases += 1;
        }
    }
    println!("{cases} requests about tasks that are none");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_in_this_faces_words() {
    let app = App::start().await;
    let task = in_status(&app, "pending").await;
    for path in [
        "/api/tasks/1/2",
        "/api/tasks/1/retry/now",
        "/api/tasks//retry",
        "/api/tasks/stats/summary/x",
        "/api/tasks/1/events",
    ] {
        let message = app.api.get(path).await.gateway_refusal(404);
        assert_eq!(message, "there is no such route", "{path}");
    }
    let mut refusals = 0;
    for path in [
        "/api/tasks",
        "/api/tasks/{id}",
        "/api/tasks/{id}/logs",
        "/api/tasks/{id}/retry",
        "/api/tasks/{id}/cancel",
        "/api/tasks/stats/summary",
    ] {
        refusals += assert_forms_refused(&app, path).await;
    }
    // A slash at the end changes nothing, and HEAD is no GET, as anywhere else.
    for path in [TASKS.to_owned(), task.path("")] {
        app.api.get(&format!("{path}/")).await.ok();
        let head = app.api.send(app.api.request(Method::HEAD, &path)).await;
        assert_eq!(head.status, 405);
    }
    println!("{refusals} other methods and forms");
}
