//! Emails: through a provider with idempotency keys, and through one without.

use std::time::Duration;

use millrace_tests::database::Database;
use millrace_tests::provider::{Idempotency, Provider};
use millrace_tests::providers::postmark::{Postmark, TOKEN};
use millrace_tests::providers::resend::{API_KEY, Resend};

use super::{Outcome, Trial, deliveries};

/// A database with so many emails to send, each to somebody else.
async fn with_emails(number: i64) -> Database {
    let database = Database::fresh().await;
    let sql = "select count((comms.create_and_enqueue_email('us@example.com', 'to-' || n || '@example.com', 'Number ' || n, '<p>Hello</p>', \
               max_attempts => 100) -> 'job') ->> 'job_id') from generate_series(1, $1::bigint) as n";
    database.one(sql, &[&number]).await;
    database
}

async fn through_resend(
    name: &'static str,
    number: i64,
    kills: usize,
    keys: Idempotency,
) -> Outcome {
    let provider = Provider::start(Resend { keys }).await;
    let trial = Trial {
        name,
        queue: "email",
        provider: &provider,
        variables: vec![
            ("email_provider", "resend"),
            ("email_url", &provider.url),
            ("email_host", &provider.url),
            ("resend_api_key", API_KEY),
        ],
        is_delivery: |_| true,
        kills,
    };
    trial.run(with_emails(number).await).await
}

async fn through_postmark(name: &'static str, number: i64, kills: usize, policy: &str) -> Outcome {
    let provider = Provider::start(Postmark).await;
    let trial = Trial {
        name,
        queue: "email",
        provider: &provider,
        variables: vec![
            ("email_provider", "postmark"),
            ("email_url", &provider.url),
            ("email_host", &provider.url),
            ("postmark_server_token", TOKEN),
            ("email_ambiguous", policy),
        ],
        is_delivery: |_| true,
        kills,
    };
    trial.run(with_emails(number).await).await
}

#[tokio::test]
async fn a_provider_with_idempotency_keys_sends_each_email_exactly_once() {
    let number = deliveries(3000);
    let keys = Idempotency::new(Duration::from_secs(24 * 3600));
    let outcome = through_resend("email, Resend", number, 8, keys).await;
    assert_eq!((outcome.succeeded, outcome.dead), (number, 0));
    assert_eq!(outcome.effects.len() as i64, number);
    assert_eq!(outcome.duplicates(), 0);
}

#[tokio::test]
async fn a_provider_that_forgets_its_keys_sends_some_emails_twice() {
    let number = deliveries(300);
    let keys = Idempotency::new(Duration::ZERO);
    let outcome = through_resend("email, Resend without a memory", number, 1, keys).await;
    assert_eq!(outcome.effects.len() as i64, number);
    assert!(outcome.duplicates() > 0, "the counts above prove nothing");
}

#[tokio::test]
async fn a_provider_without_keys_sends_each_email_at_least_once() {
    let number = deliveries(1500);
    let outcome = through_postmark("email, Postmark, retry", number, 4, "retry").await;
    assert_eq!((outcome.succeeded, outcome.dead), (number, 0));
    assert_eq!(outcome.effects.len() as i64, number);
    assert!(outcome.duplicates() > 0, "nothing was ambiguous");
}

#[tokio::test]
async fn a_provider_without_keys_sends_no_email_twice_where_the_channel_is_told_so() {
    let number = deliveries(1500);
    let outcome = through_postmark("email, Postmark, dead", number, 4, "dead").await;
    assert_eq!(outcome.succeeded + outcome.dead, number);
    assert!(outcome.dead > 0, "nothing was ambiguous");
    assert_eq!(outcome.duplicates(), 0);
    // What succeeded was sent, and some of the rest was.
    assert!(outcome.effects.len() as i64 >= outcome.succeeded);
}
