//! With nothing configured nobody is called: messages are kept.

use millrace_tests::app::App;
use millrace_tests::provider::Provider;
use reqwest::Method;
use serde_json::json;

use super::{Receiver, taking};

#[tokio::test]
async fn with_nothing_configured_messages_are_kept() {
    let app = App::start().await;
    let receiver = Provider::start(taking as Receiver).await;
    let sql = "select millrace.create_webhook_endpoint('acme', $1)";
    let secret: String = app
        .database
        .one(sql, &[&format!("{}/", receiver.url)])
        .await
        .get(0);
    let registered = "select millrace.job_uuid(millrace.enqueue_webhook('acme', 'invoice.paid', '{\"n\": 10000000000000000000001}'))::text";
    let registered: String = app.database.one(registered, &[]).await.get(0);
    let other = "select millrace.job_uuid(millrace.enqueue('webhook', 'x.y', '{\"url\": \"https://a.example/<script>\"}'))::text";
    let other: String = app.database.one(other, &[]).await.get(0);

    let look = app.api.get("/channels/webhook").await.ok();
    assert_eq!(look["state"], "ready", "{look}");
    assert!(
        look["detail"]
            .as_str()
            .is_some_and(|detail| detail.starts_with("preview")),
        "{look}"
    );
    let request = app.api.request(Method::POST, "/channels/webhook");
    let run = app.api.send(request).await.ok();
    assert_eq!(run["done"], 2, "{run}");
    assert_eq!(receiver.count(), 0);

    let kept = app.api.get(&format!("/preview/{registered}")).await;
    assert!(
        kept.text.contains("10000000000000000000001") && !kept.text.contains(&secret),
        "{}",
        kept.text
    );
    let kept = kept.ok();
    assert_eq!(
        (&kept["channel"], &kept["to"], &kept["subject"]),
        (&json!("webhook"), &json!("acme"), &json!("invoice.paid"))
    );
    assert_eq!(
        (&kept["request"]["method"], &kept["request"]["signatures"]),
        (&json!("POST"), &json!(1))
    );
    // It says beforehand what sending would run into.
    let refused = kept["request"]["refused"].as_str().unwrap_or_default();
    assert!(refused.contains("webhook_allow_http"), "{kept}");
    let kept = app.api.get(&format!("/preview/{other}")).await.ok();
    assert_eq!(
        (&kept["to"], &kept["request"]["signatures"]),
        (&json!("https://a.example/<script>"), &json!(0))
    );
}
