//! The worker integration guide of service_api (contract, face 1), followed from top to bottom on a running application: its two
//! commands as it prints them, and its worker loop.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Mutex;

use futures::future::join_all;
use millrace_tests::app::App;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

/// "Fetch next task", as it is printed.
const FETCH: &str = r#"curl -s \
  -H "Accept-Profile: service_api" \
  -H "x-api-key: $SERVICE_API_KEY" \
  -H "Content-Type: application/json" \
  -X POST \
  -d '{"worker_id":"service:host:pid","lease_seconds":60,"task_type":"email"}' \
  http://localhost:3000/rpc/fetch_next_task"#;

/// "Report result", as it is printed.
const REPORT: &str = r#"curl -s \
  -H "Accept-Profile: service_api" \
  -H "x-api-key: $SERVICE_API_KEY" \
  -H "Content-Type: application/json" \
  -X POST \
  -d '{"worker_id":"service:host:pid","job_id":123,"lease_id":456,"succeeded":true}' \
  http://localhost:3000/rpc/report_task_result"#;

/// A stored key as a worker has it.
async fn worker_key(app: &App) -> String {
    let sql = "select millrace.create_api_key('worker', array['work'])";
    app.database.one(sql, &[]).await.get(0)
}

/// What a command prints in a shell that has the worker's key; the application takes the place of what listens on port 3000.
async fn shell(app: &App, key: &str, command: &str) -> Value {
    let address = app.server().addr().to_string();
    let output = Command::new("sh")
        .arg("-c")
        .arg(command.replace("localhost:3000", &address))
        .env("SERVICE_API_KEY", key)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("a shell");
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{command}: {e}"))
}

#[tokio::test]
async fn the_guides_commands_work_as_they_are_printed() {
    let app = App::start().await;
    let key = worker_key(&app).await;
    assert_eq!(
        shell(&app, &key, FETCH).await,
        json!({ "job": null }),
        "no work yet"
    );

    // The guide reports job 123 under lease 456, so these are the next ones.
    app.database
        .run("alter sequence millrace.job_id_seq restart with 123; alter sequence millrace.lease_id_seq restart with 456")
        .await;
    let sql = "select comms.create_and_enqueue_email('from@example.com', 'to@example.com', 'Hello', '<p>Hello</p>')";
    let made: Value = app.database.one(sql, &[]).await.get(0);
    let fetched = shell(&app, &key, FETCH).await;
    let mut job = made["job"].clone();
    job["lease_id"] = json!(456);
    let message_id = &made["job"]["resource_id"];
    let payload = json!({
        "message_id": message_id, "from_address": "from@example.com", "to_address": "to@example.com", "subject": "Hello", "html": "<p>Hello</p>",
    });
    assert_eq!(fetched, json!({ "job": job, "payload": payload }));
    assert_eq!(fetched["job"]["job_id"], 123);

    let completed = json!({ "completed": true, "scheduled_retry": false, "next_job_id": null, "next_scheduled_at": null });
    assert_eq!(shell(&app, &key, REPORT).await, completed);
    let again = json!({ "code": "P0001", "message": "Task Result Failed", "details": "Already Attempted", "hint": "already_attempted" });
    assert_eq!(
        shell(&app, &key, REPORT).await,
        again,
        "a job cannot be reprocessed after a success"
    );

    let without = json!({
        "code": "PT401", "message": "Service API Failed", "details": "the request carries no credentials", "hint": "missing_api_key",
    });
    assert_eq!(
        shell(&app, "", FETCH).await,
        without,
        "curl leaves out a header without a value"
    );
}

/// How often each message was sent, by its channel and id.
type Sent = Mutex<BTreeMap<(String, i64), usize>>;

/// A worker as the guide describes one.
struct Worker<'a> {
    app: &'a App,
    key: &'a str,
    id: String,
    sent: &'a Sent,
}

impl Worker<'_> {
    async fn rpc(&self, function: &str, arguments: Value) -> Value {
        let request = self.app.api.bare(Method::POST, &format!("/rpc/{function}"));
        let request = request
            .header("content-profile", "service_api")
            .header("x-api-key", self.key);
        let answer = self.app.api.send(request.json(&arguments)).await;
        assert_eq!(answer.status, 200, "{function}: {}", answer.text);
        answer.json()
    }

    /// Steps 1 to 5 until there is no work; whatever `fails` says fails where it is tried for the first time. Returns how many
    /// results it has reported.
    async fn work(&self, fails: impl Fn(&Value) -> bool) -> usize {
        let mut reports = 0;
        loop {
            let fetch = json!({ "worker_id": self.id, "lease_seconds": 30 });
            let fetched = self.rpc("fetch_next_task", fetch).await;
            let (job, payload) = (&fetched["job"], &fetched["payload"]);
            if job.is_null() {
                return reports;
            }
            let channel = job["task_type"].as_str().expect("a channel").to_owned();
            match channel.as_str() {
                "email" => assert!(
                    payload["html"].is_string() && payload["to_number"].is_null(),
                    "{payload}"
                ),
                "sms" => assert!(
                    payload["to_number"].is_string() && payload["html"].is_null(),
                    "{payload}"
                ),
                other => panic!("a task of {other}"),
            }
            let lease = json!({ "worker_id": self.id, "job_id": job["job_id"], "lease_id": job["lease_id"] });
            let mut extension = lease.clone();
            extension["lease_seconds"] = json!(90);
            assert_eq!(
                self.rpc("extend_lease", extension).await["lease_id"],
                job["lease_id"]
            );

            let failed = self.send(
                (channel, payload["message_id"].as_i64().expect("a message")),
                fails(payload),
            );
            let mut report = lease;
            report["succeeded"] = json!(!failed);
            if failed {
                report["error_code"] = json!("provider_down");
                report["error_message"] = json!("the provider is down");
                report["base_delay_seconds"] = json!(10);
            }
            let reported = self.rpc("report_task_result", report).await;
            let (completed, retried) = (&reported["completed"], &reported["scheduled_retry"]);
            assert_eq!(
                (completed, retried),
                (&json!(!failed), &json!(failed)),
                "{reported}"
            );
            reports += 1;
        }
    }

    /// Sends a message, unless it fails for the first time; whether it did.
    fn send(&self, message: (String, i64), fails: bool) -> bool {
        let mut sent = self.sent.lock().expect("no sending panics");
        let failed = fails && !sent.contains_key(&message);
        *sent.entry(message).or_default() += usize::from(!failed);
        failed
    }
}

#[tokio::test]
async fn the_guides_worker_loop_sends_every_message_once() {
    const EACH: usize = 30;
    let app = App::start().await;
    for n in 1..=EACH {
        let sql = "select comms.create_and_enqueue_email('from@example.com', 'to@example.com', $1, '<p>Hello</p>')";
        app.database.one(sql, &[&format!("Number {n}")]).await;
        let sql = "select comms.create_and_enqueue_sms('+4930123456', $1)";
        app.database.one(sql, &[&format!("Number {n}")]).await;
    }
    let (key, sent) = (worker_key(&app).await, Sent::default());
    let workers: Vec<_> = (1..=4)
        .map(|n| Worker {
            app: &app,
            key: &key,
            id: format!("service:host:{n}"),
            sent: &sent,
        })
        .collect();
    let every_third =
        |payload: &Value| payload["message_id"].as_i64().is_some_and(|id| id % 3 == 0);
    let round = async || join_all(workers.iter().map(|worker| worker.work(every_third))).await;
    let times = |n: usize| {
        sent.lock()
            .expect("no sending panics")
            .values()
            .filter(|times| **times == n)
            .count()
    };

    let mut reports: usize = round().await.iter().sum();
    assert_eq!(
        (times(0), times(1)),
        (EACH * 2 / 3, EACH * 4 / 3),
        "a third waits for its retry"
    );
    app.database.set_clock_ahead(10.0).await;
    reports += round().await.iter().sum::<usize>();

    assert_eq!((times(1), reports), (EACH * 2, EACH * 8 / 3));
    let sql = "select count(*) from millrace.finished";
    assert_eq!(
        app.database.one(sql, &[]).await.get::<_, i64>(0),
        EACH as i64 * 2
    );
    app.database.assert_no_job_misplaced().await;
    println!(
        "{} messages by 4 workers at once, {reports} reports",
        EACH * 2
    );
}
