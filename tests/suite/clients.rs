//! Other people's programs, as they are: Supabase's JavaScript client against a running application, and Redocly's linter over the
//! OpenAPI document. They come from npm and PyPI (`tests/clients/`); where a registry is out of reach, `cargo xtask` says so in
//! `MILLRACE_NO_NPM` or `MILLRACE_NO_PYPI` and its tests say that they were left out.

use std::env;
use std::path::PathBuf;
use std::process::Stdio;

use millrace_tests::app::App;
use millrace_tests::keys::token;
use millrace_tests::local_store::LocalStore;
use serde_json::json;
use tokio::process::Command;

/// The folder of the packages.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Whether npm's packages are there; if they can't be, prints why this test does nothing.
pub(crate) fn are_installed(test: &str) -> bool {
    is_there(
        test,
        "node_modules/.package-lock.json",
        "MILLRACE_NO_NPM",
        "npm ci --prefix tests/clients",
    )
}

/// Whether PyPI's packages are there; if they can't be, prints why this test does nothing.
pub(crate) fn are_installed_from_pypi(test: &str) -> bool {
    is_there(
        test,
        ".venv/requirements.txt",
        "MILLRACE_NO_PYPI",
        "cargo xtask test clients",
    )
}

/// Whether `file`, the last one that is installed, is there. If not, `variable` must say why it can't be.
fn is_there(test: &str, file: &str, variable: &str, remedy: &str) -> bool {
    if folder().join(file).is_file() {
        return true;
    }
    let reason = env::var(variable).unwrap_or_default();
    assert!(
        !reason.is_empty(),
        "tests/clients/{file} is not there: {remedy} (cargo xtask test does it)"
    );
    println!("LEFT OUT {test}: {reason}");
    false
}

/// Runs `node` in the folder of the packages and returns all that it printed; fails the test if the program failed.
pub(crate) async fn node(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    run("node".into(), arguments, variables).await
}

/// As [`node`], for the `python` that has the packages.
async fn python(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    run(folder().join(".venv/bin/python"), arguments, variables).await
}

async fn run(program: PathBuf, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = Command::new(&program)
        .args(arguments)
        .envs(variables.iter().copied())
        .current_dir(folder())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
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

#[tokio::test]
async fn postgrest_js_works_unchanged() {
    if !are_installed("postgrest_js_works_unchanged") {
        return;
    }
    let app = App::start().await;
    let variables = for_workers(&app).await;
    let said = node(
        &["--experimental-websocket", "rpc.mjs"],
        &borrowed(&variables),
    )
    .await;
    let count = said.lines().next().unwrap_or_default();
    assert!(count.ends_with("calls of rpc"), "{said}");
    println!("postgrest-js: {count}");
}

#[tokio::test]
async fn postgrest_py_works_unchanged() {
    if !are_installed_from_pypi("postgrest_py_works_unchanged") {
        return;
    }
    let app = App::start().await;
    let variables = for_workers(&app).await;
    let said = python(&["rpc.py"], &borrowed(&variables)).await;
    let count = said.lines().next().unwrap_or_default();
    assert!(count.ends_with("calls of rpc"), "{said}");
    println!("postgrest-py: {count}");
}

/// What the workers in `rpc.mjs` and `rpc.py` take, in an application that has what they work on.
async fn for_workers(app: &App) -> Vec<(&'static str, String)> {
    app.database
        .run(
            "select comms.create_and_enqueue_email('from@example.com', 'to@example.com', 'Number ' || n, '<p>Hello</p>') from generate_series(1, 2) as n; \
             insert into jobs_queue (job_type, payload) values ('ocr', '{\"page\": 1}'); \
             insert into cron_tasks (slug, job_type, cron_schedule) values ('each-minute', 'sweep', '* * * * *')",
        )
        .await;
    let due = "select next_run_at::text from cron_tasks";
    let due: String = app.database.one(due, &[]).await.get(0);
    let sql = "select extract(epoch from $1::text::timestamptz - clock_timestamp())::float8 + 1";
    let ahead: f64 = app.database.one(sql, &[&due]).await.get(0);
    app.database.set_clock_ahead(ahead).await;
    let sql = "select millrace.create_api_key('worker', array['work', 'tick'])";
    let key: String = app.database.one(sql, &[]).await.get(0);
    vec![
        ("MILLRACE_URL", format!("http://{}", app.server().addr())),
        ("SERVICE_API_KEY", key),
        ("TOKEN", token("service_role")),
    ]
}

fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'a str, &'a str)> {
    let variables = variables.iter();
    variables
        .map(|(name, value)| (*name, value.as_str()))
        .collect()
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
