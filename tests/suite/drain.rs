//! The drain, composed with a handler that does what each job tells it (`tests/fixtures/handler-behaves`), or with one that blocks.

mod deadlines;
mod ending;
mod outcomes;
mod poison;
mod runs;
mod settings;

use millrace::serve::Limits;
use millrace_tests::api::Answer;
use millrace_tests::app::App;
use millrace_tests::database::Database;
use millrace_tests::queue;
use millrace_tests::scratch::Scratch;
use serde_json::{Value, json};

/// The queue of the channel under test.
const QUEUE: &str = "channel";

/// A channel of one test's own.
struct Drain {
    app: App,
    _manifest: Scratch,
}

impl Drain {
    /// With these of the drain's variables set, and retries that come 20 s later, after any run that somebody waits for.
    async fn start(variables: &[(&str, &str)]) -> Self {
        let database = Database::fresh().await;
        let sql = "select millrace.configure_queue('channel', backoff => 'fixed', backoff_base => '20 seconds', backoff_jitter => false, max_attempts => 3)";
        database.run(sql).await;
        Self::over(database, variables, Limits::default()).await
    }

    /// Over a database that is there already, under other limits of the host's.
    async fn over(database: Database, variables: &[(&str, &str)], limits: Limits) -> Self {
        Self::with_handler("behaves", database, variables, limits).await
    }

    /// With another handler of the fixtures.
    async fn with_handler(
        handler: &str,
        database: Database,
        variables: &[(&str, &str)],
        limits: Limits,
    ) -> Self {
        let folder = Scratch::new();
        let components = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../target/wasm32-wasip2/component"
        );
        let manifest = include_str!("drain/spin.toml")
            .replace("COMPONENTS", components)
            .replace("HANDLER", handler);
        let path = folder.path().join("spin.toml");
        std::fs::write(&path, manifest).expect("a manifest");
        Self {
            app: App::serve_limited(path, database, variables, limits).await,
            _manifest: folder,
        }
    }

    fn database(&self) -> &Database {
        &self.app.database
    }

    /// Enqueues a job with this payload.
    async fn enqueue(&self, payload: Value) -> i64 {
        let request = json!({ "queue": QUEUE, "type": "t", "payload": payload });
        queue::enqueue(self.database().client(), request).await
    }

    /// Asks for a run and waits until it is over.
    async fn post(&self) -> Answer {
        self.app.api.post("/channels/channel", &json!({})).await
    }

    /// Asks for a run that goes on after the answer.
    async fn post_async(&self) -> Answer {
        let request = (self.app.api)
            .request(reqwest::Method::POST, "/channels/channel")
            .header("prefer", "respond-async");
        self.app.api.send(request).await
    }

    /// A run that ends well: its summary.
    async fn run(&self) -> Value {
        self.post().await.ok()
    }

    async fn count(&self, sql: &str) -> i64 {
        self.database().one(sql, &[]).await.get(0)
    }
}
