//! Registered endpoints: rotation of their secrets, 410, disabling and enabling, and what their SQL functions refuse.

use std::time::Duration;

use millrace_tests::database::refusal;
use millrace_tests::deadline::eventually;
use millrace_tests::provider::{Answer, Fault, Ledger, Seen};
use serde_json::{Value, json};

use super::{Receiver, Sending, is_signed, taking};

const DAY: f64 = 86400.0;

#[tokio::test]
async fn both_secrets_sign_while_one_takes_the_place_of_the_other() {
    let sending = Sending::start().await;
    let database = &sending.app.database;
    let first = sending.register("acme").await;
    let rotate = "select millrace.rotate_webhook_secret('acme', overlap => '2 days')";
    let second: String = database.one(rotate, &[]).await.get(0);
    let own = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let secrets = [first.as_str(), second.as_str(), own];

    // Which secrets sign the next message.
    let signing = async || {
        sending.tell("acme", Value::Null).await;
        sending.run().await;
        let seen = sending.receiver.requests().pop().expect("a request");
        let count = seen.header("webhook-signature").split(' ').count();
        (secrets.map(|secret| is_signed(&seen, secret)), count)
    };
    assert_eq!(signing().await, ([true, true, false], 2));
    database.set_clock_ahead(DAY).await;
    let rotate = "select millrace.rotate_webhook_secret('acme', $1, overlap => '1 day')";
    database.one(rotate, &[&own]).await;
    assert_eq!(signing().await, ([true, true, true], 3));
    database.set_clock_ahead(2.0 * DAY + 60.0).await;
    assert_eq!(signing().await, ([false, false, true], 1));
    // At once, when a secret got out.
    let rotate = "select millrace.rotate_webhook_secret('acme', overlap => '0')";
    database.one(rotate, &[]).await;
    assert_eq!(signing().await, ([false, false, false], 1));
    // However often it is rotated, the header stays short.
    for _ in 0..10 {
        database
            .one("select millrace.rotate_webhook_secret('acme')", &[])
            .await;
    }
    assert_eq!(signing().await.1, 5);
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_sent_nothing_more() {
    let sending = Sending::start().await;
    let database = &sending.app.database;
    sending.register("acme").await;
    sending.register("other").await;
    sending.receiver.plan([Fault::ErrorBeforeActing(410)]);
    let gone = sending.tell("acme", json!({ "n": 1 })).await;
    sending.run().await;
    assert_eq!(sending.codes(gone).await, ["gone"]);

    let (late, other) = (
        sending.tell("acme", json!({ "n": 2 })).await,
        sending.tell("other", json!({})).await,
    );
    sending.run().await;
    assert_eq!(
        (sending.codes(late).await, sending.codes(other).await),
        (vec!["endpoint_disabled".to_owned()], vec![String::new()])
    );
    assert_eq!(sending.receiver.count(), 2);
    let listed = database.one("select disabled_reason, disabled_at is not null, live_secrets from millrace.webhook_endpoints() where name = 'acme'", &[]).await;
    assert_eq!(
        (listed.get(0), listed.get(1), listed.get(2)),
        (Some("it answered 410 Gone"), true, 1)
    );

    database
        .run("select millrace.enable_webhook_endpoint('acme')")
        .await;
    let replayed: i64 = database
        .one("select millrace.replay($1)", &[&late])
        .await
        .get(0);
    sending.run().await;
    assert_eq!(sending.state(replayed).await, "succeeded");
    assert_eq!(
        sending
            .receiver
            .requests()
            .pop()
            .map(|seen| seen.json()["data"].clone()),
        Some(json!({ "n": 2 }))
    );
}

#[tokio::test]
async fn a_url_that_is_gone_disables_no_endpoint_that_moved_on() {
    let sending = Sending::start().await;
    let database = &sending.app.database;
    sending.register("acme").await;
    let gone = "select millrace_api.webhook_gone('{\"endpoint\": \"acme\", \"url\": \"https://before.example/\"}') ->> 'disabled'";
    assert_eq!(database.one(gone, &[]).await.get::<_, String>(0), "false");
    sending.receiver.plan([Fault::ErrorBeforeActing(410)]);
    let job = sending
        .enqueue(&json!({ "url": format!("{}/x", sending.receiver.url) }))
        .await;
    sending.run().await;
    assert_eq!(sending.codes(job).await, ["gone"]);
    let disabled =
        "select count(*) from millrace.webhook_endpoints() where disabled_at is not null";
    assert_eq!(database.one(disabled, &[]).await.get::<_, i64>(0), 0);
}

/// Gone where it was registered, and well anywhere else.
fn moving(seen: &Seen, ledger: &mut Ledger) -> Answer {
    match seen.path() {
        "/hook/acme" => Answer::empty(410),
        _ => taking(seen, ledger),
    }
}

#[tokio::test]
async fn a_message_follows_an_endpoint_that_moves_while_it_is_told() {
    let sending = Sending::start().await;
    let database = &sending.app.database;
    sending.register("acme").await;
    sending
        .receiver
        .service(|receiver| *receiver = moving as Receiver);
    // Time enough to move.
    let slow = Fault::SlowToAct(Duration::from_secs(2));
    sending.receiver.plan([slow]);
    let job = sending.tell("acme", Value::Null).await;
    let moved = format!("{}/elsewhere", sending.receiver.url);
    let moves = async {
        eventually("the receiver is asked", async || {
            (sending.receiver.count() > 0).then_some(())
        })
        .await;
        let sql = "select millrace.set_webhook_url('acme', $1)";
        database.one(sql, &[&moved]).await;
    };
    tokio::join!(sending.run(), moves);
    assert_eq!(sending.codes(job).await, ["endpoint_moved"]);
    database.set_clock_ahead(3600.0).await;
    sending.run().await;
    assert_eq!(sending.codes(job).await, ["endpoint_moved", ""]);
    assert_eq!(sending.receiver.requests()[1].target, "/elsewhere");
}

#[tokio::test]
async fn by_hand_an_endpoint_is_moved_disabled_and_deleted() {
    let sending = Sending::start().await;
    let database = &sending.app.database;
    sending.register("acme").await;
    let moved = format!("{}/elsewhere", sending.receiver.url);
    database
        .one("select millrace.set_webhook_url('acme', $1)", &[&moved])
        .await;
    sending.tell("acme", Value::Null).await;
    sending.run().await;
    assert_eq!(sending.receiver.requests()[0].target, "/elsewhere");
    database
        .run("select millrace.disable_webhook_endpoint('acme', 'they asked for it')")
        .await;
    let waiting = sending.tell("acme", Value::Null).await;
    sending.run().await;
    assert_eq!(sending.codes(waiting).await, ["endpoint_disabled"]);
    database
        .run("select millrace.delete_webhook_endpoint('acme')")
        .await;
    let secrets = database
        .one("select count(*) from millrace.webhook_secret", &[])
        .await;
    assert_eq!(secrets.get::<_, i64>(0), 0);
}

#[tokio::test]
async fn what_is_no_endpoint_is_refused() {
    let sending = Sending::start().await;
    let client = sending.app.database.client();
    sending.register("acme").await;
    let long = format!(
        "select millrace.create_webhook_endpoint('b', 'https://a.example/{}')",
        "x".repeat(2048)
    );
    let mut refused = 0;
    for (statement, status, code) in [
        (
            "select millrace.create_webhook_endpoint('acme', 'https://a.example/')",
            "PT409",
            "endpoint_exists",
        ),
        (
            "select millrace.create_webhook_endpoint('', 'https://a.example/')",
            "PT400",
            "invalid_request",
        ),
        (
            "select millrace.create_webhook_endpoint('a b', 'https://a.example/')",
            "PT400",
            "invalid_request",
        ),
        (
            "select millrace.create_webhook_endpoint(null, 'https://a.example/')",
            "PT400",
            "invalid_request",
        ),
        (
            "select millrace.create_webhook_endpoint('b', null)",
            "PT400",
            "invalid_request",
        ),
        (
            "select millrace.create_webhook_endpoint('b', 'a.example')",
            "PT400",
            "invalid_request",
        ),
        (
            "select millrace.create_webhook_endpoint('b', 'ftp://a.example/')",
            "PT400",
            "invalid_request",
        ),
        (
            "select millrace.create_webhook_endpoint('b', 'https://u:w@a.example/')",
            "PT400",
            "invalid_request",
        ),
        (
            "select millrace.create_webhook_endpoint('b', E'https://a.example/\\r\\nx')",
            "PT400",
            "invalid_request",
        ),
        (&long, "PT400", "invalid_request"),
        (
            "select millrace.create_webhook_endpoint('b', 'https://a.example/', 'secret')",
            "PT400",
            "invalid_request",
        ),
        (
            "select millrace.create_webhook_endpoint('b', 'https://a.example/', 'whsec_c2hvcnQ=')",
            "PT400",
            "invalid_request",
        ),
        (
            "select millrace.create_webhook_endpoint('b', 'https://a.example/', 'whsec_!')",
            "PT400",
            "invalid_request",
        ),
        (
            "select millrace.rotate_webhook_secret('acme', overlap => '-1 s')",
            "PT400",
            "invalid_request",
        ),
        (
            "select millrace.rotate_webhook_secret('acme', overlap => null)",
            "PT400",
            "invalid_request",
        ),
        (
            "select millrace.rotate_webhook_secret('b')",
            "PT404",
            "endpoint_not_found",
        ),
        (
            "select millrace.set_webhook_url('b', 'https://a.example/')",
            "PT404",
            "endpoint_not_found",
        ),
        (
            "select millrace.set_webhook_url('acme', 'x')",
            "PT400",
            "invalid_request",
        ),
        (
            "select millrace.disable_webhook_endpoint('b')",
            "PT404",
            "endpoint_not_found",
        ),
        (
            "select millrace.enable_webhook_endpoint('b')",
            "PT404",
            "endpoint_not_found",
        ),
        (
            "select millrace.delete_webhook_endpoint('b')",
            "PT404",
            "endpoint_not_found",
        ),
        (
            "select millrace.enqueue_webhook('b', 'a.b')",
            "PT404",
            "endpoint_not_found",
        ),
        (
            "select millrace.enqueue_webhook('acme', 'a b')",
            "PT400",
            "invalid_request",
        ),
        (
            "select millrace.enqueue_webhook('acme', 'a..b')",
            "PT400",
            "invalid_request",
        ),
        (
            "select millrace.enqueue_webhook('acme', null)",
            "PT400",
            "invalid_request",
        ),
    ] {
        let error = client.batch_execute(statement).await.expect_err(statement);
        assert_eq!(
            refusal(&error),
            (status.to_owned(), code.to_owned()),
            "{statement}"
        );
        refused += 1;
    }
    println!("{refused} statements refused");
}
