//! With nothing configured a channel keeps what it would have sent.

use millrace_tests::app::App;
use millrace_tests::channel::{fate, run};
use serde_json::{Value, json};

async fn enqueue(app: &App, sql: &str) -> i64 {
    let answer: Value = app
        .database
        .one(&format!("select comms.{sql}"), &[])
        .await
        .get(0);
    answer["job"]["job_id"].as_i64().expect("a job")
}

#[tokio::test]
async fn the_first_run_keeps_an_email_and_a_text_message() {
    let app = App::start().await;
    let email = enqueue(
        &app,
        "create_and_enqueue_email('Shop <shop@example.com>', 'Ann <ann@example.com>', 'Your order', '<p>Thanks!</p>', text => 'Thanks!')",
    )
    .await;
    let sms = enqueue(
        &app,
        "create_and_enqueue_sms('+49 151 12345678', 'On its way')",
    )
    .await;
    let summary = run(&app, "email").await;
    assert_eq!(summary["done"], 1, "{summary}");
    run(&app, "sms").await;

    let sql = "select id, recipient, subject, html, text, request from millrace.preview where job_id = $1";
    let row = app.database.one(sql, &[&email]).await;
    let id: i64 = row.get(0);
    assert_eq!(
        fate(&app.database, email).await.result["id"],
        format!("preview:{id}")
    );
    let texts: [Option<String>; 4] = [row.get(1), row.get(2), row.get(3), row.get(4)];
    let expected = [
        "Ann <ann@example.com>",
        "Your order",
        "<p>Thanks!</p>",
        "Thanks!",
    ];
    assert_eq!(texts.each_ref().map(|it| it.as_deref()), expected.map(Some));
    let request: Value = row.get(5);
    assert_eq!(
        request,
        json!({ "from": "Shop <shop@example.com>", "reply_to": null })
    );

    let row = app.database.one(sql, &[&sms]).await;
    let texts: [Option<String>; 4] = [row.get(1), row.get(2), row.get(3), row.get(4)];
    assert_eq!(
        texts.each_ref().map(|it| it.as_deref()),
        [Some("+4915112345678"), None, None, Some("On its way")]
    );
}

/// A message that could not be sent is no success on a laptop either.
#[tokio::test]
async fn an_impossible_message_is_dead_in_preview_too() {
    let app = App::start().await;
    let job = enqueue(&app, "create_and_enqueue_email('f', 't', 's', 'h')").await;
    run(&app, "email").await;
    let fate = fate(&app.database, job).await;
    assert_eq!(
        (fate.state.as_str(), fate.code.as_str()),
        ("dead", "invalid_message")
    );
    assert_eq!(fate.message, "from_address is not one email address");
}
