//! Links that Supabase Storage makes, which is played here: it speaks the storage's wire format, and misbehaves when told to.

use std::time::Instant;

use millrace_tests::app::App;
use millrace_tests::double::{Double, Reply, Seen};
use millrace_tests::program::{Program, command};
use serde_json::{Value, json};

use super::sign;

const SERVICE_KEY: &str = "SERVICE-KEY-that-nobody-may-see-8f31";

/// Answers as the storage does: it has the objects below `there/`, and misbehaves for some others.
fn storage(request: &Seen) -> Reply {
    let refuse = |status, code: &str, error: &str, message: &str| {
        let body = json!({ "statusCode": code, "error": error, "message": message });
        Reply::json(status, body.to_string())
    };
    if request.header("authorization") != format!("Bearer {SERVICE_KEY}")
        || request.header("apikey") != SERVICE_KEY
    {
        return refuse(400, "403", "Unauthorized", "Invalid Compact JWS");
    }
    let Some(object) = request
        .target
        .strip_prefix("/storage/v1/object/sign/artifacts/")
    else {
        return refuse(400, "404", "Bucket not found", "Bucket not found");
    };
    let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
    if request.method != "POST" || !body["expiresIn"].is_u64() {
        return refuse(
            400,
            "400",
            "Error",
            "body must have required property 'expiresIn'",
        );
    }
    match object {
        "absent-400" => refuse(400, "404", "not_found", "Object not found"),
        "absent-404" => refuse(404, "404", "NoSuchKey", "Object not found"),
        "wrong-route" => Reply::json(
            404,
            r#"{"statusCode":404,"error":"Not Found","message":"Route not found"}"#,
        ),
        "refused" => refuse(400, "403", "Unauthorized", SERVICE_KEY),
        "broken" => refuse(500, "500", "Internal", SERVICE_KEY),
        "overloaded" => Reply::json(503, "{}"),
        "html" => Reply::Answer(200, "content-type: text/html\r\n", b"<html>".to_vec()),
        "empty" => Reply::json(200, ""),
        "another-shape" => Reply::json(200, r#"{"signedUrl":"/object/sign/artifacts/a?token=t"}"#),
        "elsewhere" => Reply::json(
            200,
            r#"{"signedURL":"https://evil.example/object/sign/artifacts/a"}"#,
        ),
        "redirect" => Reply::Answer(
            302,
            "location: /storage/v1/object/sign/artifacts/there/a\r\n",
            Vec::new(),
        ),
        "huge" => Reply::json(
            200,
            format!(
                r#"{{"signedURL":"/object/sign/artifacts/{}"}}"#,
                "x".repeat(10_000_000)
            ),
        ),
        "silent" => Reply::Silence,
        "hang-up" => Reply::HangUp,
        // The storage decodes the path, but for what would change its meaning, and gives it back so.
        _ => {
            let decoded = object.replace("%20", " ").replace("%D0%BA", "к");
            Reply::json(
                200,
                json!({ "signedURL": format!("/object/sign/artifacts/{decoded}?token=a.b-c_d") })
                    .to_string(),
            )
        }
    }
}

async fn start(url: &str, host: &str) -> App {
    App::start_with(&[
        ("artifact_store", "supabase"),
        ("supabase_url", url),
        ("supabase_host", host),
        ("supabase_service_key", SERVICE_KEY),
    ])
    .await
}

#[tokio::test]
async fn the_storage_is_asked_as_its_own_clients_ask_it() {
    let storage = Double::start(storage).await;
    // A slash at the end of the URL is as good as none.
    for end in ["", "/"] {
        let app = start(&format!("{}{end}", storage.url), &storage.url).await;
        for (path, asked, linked) in [
            ("there/a.txt", "there/a.txt", "there/a.txt"),
            (
                "there/a b+c&d=e,f;g:h@i$j's(1).txt",
                "there/a%20b+c&d=e,f;g:h@i$j's(1).txt",
                "there/a%20b+c&d=e,f;g:h@i$j's(1).txt",
            ),
            ("there/к", "there/%D0%BA", "there/%D0%BA"),
        ] {
            let answer = app
                .api
                .get(&sign(&[("path", path), ("expires", "60")]))
                .await
                .ok();
            let url = format!(
                "{}/storage/v1/object/sign/artifacts/{linked}?token=a.b-c_d",
                storage.url
            );
            assert_eq!(
                answer,
                json!({ "url": url, "bucket": "artifacts", "path": path, "expires": 60 })
            );
            let seen = storage.seen().pop().expect("a request");
            assert_eq!(
                (seen.method.as_str(), seen.target.as_str()),
                (
                    "POST",
                    format!("/storage/v1/object/sign/artifacts/{asked}").as_str()
                )
            );
            assert_eq!(seen.header("content-type"), "application/json");
            assert_eq!(seen.body, r#"{"expiresIn":60}"#);
        }
    }
}

#[tokio::test]
async fn what_the_storage_refuses_is_told_without_its_words() {
    let storage = Double::start(storage).await;
    let app = start(&storage.url, &storage.url).await;
    let cases = [
        ("absent-400", 404, "object_not_found"),
        ("absent-404", 404, "object_not_found"),
        ("wrong-route", 502, "storage_error"),
        ("refused", 502, "storage_error"),
        ("broken", 502, "storage_error"),
        ("overloaded", 502, "storage_error"),
        ("html", 502, "storage_error"),
        ("empty", 502, "storage_error"),
        ("another-shape", 502, "storage_error"),
        ("elsewhere", 502, "storage_error"),
        ("redirect", 502, "storage_error"),
        ("huge", 502, "storage_error"),
        ("hang-up", 503, "storage_unavailable"),
    ];
    for (path, status, code) in cases {
        let answer = app.api.get(&sign(&[("path", path)])).await;
        answer.assert_refused(status, code);
        assert!(!answer.text.contains(SERVICE_KEY), "{}", answer.text);
        let retry_after = if status == 503 { "1" } else { "" };
        assert_eq!(answer.header("retry-after"), retry_after);
    }
    assert_eq!(
        storage.seen().len(),
        cases.len(),
        "one request each, no redirect followed"
    );
    println!("{} ways to misbehave", cases.len());
}

#[tokio::test]
async fn a_storage_that_is_silent_or_gone_is_not_waited_for() {
    let storage = Double::start(storage).await;
    let app = start(&storage.url, &storage.url).await;
    let start_of_it = Instant::now();
    let answer = app.api.get(&sign(&[("path", "silent")])).await;
    answer.assert_refused(503, "storage_unavailable");
    let waited = start_of_it.elapsed().as_secs_f64();
    assert!((4.9..20.0).contains(&waited), "{waited} s");

    drop(storage);
    // Its port is closed once the server has noticed.
    let answer = millrace_tests::deadline::eventually("the storage is gone", || async {
        let answer = app.api.get(&sign(&[("path", "there/a")])).await;
        (answer.status != 200).then_some(answer)
    });
    answer.await.assert_refused(503, "storage_unavailable");
}

#[tokio::test]
async fn a_storage_that_may_not_be_reached_is_not() {
    let storage = Double::start(storage).await;
    let app = start(&storage.url, "https://supabase.invalid").await;
    app.api
        .get(&sign(&[("path", "there/a")]))
        .await
        .assert_refused(500, "misconfigured");
    assert_eq!(storage.seen().len(), 0);
}

#[tokio::test]
async fn the_log_names_what_is_wrong_and_shows_no_key() {
    let storage = Double::start(storage).await;
    let database = millrace_tests::database::Database::fresh().await;
    let database_url = database.functions_url();
    let mut command = command(&["serve", "--listen", "127.0.0.1:0"]);
    for (name, value) in [
        ("DATABASE_URL", database_url.as_str()),
        (
            "DATABASE_HOST",
            &millrace::database::outbound_host(&database_url).expect("an address"),
        ),
        ("COLLAB_API_KEY", "key"),
        ("ARTIFACT_STORE", "supabase"),
        ("SUPABASE_URL", &storage.url),
        ("SUPABASE_HOST", &storage.url),
        ("SUPABASE_SERVICE_KEY", SERVICE_KEY),
    ] {
        command.env(format!("SPIN_VARIABLE_{name}"), value);
    }
    command.env("RUST_LOG", "debug");
    let program = Program::start(command);
    let said = program.until("==> serving ").await;
    let base = said
        .split("==> serving ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let api = millrace_tests::api::Api::new(base.expect("an address"), "key");
    for path in ["there/a", "absent-400", "refused", "broken", "html"] {
        api.get(&sign(&[("path", path)])).await;
    }
    let (_, said) = program.end("TERM").await;
    assert!(
        said.contains("the storage answered 500 Internal Server Error with a refusal"),
        "{said}"
    );
    assert!(!said.contains(SERVICE_KEY), "the key shows in the log");
    assert!(!said.contains("a.b-c_d"), "a link's token shows in the log");
}
