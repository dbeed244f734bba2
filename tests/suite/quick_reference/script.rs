//! `scripts/test-worker-gateway-integration.sh` by itself: with a key, twice in a row, and where it must fail.

use std::process::{Output, Stdio};

use millrace_tests::app::App;
use millrace_tests::keys::API_KEY;
use serde_json::json;
use tokio::process::Command;

use super::root;

/// Runs it, and returns whether it says that all is well, and what it printed.
async fn run(url: &str, key: &str) -> (bool, String) {
    let script = root().join("scripts/test-worker-gateway-integration.sh");
    let output = Command::new(script)
        .env("MILLRACE_URL", url)
        .env("COLLAB_API_KEY", key)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let Output { status, stdout, .. } = output.await.expect("the script");
    let printed = String::from_utf8(stdout).expect("text");
    let is_well = printed.trim_end().ends_with("All tests passing ✅");
    assert_eq!(
        status.code(),
        Some(if is_well { 0 } else { 1 }),
        "{printed}"
    );
    (is_well, printed)
}

fn url(app: &App) -> String {
    format!("http://{}", app.server().addr())
}

#[tokio::test]
async fn it_passes_twice_in_a_row_with_a_key_and_clears_up_behind_itself() {
    let app = App::start().await;
    let other = app
        .api
        .post("/api/tasks", &json!({"type": "another's"}))
        .await;
    assert_eq!(other.status, 201, "{other:?}");
    let mut checks = 0;
    for _ in 0..2 {
        let (is_well, printed) = run(&url(&app), API_KEY).await;
        assert!(is_well, "{printed}");
        assert!(
            !printed.contains('✗') && !printed.contains(API_KEY),
            "{printed}"
        );
        checks += printed.matches('✓').count();
    }
    let left = "select (select count(*) from millrace.schedule),
                       (select count(*) from millrace.ready), (select count(*) from millrace.parked), (select count(*) from millrace.finished)";
    let left = app.database.one(left, &[]).await;
    let left = [0, 1, 2, 3].map(|column| left.get::<_, i64>(column));
    assert_eq!(
        left,
        [0, 1, 0, 4],
        "the other's task waits, its own are cancelled"
    );
    println!("{checks} checks in two runs of the script");
}

#[tokio::test]
async fn it_names_what_failed() {
    let app = App::start().await;
    let (is_well, printed) = run(&url(&app), "wrong").await;
    assert!(!is_well);
    let health = "✓ health\n✓ health under /api\n✓ readiness\n";
    assert!(printed.contains(health), "these need no key: {printed}");
    assert!(
        printed.contains("✗ create a task: 401 instead of 201"),
        "{printed}"
    );
    assert!(
        printed.contains("3 passed, 38 failed:\n✗ create a task\n"),
        "{printed}"
    );

    let (is_well, printed) = run("http://127.0.0.1:1", "").await;
    assert!(!is_well);
    assert!(
        printed.contains("nothing answers at http://127.0.0.1:1"),
        "{printed}"
    );
}
