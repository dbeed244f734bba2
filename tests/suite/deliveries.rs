//! Emails and text messages on their way: through each provider, by each documented answer and each fault; and what never gets that far.

mod configuration;
mod faults;
mod impossible;
mod known;
mod outcomes;
mod previews;
mod suppression;
mod templates;

use std::sync::atomic::{AtomicU32, Ordering};

use known::Known;
use millrace_tests::app::App;
use millrace_tests::channel::{Fate, fate, retry_after, run};
use millrace_tests::provider::Provider;
use serde_json::Value;

/// An application whose channel sends through a provider.
struct Delivering<P: Known> {
    app: App,
    provider: Provider<P>,
    messages: AtomicU32,
}

/// A message that is to be sent.
struct Sending {
    job: i64,
    /// What no other message's request has.
    mark: String,
}

impl<P: Known> Delivering<P> {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(more: &[(&str, &str)]) -> Self {
        let provider = Provider::start(P::default()).await;
        let url = provider.url.clone();
        Self::reaching(provider, &url, more).await
    }

    /// An application that believes the provider to be at `url`.
    async fn reaching(provider: Provider<P>, url: &str, more: &[(&str, &str)]) -> Self {
        let names = ["provider", "url", "host"].map(|it| format!("{}_{it}", P::CHANNEL));
        let mut variables = vec![
            (names[0].as_str(), P::NAME),
            (names[1].as_str(), url),
            (names[2].as_str(), url),
        ];
        variables.extend(P::VARIABLES);
        variables.extend(more);
        let app = App::start_with(&variables).await;
        retry_after(&app.database, P::CHANNEL, 100).await;
        Self {
            app,
            provider,
            messages: AtomicU32::new(0),
        }
    }

    /// Enqueues another message.
    async fn send(&self) -> Sending {
        let n = self.messages.fetch_add(1, Ordering::Relaxed);
        let mark = match P::CHANNEL {
            "email" => format!("case{n}x"),
            _ => format!("4915{n:07}"),
        };
        let sql = match P::CHANNEL {
            "email" => format!(
                "comms.create_and_enqueue_email('\"Zoë, of the Shop\" <shop@example.com>', '{mark}@example.com', 'Grüße',
                                                '<p>Hello & bye</p>', text => 'Hello', reply_to => 'help@example.com')"
            ),
            _ => format!("comms.create_and_enqueue_sms('+{mark}', 'Grüße, 日本')"),
        };
        let answer: Value = self
            .app
            .database
            .one(&format!("select {sql}"), &[])
            .await
            .get(0);
        Sending {
            job: answer["job"]["job_id"].as_i64().expect("a job"),
            mark,
        }
    }

    async fn run(&self) -> Value {
        run(&self.app, P::CHANNEL).await
    }

    async fn fate(&self, sending: &Sending) -> Fate {
        fate(&self.app.database, sending.job).await
    }

    /// The name by which the provider's effects know a message.
    async fn key(&self, sending: &Sending) -> String {
        match P::NAMES_JOBS {
            true => {
                let sql = "select millrace.job_uuid($1)::text";
                self.app.database.one(sql, &[&sending.job]).await.get(0)
            }
            false => format!("+{}", sending.mark),
        }
    }
}
