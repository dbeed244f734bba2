//! Addresses that nothing is sent to any more: remembered when a provider says so or by hand, skipped, listed, and lifted.

use millrace_tests::channel::{fate, run};
use millrace_tests::database::{Database, refusal};
use millrace_tests::provider::Fault;
use millrace_tests::providers::{postmark::Postmark, twilio::Twilio};
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;

use super::Delivering;

async fn enqueue(database: &Database, sql: &str) -> i64 {
    let answer: Value = database
        .one(&format!("select comms.{sql}"), &[])
        .await
        .get(0);
    answer["job"]["job_id"].as_i64().expect("a job")
}

async fn email(database: &Database, to: &str) -> i64 {
    enqueue(
        database,
        &format!("create_and_enqueue_email('f@example.com', '{to}', 's', 'h')"),
    )
    .await
}

async fn yes(database: &Database, sql: &str) -> bool {
    database
        .one(&format!("select comms.{sql}"), &[])
        .await
        .get(0)
}

#[tokio::test]
async fn an_inactive_address_is_asked_about_once() {
    let delivering = Delivering::<Postmark>::start().await;
    let database = &delivering.app.database;
    delivering
        .provider
        .plan([Fault::Told("406 inactive recipient")]);
    let first = email(database, "Ann <Ann@Example.com>").await;
    delivering.run().await;
    let told = fate(database, first).await;
    assert_eq!(
        (told.state.as_str(), told.code.as_str()),
        ("dead", "recipient_inactive"),
        "{told:?}"
    );

    let mut skipped = Vec::new();
    for to in [
        "ann@example.com",
        " ANN@example.com ",
        "\"A\" <ann@example.com>",
    ] {
        skipped.push(email(database, to).await);
    }
    let other = email(database, "ann@example.org").await;
    delivering.run().await;
    for job in &skipped {
        let fate = fate(database, *job).await;
        assert_eq!(
            (fate.state.as_str(), fate.code.as_str()),
            ("dead", "suppressed"),
            "{fate:?}"
        );
        assert_eq!(
            fate.message,
            "nothing is sent to this address: inactive_recipient"
        );
    }
    assert_eq!(fate(database, other).await.state, "succeeded");
    assert_eq!(
        delivering.provider.requests().len(),
        2,
        "the first and the other"
    );

    let row = database
        .one(
            "select address, reason, provider from comms.suppressions('email')",
            &[],
        )
        .await;
    let listed: [String; 3] = [row.get(0), row.get(1), row.get(2)];
    assert_eq!(
        listed,
        ["ann@example.com", "inactive_recipient", "Postmark"]
    );

    // Lifted, a dead letter can be sent after all.
    assert!(yes(database, "lift_suppression('email', 'ANN@example.com')").await);
    let sql = "select millrace.replay(d.id) from millrace.dead_letter d where d.job_id = $1";
    let replay: i64 = database.one(sql, &[&skipped[0]]).await.get(0);
    delivering.run().await;
    assert_eq!(fate(database, replay).await.state, "succeeded");
}

#[tokio::test]
async fn a_number_that_said_stop_is_skipped_in_every_spelling() {
    let delivering = Delivering::<Twilio>::start().await;
    let database = &delivering.app.database;
    delivering
        .provider
        .plan([Fault::Told("21610 unsubscribed")]);
    enqueue(database, "create_and_enqueue_sms('+4915112345678', 'b')").await;
    delivering.run().await;
    let again = enqueue(
        database,
        "create_and_enqueue_sms('+49 (151) 123-456.78', 'b')",
    )
    .await;
    delivering.run().await;
    assert_eq!(fate(database, again).await.code, "suppressed");
    assert_eq!(delivering.provider.requests().len(), 1);
}

#[tokio::test]
async fn suppressions_are_kept_by_hand_as_well() {
    let database = Database::fresh().await;
    assert!(
        yes(
            &database,
            "suppress('email', 'B <b@example.com>', 'asked by telephone')"
        )
        .await
    );
    assert!(
        !yes(&database, "suppress('email', 'B@EXAMPLE.com')").await,
        "the first reason stays"
    );
    assert!(yes(&database, "suppress('email', 'a@example.com')").await);
    assert!(
        yes(&database, "suppress('sms', '+49 151 1')").await,
        "another channel's"
    );
    let sql = "select address || ' ' || reason from comms.suppressions('email', after => $1, max_rows => 1)";
    let page = async |after: &str| -> Vec<String> {
        let rows = database.all(sql, &[&after]).await;
        rows.iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(page("").await, ["a@example.com manual"]);
    assert_eq!(
        page("a@example.com").await,
        ["b@example.com asked by telephone"]
    );
    assert_eq!(page("b@example.com").await, Vec::<String>::new());
    assert!(!yes(&database, "lift_suppression('sms', 'a@example.com')").await);

    for bad in [
        "suppress('fax', 'a')",
        "suppress(null, 'a')",
        "suppress('email', ' ')",
        "suppress('email', null)",
        "suppress('email', repeat('a', 321))",
    ] {
        let error = database
            .client()
            .query(&format!("select comms.{bad}"), &[])
            .await
            .expect_err(bad);
        assert_eq!(
            refusal(&error),
            ("PT400".to_owned(), "invalid_request".to_owned()),
            "{bad}"
        );
    }
}

/// A worker of the customer's own is told too; the payload of others is what it was.
#[tokio::test]
async fn face_1_says_so_and_is_else_as_it_was() {
    let database = Database::fresh().await;
    email(&database, "a@example.com").await;
    email(&database, "b@example.com").await;
    database
        .run("select comms.suppress('email', 'b@example.com')")
        .await;
    let fetch = async || -> Value {
        let sql = "select service_api.fetch_next_task('w', 60, 'email') -> 'payload'";
        database.one(sql, &[]).await.get(0)
    };
    let mut expected = json!({ "message_id": 1, "from_address": "f@example.com", "to_address": "a@example.com", "subject": "s", "html": "h" });
    assert_eq!(fetch().await, expected);
    expected["message_id"] = 2.into();
    expected["to_address"] = "b@example.com".into();
    expected["suppressed"] = "manual".into();
    assert_eq!(fetch().await, expected);
}

/// A payload that is no object is handed on as it is.
#[tokio::test]
async fn a_payload_of_another_shape_is_not_touched() {
    let delivering = Delivering::<Postmark>::start().await;
    let database = &delivering.app.database;
    for payload in ["[1, 2]", "\"text\"", "5", "{}"] {
        let sql = "select (millrace.channel_payload('email', 0, $1::text::jsonb)).payload::text";
        let same: String = database.one(sql, &[&payload]).await.get(0);
        assert_eq!(same, payload);
    }
    run(&delivering.app, "email").await;
}

#[tokio::test]
async fn strangers_may_not_look_nor_suppress() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let statements = [
        "select * from comms.suppression",
        "delete from comms.suppression",
        "select * from comms.suppressions('email')",
        "select comms.suppress('email', 'a@example.com')",
        "select comms.lift_suppression('email', 'a@example.com')",
        "select * from comms.email_template",
        "select comms.put_email_template('t', 's', 'h')",
        "select comms.drop_email_template('t')",
        "select comms.create_and_enqueue_email_from('t', 'f', 't', '{}')",
        "select comms.create_and_enqueue_sms_from('t', 'n', '{}')",
    ];
    let mut refused = 0;
    for role in ["anon", "authenticated", "millrace_functions"] {
        for sql in statements {
            let sql = format!("set role {role}; {sql}");
            let error = client.batch_execute(&sql).await.expect_err(&sql);
            assert_eq!(
                error.code(),
                Some(&SqlState::INSUFFICIENT_PRIVILEGE),
                "{sql}"
            );
            client.batch_execute("reset role").await.expect("the owner");
            refused += 1;
        }
    }
    let allowed = "set role millrace_client; select comms.suppress('email', 'a@example.com'); select * from comms.suppressions('email');
                   select comms.put_email_template('t', 's', 'h'); select comms.create_and_enqueue_email_from('t', 'f', 't', '{}'); reset role";
    client
        .batch_execute(allowed)
        .await
        .expect("a client's rights");
    println!("deliveries: {refused} statements without a right to suppressions and templates");
}
