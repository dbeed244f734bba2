//! Other people's programs, as they are: Supabase's JavaScript client against a running application, and Redocly's linter over the
//! OpenAPI document. They come from npm (`tests/clients/`); where its registry is out of reach, `cargo xtask` says so in
//! `MILLRACE_NO_NPM` and these tests say that they were left out.

use std::env;
use std::path::PathBuf;
use std::process::Stdio;

use millrace_tests::app::App;
use millrace_tests::keys::token;
use millrace_tests::local_store::LocalStore;
use serde_json::json;
use tokio::process::Command;

/// The folder of the npm packages.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Whether the packages are there; if they can't be, prints why this test does nothing.
fn are_installed(test: &str) -> bool {
    if folder().join("node_modules/.package-lock.json").is_file() {
        return true;
    }
    let reason = env::var("MILLRACE_NO_NPM").unwrap_or_default();
    assert!(
        !reason.is_empty(),
        "tests/clients/node_modules is not there: npm ci --prefix tests/clients (cargo xtask test does it)"
    );
    println!("LEFT OUT {test}: {reason}");
    false
}

/// Runs `node` in the folder of the packages and returns all that it printed; fails the test if the program failed.
async fn node(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = Command::new("node")
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(folder())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("node starts");
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    let said = said.join("\n");
    assert!(output.status.success(), "{arguments:?}: {said}");
    said
}

#[tokio::test]
async fn supabase_js_works_unchanged() {
    if !are_installed("supabase_js_works_unchanged") {
        return;
    }
    let store = LocalStore::new();
    store.put("artifacts/runs/1/screen shot.png", "a picture");
    let app = store.serve(&[]).await;
    for fruit in ["pear", "äpple"] {
        dead_job(&app, fruit).await;
    }
    let sql = "select millrace.create_api_key('reading', array['read'])";
    let reading_key: String = app.database.one(sql, &[]).await.get(0);
    let url = format!("http://{}", app.server().addr());
    let said = node(
        // The client wants a WebSocket to be there, which Node.js 20 has behind this flag.
        &["--experimental-websocket", "supabase.mjs"],
        &[
            ("MILLRACE_URL", &url),
            ("TOKEN", &token("service_role")),
            ("ANON_TOKEN", &token("anon")),
            ("READING_KEY", &reading_key),
            ("ARTIFACT", "runs/1/screen shot.png"),
        ],
    )
    .await;
    let count = said.lines().next().unwrap_or_default();
    assert!(count.ends_with("calls of functions.invoke"), "{said}");
    println!("supabase-js: {count}");
}

/// Makes a dead letter whose payload holds `fruit`.
async fn dead_job(app: &App, fruit: &str) {
    let task = json!({ "type": "t", "executorId": "orchard", "payload": { "fruit": fruit } });
    let job = app.api.assign(task).await.ok()["jobId"].clone();
    app.api
        .claim_one("orchard", "worker")
        .await
        .expect("the job");
    let report =
        json!({ "jobId": job, "type": "t", "ok": false, "error": "no", "permanent": true });
    app.api.result(report).await.ok();
}

#[tokio::test]
async fn the_openapi_document_passes_redocly_lint() {
    if !are_installed("the_openapi_document_passes_redocly_lint") {
        return;
    }
    let said = node(
        &[
            "node_modules/@redocly/cli/bin/cli.js",
            "lint",
            "--config=redocly.yaml",
            "--format=stylish",
            "../../functions/docs/openapi.json",
        ],
        // It is to look at the document, and at nothing elsewhere.
        &[
            ("REDOCLY_TELEMETRY", "off"),
            ("REDOCLY_SUPPRESS_UPDATE_NOTICE", "true"),
        ],
    )
    .await;
    let verdict = said.lines().find(|line| line.contains("valid. "));
    println!("redocly lint: {}", verdict.expect("a verdict"));
}
