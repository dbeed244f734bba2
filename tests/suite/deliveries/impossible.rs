//! Messages that cannot be sent as they are, most of them made to add a header or a recipient: refused where they are enqueued, or
//! dead without anybody having been asked.

use millrace_tests::channel::run;
use millrace_tests::database::refusal;
use millrace_tests::providers::{resend::Resend, twilio::Twilio};
use millrace_tests::queue;
use serde_json::{Value, json};

use super::Delivering;
use super::known::Known;

/// Fields of an email that is fine but for one of them.
fn email(field: &str, value: &str) -> Value {
    let mut payload = json!({ "from_address": "f@example.com", "to_address": "t@example.com", "subject": "s", "html": "h" });
    payload[field] = value.into();
    payload
}

fn sms(field: &str, value: &str) -> Value {
    let mut payload = json!({ "to_number": "+4915112345678", "body": "b" });
    payload[field] = value.into();
    payload
}

/// Enqueues jobs as any face can, with all of their payloads; each is dead after a run that asked nobody.
async fn each_is_dead<P: Known>(payloads: &[Value]) {
    let delivering = Delivering::<P>::start().await;
    let database = &delivering.app.database;
    let mut jobs = Vec::new();
    for payload in payloads {
        let request = json!({ "queue": P::CHANNEL, "type": P::CHANNEL, "payload": payload });
        jobs.push(queue::enqueue(database.client(), request).await);
    }
    run(&delivering.app, P::CHANNEL).await;
    for (job, payload) in jobs.iter().zip(payloads) {
        let fate = millrace_tests::channel::fate(database, *job).await;
        assert_eq!(
            (fate.state.as_str(), fate.code.as_str()),
            ("dead", "invalid_message"),
            "{payload}: {fate:?}"
        );
        assert!(!fate.message.contains("evil"), "{}", fate.message);
    }
    assert_eq!(delivering.provider.requests().len(), 0);
    println!(
        "deliveries: {}: {} impossible messages",
        P::CHANNEL,
        payloads.len()
    );
}

#[tokio::test]
async fn emails_that_cannot_be_sent_are_dead() {
    let addresses = [
        "",
        "evil",
        "evil@",
        "@evil.example",
        "evil@localhost",
        "evil@[127.0.0.1]",
        "t@example.com,evil@example.com",
        "t@example.com, evil@example.com",
        "t@example.com;evil@example.com",
        "t@example.com evil@example.com",
        "T <t@example.com>, E <evil@example.com>",
        "\"T\" <t@example.com>, \"E\" <evil@example.com>",
        "T <t@example.com> <evil@example.com>",
        "t@example.com\r\nBcc: evil@example.com",
        "t@example.com\nBcc: evil@example.com",
        "t@example.com\rBcc: evil@example.com",
        "T\r\nBcc: evil@example.com\r\n <t@example.com>",
        "\"T\r\nBcc: evil@example.com\" <t@example.com>",
        "t@example.com\u{85}Bcc: evil@example.com",
    ];
    let mut payloads = Vec::new();
    for field in ["from_address", "to_address", "reply_to"] {
        payloads.extend(addresses.map(|address| email(field, address)));
    }
    for subject in [
        " ",
        "s\r\nBcc: evil@example.com",
        "s\nevil",
        "s\revil",
        "s\tevil",
        "s\u{85}evil",
        "s\u{7f}",
    ] {
        payloads.push(email("subject", subject));
    }
    payloads.push(email("html", " \r\n"));
    payloads.extend([
        json!({}),
        json!([]),
        json!("evil"),
        json!({ "from_address": 5 }),
    ]);
    each_is_dead::<Resend>(&payloads).await;
}

#[tokio::test]
async fn text_messages_that_cannot_be_sent_are_dead() {
    let numbers = [
        "",
        "evil",
        "4915112345678",
        "004915112345678",
        "+49",
        "+0915112345678",
        "+49151123456789012",
        "+4915112345678,+4915100000000",
        "+4915112345678;+4915100000000",
        "+4915112345678 +4915100000000",
        "+4915112345678&From=evil",
        "+4915112345678\r\nevil",
        "whatsapp:+4915112345678",
        "+４９１５１１２３４５６７８",
    ];
    let mut payloads: Vec<_> = numbers
        .iter()
        .map(|number| sms("to_number", number))
        .collect();
    payloads.extend([sms("body", " "), sms("body", &"a".repeat(1601)), json!({})]);
    each_is_dead::<Twilio>(&payloads).await;
}

#[tokio::test]
async fn control_characters_are_refused_where_an_email_is_enqueued() {
    let delivering = Delivering::<Resend>::start().await;
    let database = &delivering.app.database;
    let mut refused = 0;
    for control in ["\r\n", "\n", "\r", "\t", "\u{1}", "\u{7f}", "\u{85}"] {
        for (position, field) in ["from_address", "to_address", "subject", "reply_to"]
            .iter()
            .enumerate()
        {
            let mut texts =
                ["f@example.com", "t@example.com", "s", "r@example.com"].map(str::to_owned);
            texts[position].push_str(&format!("{control}Bcc: evil@example.com"));
            let sql = "select comms.create_and_enqueue_email($1, $2, $3, 'h', reply_to => $4)";
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
                [&texts[0], &texts[1], &texts[2], &texts[3]];
            let error = database
                .client()
                .query(sql, &parameters)
                .await
                .expect_err(field);
            assert_eq!(
                refusal(&error),
                ("PT400".to_owned(), "invalid_request".to_owned())
            );
            let message = error.as_db_error().expect("a refusal").message().to_owned();
            assert_eq!(message, format!("{field} has control characters"));
            refused += 1;
        }
    }
    let jobs: i64 = database
        .one("select count(*) from millrace.job", &[])
        .await
        .get(0);
    assert_eq!(jobs, 0);
    println!("deliveries: {refused} control characters refused at the enqueue");
}

/// What looks like markup of the wire is text there.
#[tokio::test]
async fn what_a_message_says_stays_in_its_field() {
    let delivering = Delivering::<Twilio>::start().await;
    let body = "a&To=%2B4915100000000&From=evil\r\n\r\nx=y";
    let job = queue::enqueue(
        delivering.app.database.client(),
        json!({ "queue": "sms", "type": "sms", "payload": { "to_number": "+49 151 12345678", "body": body } }),
    )
    .await;
    delivering.run().await;
    let fate = millrace_tests::channel::fate(&delivering.app.database, job).await;
    assert_eq!(fate.state, "succeeded");
    let request = &delivering.provider.requests()[0];
    let form = request.form();
    let fields: Vec<_> = form
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        fields,
        [
            ("Body", body),
            ("From", "+15550100000"),
            ("To", "+4915112345678")
        ]
    );

    let delivering = Delivering::<Resend>::start().await;
    let payload = json!({
        "from_address": "\"Shop \\\"x\\\" <evil@example.com>, y\" <shop@example.com>", "to_address": "t@example.com",
        "subject": "\", \"bcc\": \"evil@example.com", "html": "</p>\r\nBcc: evil@example.com",
    });
    let request = json!({ "queue": "email", "type": "email", "payload": payload });
    queue::enqueue(delivering.app.database.client(), request).await;
    delivering.run().await;
    let sent = delivering.provider.requests()[0].json();
    assert_eq!(sent["from"], payload["from_address"]);
    assert_eq!(sent["subject"], payload["subject"]);
    assert_eq!(sent["html"], payload["html"]);
    assert_eq!(sent["to"], json!(["t@example.com"]));
    assert!(sent["bcc"].is_null());
}
