//! Webhooks: to a receiver that knows a message again by its `webhook-id`, as Standard Webhooks asks of it, and to one that does not.

use std::collections::HashSet;

use millrace_tests::database::Database;
use millrace_tests::provider::{Answer, Ledger, Provider, Seen};

use super::{Outcome, Trial, deliveries};

/// Acts once for each `webhook-id`, or, where it does not look at that, for each request.
async fn to_receiver(name: &'static str, number: i64, kills: usize, looks: bool) -> Outcome {
    let mut known = HashSet::new();
    let provider = Provider::start(move |request: &Seen, ledger: &mut Ledger| {
        let id = request.header("webhook-id").to_owned();
        if request.method != "POST" || id.is_empty() {
            return Answer::empty(400);
        }
        let data = request.json()["data"]["number"].to_string();
        if known.insert(id) || !looks {
            ledger.act(data, "told");
        }
        Answer::json(200, &serde_json::json!({ "taken": true }))
    })
    .await;
    let trial = Trial {
        name,
        queue: "webhook",
        provider: &provider,
        variables: vec![
            ("webhook_mode", "send"),
            ("webhook_allow_http", "1"),
            ("webhook_allow_private", "1"),
            ("webhook_private_host", &provider.url),
            ("webhook_timeout_seconds", "1"),
        ],
        is_delivery: |_| true,
        kills,
    };
    trial.run(with_messages(number, &provider.url).await).await
}

/// A database with so many messages for one endpoint, each of another event.
async fn with_messages(number: i64, url: &str) -> Database {
    let database = Database::fresh().await;
    let sql = "select millrace.create_webhook_endpoint('receiver', $1)";
    database.one(sql, &[&format!("{url}/hook")]).await;
    database
        .run("select millrace.configure_queue('webhook', max_attempts => 100)")
        .await;
    let sql = "select count(millrace.enqueue_webhook('receiver', 'counted', jsonb_build_object('number', n))) \
               from generate_series(1, $1::bigint) as n";
    database.one(sql, &[&number]).await;
    database
}

#[tokio::test]
async fn a_receiver_that_looks_at_the_id_is_told_exactly_once() {
    let number = deliveries(3000);
    let outcome = to_receiver("webhook", number, 8, true).await;
    assert_eq!((outcome.succeeded, outcome.dead), (number, 0));
    assert_eq!(outcome.effects.len() as i64, number);
    assert_eq!(outcome.duplicates(), 0);
}

#[tokio::test]
async fn a_receiver_that_does_not_is_told_some_things_twice() {
    let number = deliveries(300);
    let outcome = to_receiver("webhook, id not looked at", number, 1, false).await;
    assert_eq!(outcome.effects.len() as i64, number);
    assert!(outcome.duplicates() > 0, "the counts above prove nothing");
}
