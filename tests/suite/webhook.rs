//! The channel `webhook`: jobs that become signed requests.

mod addresses;
mod delivery;
mod endpoints;
mod outcomes;
mod previewed;

use millrace_tests::app::App;
use millrace_tests::provider::{Answer, Ledger, Provider, Seen};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

/// A receiver: what it says to a request. Each request that is answered is an effect, under the message's id.
type Receiver = fn(&Seen, &mut Ledger) -> Answer;

/// Variables under which webhooks go to a receiver on this machine.
const TO_THIS_MACHINE: [(&str, &str); 4] = [
    ("webhook_mode", "send"),
    ("webhook_allow_http", "1"),
    ("webhook_allow_private", "1"),
    ("webhook_private_host", "http://127.0.0.1:*"),
];

/// Takes whatever comes.
fn taking(seen: &Seen, ledger: &mut Ledger) -> Answer {
    ledger.act(seen.header("webhook-id"), "taken");
    Answer::empty(204)
}

/// An application that sends webhooks to a receiver of the test's.
struct Sending {
    app: App,
    receiver: Provider<Receiver>,
}

impl Sending {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with some variables set otherwise.
    async fn start_with(variables: &[(&str, &str)]) -> Self {
        let mut all = TO_THIS_MACHINE.to_vec();
        all.retain(|(name, _)| variables.iter().all(|(other, _)| name != other));
        all.extend(variables);
        let app = App::start_with(&all).await;
        // No second attempt while a test still looks at the first.
        let patient = "select millrace.configure_queue('webhook', backoff_base => '10 minutes', backoff_jitter => false)";
        app.database.run(patient).await;
        let receiver = Provider::start(taking as Receiver).await;
        Self { app, receiver }
    }

    /// Registers the receiver under a name; answers with its secret.
    async fn register(&self, name: &str) -> String {
        self.register_at(name, &self.receiver.url).await
    }

    /// The same under another spelling of the receiver's address.
    async fn register_at(&self, name: &str, base: &str) -> String {
        let url = format!("{base}/hook/{name}?a=b");
        let sql = "select millrace.create_webhook_endpoint($1, $2)";
        self.app.database.one(sql, &[&name, &url]).await.get(0)
    }

    /// Enqueues a message for an endpoint; answers with the job's key.
    async fn tell(&self, endpoint: &str, data: Value) -> i64 {
        let sql = "select millrace.enqueue_webhook($1, 'invoice.paid', $2)";
        self.app.database.one(sql, &[&endpoint, &data]).await.get(0)
    }

    /// Enqueues a job of the queue as it is; answers with its key.
    async fn enqueue(&self, payload: &Value) -> i64 {
        let sql = "select millrace.enqueue('webhook', 'invoice.paid', $1)";
        self.app.database.one(sql, &[payload]).await.get(0)
    }

    /// One run of the channel.
    async fn run(&self) -> Value {
        let request = self.app.api.request(Method::POST, "/channels/webhook");
        self.app.api.send(request).await.ok()
    }

    /// The error codes of a job's attempts, in their order; empty for one that succeeded.
    async fn codes(&self, job: i64) -> Vec<String> {
        let sql = "select coalesce(error_code, '') from millrace.attempt where job_id = $1 order by lease_id";
        let rows = self.app.database.all(sql, &[&job]).await;
        rows.iter().map(|row| row.get(0)).collect()
    }

    async fn state(&self, job: i64) -> String {
        let sql = "select millrace.job_state($1)";
        self.app.database.one(sql, &[&job]).await.get(0)
    }

    async fn uuid(&self, job: i64) -> String {
        let sql = "select millrace.job_uuid($1)::text";
        self.app.database.one(sql, &[&job]).await.get(0)
    }
}

/// Whether a receiver that has this secret takes the request as ours.
fn is_signed(seen: &Seen, secret: &str) -> bool {
    let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(|name| {
        let value = seen.header(name).parse().expect("a header");
        (HeaderName::from_static(name), value)
    });
    let verifier = Webhook::new(secret).expect("a secret");
    verifier
        .verify(seen.body.as_bytes(), &HeaderMap::from_iter(headers))
        .is_ok()
}

#[tokio::test]
async fn nothing_is_claimed_while_it_is_configured_wrongly() {
    for (variable, value) in [
        ("webhook_mode", "sending"),
        ("webhook_allow_http", "yes"),
        ("webhook_allow_private", "2"),
        ("webhook_timeout_seconds", "0"),
    ] {
        let sending = Sending::start_with(&[(variable, value)]).await;
        let url = format!("{}/", sending.receiver.url);
        let job = sending.enqueue(&json!({ "url": url })).await;
        for method in [Method::GET, Method::POST] {
            let request = sending.app.api.request(method, "/channels/webhook");
            let answer = sending.app.api.send(request).await;
            answer.assert_refused(500, "misconfigured");
            assert!(answer.text.contains(variable), "{}", answer.text);
        }
        assert_eq!(sending.state(job).await, "queued");
        assert_eq!(sending.receiver.count(), 0);
    }
}
