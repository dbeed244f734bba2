//! The calendar outbox, from an insert into `sync_outbox` to an event at Google: each line of its document, each outcome, and what faults leave behind.

mod breaker;
mod once;
mod outbox;
mod outcomes;
mod rebuild;
mod tokens;

use millrace_tests::app::App;
use millrace_tests::channel::{Fate, fate, run};
use millrace_tests::program::command;
use millrace_tests::provider::{Provider, Seen};
use millrace_tests::providers::google::{CLIENT_ID, CLIENT_SECRET, Google, REFRESH_TOKEN};
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;

const WORKSPACE: &str = "5e5e5e5e-1111-4222-8333-444444444444";
/// 32 bytes each.
const KEY_1: &str = "k1:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const KEY_2: &str = "k2:ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

/// An application whose calendar channel speaks to a Google of the test's own.
struct Syncing {
    app: App,
    google: Provider<Google>,
}

impl Syncing {
    /// With one workspace connected.
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(more: &[(&str, &str)]) -> Self {
        let google = Provider::start(Google::default()).await;
        let url = google.url.clone();
        let syncing = Self::reaching(google, &url, more).await;
        syncing.connect(WORKSPACE).await;
        syncing
    }

    /// An application that believes Google to be at `url`.
    async fn reaching(google: Provider<Google>, url: &str, more: &[(&str, &str)]) -> Self {
        let paths =
            ["/calendar/v3", "/batch/calendar/v3", "/token"].map(|path| format!("{url}{path}"));
        let mut variables = vec![
            ("google_client_id", CLIENT_ID),
            ("google_client_secret", CLIENT_SECRET),
            ("calendar_token_key", KEY_1),
            ("google_calendar_url", &paths[0]),
            ("google_batch_url", &paths[1]),
            ("google_token_url", &paths[2]),
            ("google_calendar_host", url),
            ("google_token_host", url),
        ];
        variables.extend(more);
        let app = App::start_with(&variables).await;
        Self { app, google }
    }

    /// Connects a workspace as an administrator does.
    async fn connect(&self, workspace: &str) {
        let arguments = [
            "put",
            "--workspace",
            workspace,
            "--calendar",
            "team@example.com",
        ];
        let (succeeded, said) = self.secrets(&arguments, KEY_1, REFRESH_TOKEN).await;
        assert!(succeeded, "{said}");
        assert!(!said.contains(REFRESH_TOKEN));
    }

    /// `millrace secrets …` with these keys and this on its standard input; all that it says.
    async fn secrets(&self, arguments: &[&str], keys: &str, input: &str) -> (bool, String) {
        let mut command = command(&[&["secrets"], arguments].concat());
        command
            .env("DATABASE_URL", self.app.database.url())
            .env("SPIN_VARIABLE_CALENDAR_TOKEN_KEY", keys)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("millrace starts");
        let mut stdin = child.stdin.take().expect("its standard input");
        // It may end without having read it.
        _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await.expect("it ends");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8(said).expect("text"),
        )
    }

    /// Inserts an item; its job.
    async fn insert(&self, payload: &Value) -> i64 {
        let sql = "insert into sync_outbox (payload) values ($1) returning job_id";
        self.app.database.one(sql, &[payload]).await.get(0)
    }

    async fn upsert(&self, source: u32, title: &str) -> i64 {
        self.insert(&upsert(source, title)).await
    }

    async fn cancel(&self, source: u32) -> i64 {
        let payload = json!({"operation": "CANCEL_EVENT", "workspaceId": WORKSPACE, "calendarId": "team@example.com",
            "sourceType": "task", "sourceId": source_id(source)});
        self.insert(&payload).await
    }

    async fn run(&self) -> Value {
        run(&self.app, "calendar").await
    }

    async fn fate(&self, job: i64) -> Fate {
        fate(&self.app.database, job).await
    }

    /// The item's status and last error, as its document has them.
    async fn status(&self, job: i64) -> String {
        let sql = "select status from sync_outbox where job_id = $1";
        self.app.database.one(sql, &[&job]).await.get(0)
    }

    /// Upserts a source and has it done.
    async fn bound(&self, source: u32) {
        let job = self.upsert(source, "first").await;
        let summary = self.run().await;
        let status = self.status(job).await;
        assert_eq!(status, "COMPLETED", "{summary}: {:?}", self.fate(job).await);
    }

    /// The titles of the events that a person sees.
    fn titles(&self) -> Vec<String> {
        let titles = |google: &mut Google| {
            let live = google.live();
            let titles = live.iter().map(|event| {
                event.body["summary"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            });
            titles.collect()
        };
        self.google.service(titles)
    }

    async fn is_valid(&self) -> bool {
        let sql = "select is_valid from google_connections";
        self.app.database.one(sql, &[]).await.get(0)
    }

    fn calls(&self, concerns: impl Fn(&Seen) -> bool) -> usize {
        self.google
            .requests()
            .iter()
            .filter(|request| concerns(request))
            .count()
    }
}

/// Whether a request is one of the Calendar API, not for a token.
fn is_call(request: &Seen) -> bool {
    request.path() != "/token"
}

fn source_id(source: u32) -> String {
    format!("00000000-0000-4000-8000-{source:012}")
}

/// The document's own payload, of another source and title.
fn upsert(source: u32, title: &str) -> Value {
    json!({
        "operation": "UPSERT_EVENT", "workspaceId": WORKSPACE, "calendarId": "team@example.com", "sourceType": "task",
        "sourceId": source_id(source), "eventType": "BLOCKER_DEADLINE",
        "event": {"title": title, "description": "P1 blocking task", "start": "2025-01-15T14:00:00Z", "end": "2025-01-15T15:00:00Z", "isAllDay": false}
    })
}

fn rebuild_all() -> Value {
    json!({"operation": "REBUILD_ALL", "workspaceId": WORKSPACE, "calendarId": "team@example.com"})
}
