//! The verification sequence of the collab face's guide, by the very `curl` commands that it prints, in a shell that has
//! `TOKEN` and `JOB_ID`; and its fail → retry → backoff → dead letter path, with time moved on in the database.

use std::process::Command;

use millrace_tests::app::App;
use millrace_tests::keys::token;
use serde_json::{Value, json};

const HEALTH: &str = "curl -s http://localhost:3100/api/collab/health";
const ASSIGN: &str = r#"curl -s -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d '{"type":"browser.run","executorId":"verify-demo","payload":{"url":"https://supabase.com"}}' \
  http://localhost:3100/api/collab/task.assign"#;
const CLAIM: &str = r#"curl -s -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d '{"executorId":"verify-demo","workerId":"worker-01","leaseSeconds":60,"typePrefix":"browser."}' \
  http://localhost:3100/api/collab/task.claim"#;
const FAIL: &str = r#"curl -s -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d '{"jobId":"'$JOB_ID'","type":"browser.run","ok":false,"error":"simulated-fail"}' \
  http://localhost:3100/api/collab/task.result"#;
const SUMMARY: &str = r#"curl -s -H "Authorization: Bearer $TOKEN" http://localhost:3100/api/collab/job/$JOB_ID/summary"#;
const EVENTS: &str = r#"curl -s -H "Authorization: Bearer $TOKEN" http://localhost:3100/api/collab/events/by-job/$JOB_ID"#;
/// What sections 4 to 6 name without a command: in the form of the others.
const SUCCEED: &str = r#"curl -s -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d '{"jobId":"'$JOB_ID'","type":"browser.run","ok":true,"artifact":{"name":"page","path":"runs/1/page.html"}}' \
  http://localhost:3100/api/collab/task.result"#;
const ARTIFACTS: &str = r#"curl -s -H "Authorization: Bearer $TOKEN" http://localhost:3100/api/collab/artifacts/by-job/$JOB_ID"#;
const JOB: &str =
    r#"curl -s -H "Authorization: Bearer $TOKEN" http://localhost:3100/api/collab/job/$JOB_ID"#;
const RECENT: &str = r#"curl -s -H "Authorization: Bearer $TOKEN" 'http://localhost:3100/api/collab/jobs/recent?limit=5&executorId=verify-demo'"#;
const OVERVIEW: &str = r#"curl -s -H "Authorization: Bearer $TOKEN" http://localhost:3100/api/collab/metrics/overview"#;
const DLQ_LIST: &str = r#"curl -s -H "apikey: $TOKEN" -H "Authorization: Bearer $TOKEN" 'http://localhost:3100/functions/v1/dlq-list?limit=10'"#;
const DLQ_RETRY: &str = r#"curl -s -H "apikey: $TOKEN" -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d '{"dlqId":'$DLQ_ID'}' http://localhost:3100/functions/v1/dlq-retry"#;

/// A shell with the exports that the guide expects, whose `localhost:3100` is the application.
struct Shell {
    address: String,
    exports: Vec<(&'static str, String)>,
}

impl Shell {
    fn new(app: &App) -> Self {
        Self {
            address: app.server().addr().to_string(),
            exports: vec![("TOKEN", token("service_role"))],
        }
    }

    fn export(&mut self, name: &'static str, value: &Value) {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        self.exports.retain(|(known, _)| *known != name);
        self.exports.push((name, value));
    }

    /// Runs a command and reads what it prints.
    async fn run(&self, command: &str) -> Value {
        assert!(command.contains("localhost:3100"));
        let command = command.replace("localhost:3100", &self.address);
        let exports = self.exports.clone();
        let output = tokio::task::spawn_blocking(move || {
            let shell = Command::new("sh")
                .arg("-c")
                .arg(&command)
                .envs(exports)
                .env("no_proxy", "*")
                .output()
                .expect("a shell");
            (command, shell)
        });
        let (command, output) = output.await.expect("the command ends");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command}: {printed}");
        serde_json::from_str(&printed).unwrap_or_else(|e| panic!("{command}: {e}: {printed}"))
    }
}

#[tokio::test]
async fn the_guides_commands_work_as_printed_down_to_the_dead_letters_and_back() {
    let app = App::start_with(&[("collab_require_jwt", "1"), ("collab_api_key", "")]).await;
    let mut shell = Shell::new(&app);
    assert_eq!(shell.run(HEALTH).await["ok"], true);
    let assigned = shell.run(ASSIGN).await;
    assert_eq!(assigned["queued"], true);
    shell.export("JOB_ID", &assigned["jobId"]);

    // Five attempts, the default; after the n-th the delay is drawn from up to 30 s * 2^(n-1). Each round moves the clock on by that.
    let mut ahead = 0.0;
    for attempt in 1..=5 {
        let claimed = shell.run(CLAIM).await;
        assert_eq!(
            (
                &claimed["job"]["id"],
                &claimed["job"]["attempt"],
                &claimed["job"]["payload"]
            ),
            (
                &assigned["jobId"],
                &json!(attempt),
                &json!({ "url": "https://supabase.com" })
            )
        );
        assert_eq!(shell.run(FAIL).await, json!({ "ok": true }));
        let job = shell.run(JOB).await["job"].clone();
        assert_eq!(
            (&job["attempt"], &job["error"]),
            (&json!(attempt), &json!("simulated-fail"))
        );
        if attempt < 5 {
            assert_eq!(job["status"], "queued");
            let within = 30.0 * f64::from(1 << (attempt - 1));
            assert_backoff(&app, &job, within).await;
            ahead += within + 1.0;
            app.database.set_clock_ahead(ahead).await;
        } else {
            assert_eq!(job["status"], "failed");
        }
    }
    assert_eq!(shell.run(CLAIM).await, json!({ "job": null }));

    let summary = shell.run(SUMMARY).await;
    let types: Vec<_> = summary["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| event["event_type"].as_str().unwrap_or_default())
        .collect();
    let mut expected = vec!["queued"];
    expected.extend(["started", "retry_scheduled"].repeat(4));
    expected.extend(["started", "dead_lettered"]);
    assert_eq!(types, expected);
    assert_eq!(summary["artifacts"], json!([]));
    assert_eq!(shell.run(EVENTS).await["items"], summary["events"]);

    let letters = shell.run(DLQ_LIST).await;
    let letter = &letters["items"][0];
    assert_eq!(
        (
            &letters["count"],
            &letter["job_id"],
            &letter["error"],
            &letter["retries"],
            &letter["retried_at"]
        ),
        (
            &json!(1),
            &assigned["jobId"],
            &json!("simulated-fail"),
            &json!(5),
            &Value::Null
        )
    );
    shell.export("DLQ_ID", &letter["id"]);
    let retried = shell.run(DLQ_RETRY).await;
    let again = shell.run(DLQ_RETRY).await;
    assert_eq!(
        (&again["code"], &again["details"]),
        (&json!("already_replayed"), &retried["jobId"])
    );
    assert!(shell.run(DLQ_LIST).await["items"][0]["retried_at"].is_string());

    shell.export("JOB_ID", &retried["jobId"]);
    let claimed = shell.run(CLAIM).await;
    assert_eq!(claimed["job"]["id"], retried["jobId"]);
    assert_eq!(
        claimed["job"]["payload"],
        json!({ "url": "https://supabase.com" })
    );
    assert_eq!(shell.run(SUCCEED).await, json!({ "ok": true }));
    assert_eq!(shell.run(JOB).await["job"]["status"], "succeeded");
    assert_eq!(
        shell.run(ARTIFACTS).await["items"][0]["path"],
        "runs/1/page.html"
    );
    let recent = shell.run(RECENT).await;
    let ids: Vec<_> = recent["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|job| &job["id"])
        .collect();
    assert_eq!(ids, [&retried["jobId"], &assigned["jobId"]]);
    assert_eq!(
        shell.run(OVERVIEW).await["counts"],
        json!({ "queued": 0, "running": 0, "succeeded": 1, "failed": 1, "cancelled": 0 })
    );
}

/// Fails unless the job's retry is due within so many seconds of the report.
async fn assert_backoff(app: &App, job: &Value, within: f64) {
    let delay: f64 = app
        .database
        .one(
            "select extract(epoch from $1::text::timestamptz - $2::text::timestamptz)::float8",
            &[&job["run_at"].as_str(), &job["updated_at"].as_str()],
        )
        .await
        .get(0);
    assert!((0.0..=within).contains(&delay), "{delay} s after {job}");
}
