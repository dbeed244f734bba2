//! `POST /api/collab/workers/heartbeat` and `GET /api/collab/workers/active`: who is there to work.

use millrace_tests::app::App;
use millrace_tests::routes::assert_forms_refused;
use serde_json::{Value, json};

const HEARTBEAT: &str = "/api/collab/workers/heartbeat";
const ACTIVE: &str = "/api/collab/workers/active";

/// A heartbeat with one field set to what is given.
fn with(field: &str, value: Value) -> Value {
    let mut beat = json!({"agentId": "a", "executorId": "e", "status": "idle"});
    beat[field] = value;
    beat
}

/// The agents that are active, in the order in which they are told.
async fn agents(app: &App, query: &str) -> Vec<String> {
    let answer = app.api.get(&format!("{ACTIVE}{query}")).await.ok();
    let items = answer["items"].as_array().expect("items");
    assert_eq!(answer["count"], items.len());
    items
        .iter()
        .map(|item| item["agent_id"].as_str().expect("an id").to_owned())
        .collect()
}

#[tokio::test]
async fn a_worker_is_active_for_twenty_seconds() {
    let app = App::start().await;
    assert_eq!(agents(&app, "").await, [""; 0]);
    app.api
        .post(HEARTBEAT, &with("agentId", json!("a")))
        .await
        .ok();
    app.database.set_clock_ahead(15.0).await;
    app.api
        .post(HEARTBEAT, &with("agentId", json!("b")))
        .await
        .ok();
    assert_eq!(agents(&app, "").await, ["b", "a"], "the newest first");
    app.database.set_clock_ahead(25.0).await;
    assert_eq!(agents(&app, "").await, ["b"]);
    app.api
        .post(HEARTBEAT, &with("agentId", json!("a")))
        .await
        .ok();
    assert_eq!(agents(&app, "").await, ["a", "b"]);
    app.database.set_clock_ahead(100.0).await;
    assert_eq!(agents(&app, "").await, [""; 0]);
}

#[tokio::test]
async fn a_second_heartbeat_replaces_the_first() {
    let app = App::start().await;
    let first = json!({"agentId": "агент", "executorId": "e", "status": "busy", "running": 3, "capacity": 4, "version": "1"});
    app.api.post(HEARTBEAT, &first).await.ok();
    let second = json!({"agentId": "агент", "executorId": "f", "status": "idle", "running": 0});
    app.api.post(HEARTBEAT, &second).await.ok();
    let active = app.api.get(ACTIVE).await.ok();
    assert_eq!(active["count"], 1);
    let worker = &active["items"][0];
    assert_eq!(
        (
            &worker["executor_id"],
            &worker["status"],
            &worker["running"]
        ),
        (&json!("f"), &json!("idle"), &json!(0))
    );
    assert_eq!(
        (&worker["capacity"], &worker["version"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn one_executors_workers_can_be_asked_for() {
    let app = App::start().await;
    for (agent, executor) in [("a", "e 1"), ("b", "e&2"), ("c", "ключ")] {
        app.api
            .post(
                HEARTBEAT,
                &json!({"agentId": agent, "executorId": executor, "status": "idle"}),
            )
            .await
            .ok();
    }
    for (query, expected) in [
        ("?executorId=e%201", vec!["a"]),
        ("?executorId=e+1", vec!["a"]),
        ("?executorId=e%262", vec!["b"]),
        ("?executorId=%D0%BA%D0%BB%D1%8E%D1%87", vec!["c"]),
        ("?executorId=nobody", vec![]),
        ("?executorId=%27%20or%201%3D1%20--", vec![]),
        ("?", vec!["c", "b", "a"]),
    ] {
        assert_eq!(agents(&app, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn a_bad_parameter_is_named() {
    let app = App::start().await;
    for (query, field) in [
        ("?executorId=", "executorId".to_owned()),
        ("?executorId=%20", "executorId".to_owned()),
        ("?executorId", "executorId".to_owned()),
        ("?executorId=a&executorId=a", "executorId".to_owned()),
        ("?executorId=a%00", "executorId".to_owned()),
        ("?executorId=%FF", "executorId".to_owned()),
        ("?executorid=a", "executorid".to_owned()),
        ("?limit=1", "limit".to_owned()),
        ("?executorId=a&cursor=null", "cursor".to_owned()),
    ] {
        app.api
            .get(&format!("{ACTIVE}{query}"))
            .await
            .assert_invalid(&field);
    }
    app.api
        .get(&format!("{ACTIVE}?executorId={}", "x".repeat(201)))
        .await
        .assert_invalid("executorId");
}

#[tokio::test]
async fn a_bad_field_is_named() {
    let app = App::start().await;
    let long = |length: usize| json!("x".repeat(length));
    let nul = json!("a\0b");
    for (field, values) in [
        (
            "agentId",
            vec![
                json!(null),
                json!(""),
                json!(" "),
                long(201),
                nul.clone(),
                json!(1),
            ],
        ),
        (
            "executorId",
            vec![json!(null), json!(""), long(201), nul.clone()],
        ),
        (
            "status",
            vec![json!(null), json!(""), long(51), nul.clone(), json!(true)],
        ),
        (
            "running",
            vec![json!(-1), json!(0.5), json!("1"), json!(2_147_483_648_i64)],
        ),
        (
            "capacity",
            vec![json!(-1), json!(0.5), json!("1"), json!(2_147_483_648_i64)],
        ),
        ("version", vec![json!(""), long(101), nul.clone(), json!(1)]),
        ("unknown", vec![json!(1)]),
        ("agent_id", vec![json!("a")]),
    ] {
        for value in values {
            app.api
                .post(HEARTBEAT, &with(field, value))
                .await
                .assert_invalid(field);
        }
    }
    for (body, field) in [
        (r#"{"executorId":"e","status":"idle"}"#, "agentId"),
        (r#"{"agentId":"a","status":"idle"}"#, "executorId"),
        (r#"{"agentId":"a","executorId":"e"}"#, "status"),
        (
            r#"{"agentId":"a","agentId":"a","executorId":"e","status":"idle"}"#,
            "agentId",
        ),
    ] {
        app.api
            .post_text(HEARTBEAT, body)
            .await
            .assert_invalid(field);
    }
    assert_eq!(agents(&app, "").await, [""; 0]);
}

#[tokio::test]
async fn other_forms_of_request_are_refused() {
    let app = App::start().await;
    for path in [HEARTBEAT, ACTIVE] {
        assert_forms_refused(&app, path).await;
    }
    for path in [
        "/api/collab/workers",
        "/api/collab/workers/active/x",
        "/api/collab/workers/gone",
    ] {
        assert_eq!(app.api.get(path).await.status, 404, "{path}");
    }
}
