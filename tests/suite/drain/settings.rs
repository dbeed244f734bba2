//! Whether a channel may be run, by whom, and with which settings.

use millrace_tests::keys::token;
use reqwest::Method;
use serde_json::json;

use super::Drain;

const CHANNEL: &str =
    "select state || ': ' || coalesce(detail, '') from millrace.channel where queue = 'channel'";

#[tokio::test]
async fn a_channel_that_is_not_configured_leaves_its_jobs_alone() {
    let drain = Drain::start(&[("readiness", "idle")]).await;
    drain.enqueue(json!({ "do": "done" })).await;
    for answer in [
        drain.app.api.get("/channels/channel").await,
        drain.post().await,
    ] {
        let answer = answer.ok();
        assert_eq!(
            (&answer["state"], &answer["detail"]),
            (&json!("idle"), &json!("set the variable readiness"))
        );
    }
    assert_eq!(drain.post_async().await.status, 202);
    assert_eq!(
        drain
            .count("select count(*) from millrace.ready where attempts = 0")
            .await,
        1
    );
    let noted: String = drain.database().one(CHANNEL, &[]).await.get(0);
    assert_eq!(noted, "idle: set the variable readiness");
}

#[tokio::test]
async fn a_channel_that_is_ready_says_so() {
    let drain = Drain::start(&[]).await;
    let answer = drain.app.api.get("/channels/channel").await.ok();
    assert_eq!(
        answer,
        json!({ "ok": true, "queue": "channel", "state": "ready", "detail": "behaves as told" })
    );
    let noted: String = drain.database().one(CHANNEL, &[]).await.get(0);
    assert_eq!(noted, "ready: behaves as told");
}

#[tokio::test]
async fn a_variable_that_means_nothing_is_named() {
    let mut cases = 0;
    for (variable, value) in [
        ("readiness", "some_variable"),
        ("queue", ""),
        ("queue", "millrace.alerts"),
        ("concurrency", "0"),
        ("concurrency", "many"),
        ("concurrency", "501"),
        ("run_seconds", "26"),
        ("run_seconds", "1"),
        ("job_seconds", "20"),
        ("job_seconds", "-1"),
        ("lease_seconds", "1"),
        ("lease_seconds", "1.5"),
    ] {
        let drain = Drain::start(&[(variable, value)]).await;
        drain.enqueue(json!({ "do": "done" })).await;
        let named = if variable == "readiness" {
            value
        } else {
            variable
        };
        for answer in [
            drain.app.api.get("/channels/channel").await,
            drain.post().await,
        ] {
            answer.assert_refused(500, "misconfigured");
            let details = answer.json()["details"].clone();
            let details = details.as_str().unwrap_or_default();
            assert!(
                details.starts_with(&format!("{named}: ")),
                "{variable}={value}: {details}"
            );
        }
        assert_eq!(
            drain
                .count("select count(*) from millrace.ready where attempts = 0")
                .await,
            1
        );
        cases += 1;
    }
    println!("{cases} wrong variables");
}

#[tokio::test]
async fn it_is_for_the_clock_to_run_and_for_readers_to_look_at() {
    let drain = Drain::start(&[]).await;
    let api = &drain.app.api;
    let ask = async |method: Method, role: Option<&str>| {
        let mut request = api.bare(method, "/channels/channel");
        if let Some(role) = role {
            request = request.bearer_auth(token(role));
        }
        api.send(request).await
    };
    ask(Method::POST, None)
        .await
        .assert_refused(401, "missing_credentials");
    ask(Method::GET, None)
        .await
        .assert_refused(401, "missing_credentials");
    ask(Method::POST, Some("reader"))
        .await
        .assert_refused(403, "forbidden");
    ask(Method::GET, Some("reader")).await.ok();
    ask(Method::POST, Some("worker")).await.ok();
    let answer = ask(Method::PUT, Some("service_role")).await;
    answer.assert_refused(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "GET, POST");
    for (scope, status) in [("tick", 200), ("work", 403)] {
        let key: String = drain
            .database()
            .one(
                "select millrace.create_api_key($1, array[$1::text])",
                &[&scope],
            )
            .await
            .get(0);
        let answer = api
            .send(
                api.bare(Method::POST, "/channels/channel")
                    .header("x-api-key", key),
            )
            .await;
        assert_eq!(answer.status, status, "{scope}: {}", answer.text);
    }
}
