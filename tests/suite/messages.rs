//! Emails and text messages: made together with their jobs or not at all, found again by whoever claims them, and gone when
//! their jobs are.

use millrace_tests::database::{Database, refusal};
use millrace_tests::queue::{self, Outcome, claim_one};
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;

async fn call(database: &Database, sql: &str) -> Value {
    database.one(&format!("select {sql}"), &[]).await.get(0)
}

async fn count(database: &Database, from: &str) -> i64 {
    let sql = format!("select count(*) from {from}");
    database.one(&sql, &[]).await.get(0)
}

/// The job of an email that is to be sent.
async fn email(database: &Database) -> i64 {
    let made = call(
        database,
        "comms.create_and_enqueue_email('from@example.com', 'to@example.com', 'Hello', '<p>Hello</p>')",
    )
    .await;
    made["job"]["job_id"].as_i64().expect("a job")
}

/// What the worker of a channel gets next.
async fn fetch(database: &Database, channel: &str) -> Value {
    let sql = format!("service_api.fetch_next_task('w', task_type => '{channel}')");
    call(database, &sql).await
}

#[tokio::test]
async fn a_message_comes_with_its_job() {
    let database = Database::fresh().await;
    database.stop_clock_at("2030-05-01 12:00:00+00").await;
    let made = call(
        &database,
        "comms.create_and_enqueue_email(from_address => 'from@example.com', to_address => 'to@example.com', subject => 'Hello', \
         html => '<p>Hello</p>', scheduled_at => '2030-05-01 14:30+02', priority => 9, max_attempts => 2)",
    )
    .await;
    let expected = json!({
        "validation_failure_message": null,
        "job": {"job_id": 1, "task_type": "email", "resource_id": 1, "priority": 9, "scheduled_at": "2030-05-01T12:30:00+00:00"}
    });
    assert_eq!(made, expected);
    let made = call(&database, "comms.create_and_enqueue_sms('+15550100', 'Hi')").await;
    let expected = json!({
        "validation_failure_message": null,
        "job": {"job_id": 2, "task_type": "sms", "resource_id": 1, "priority": 5, "scheduled_at": "2030-05-01T12:00:00+00:00"}
    });
    assert_eq!(made, expected);

    let rows = database
        .all("select to_jsonb(m) from comms.email_message m", &[])
        .await;
    let expected = json!({
        "id": 1, "from_address": "from@example.com", "to_address": "to@example.com", "subject": "Hello", "html": "<p>Hello</p>",
        "text": null, "reply_to": null, "job_id": 1, "created_at": "2030-05-01T12:00:00+00:00"
    });
    assert_eq!(rows[0].get::<_, Value>(0), expected);
    let jobs = database
        .all(
            "select q.name || '/' || j.type, j.payload, j.max_attempts from millrace.job j join millrace.queue q on q.id = j.queue_id order by j.id",
            &[],
        )
        .await;
    let jobs: Vec<(String, Value, Option<i32>)> = jobs
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect();
    let named = json!({ "message_id": 1 });
    assert_eq!(
        jobs,
        [
            ("email/email".to_owned(), named.clone(), Some(2)),
            ("sms/sms".to_owned(), named, None)
        ]
    );
}

#[tokio::test]
async fn what_is_missing_is_answered_in_order_and_nothing_is_written() {
    let database = Database::fresh().await;
    let email = "comms.create_and_enqueue_email";
    let sms = "comms.create_and_enqueue_sms";
    let cases = [
        (email, "null, null, null, null", "from_address_missing"),
        (email, "'', 't', 's', 'h'", "from_address_missing"),
        (email, "' \t\n', 't', 's', 'h'", "from_address_missing"),
        (email, "'f', null, null, null", "to_address_missing"),
        (email, "'f', ' ', 's', 'h'", "to_address_missing"),
        (email, "'f', 't', null, null", "subject_missing"),
        (email, "'f', 't', ' ', 'h'", "subject_missing"),
        (email, "'f', 't', 's', null", "html_missing"),
        (email, "'f', 't', 's', E'\\r\\n'", "html_missing"),
        (sms, "null, null", "to_number_missing"),
        (sms, "' ', 'b'", "to_number_missing"),
        (sms, "'n', null", "body_missing"),
        (sms, "'n', E'\\n'", "body_missing"),
    ];
    for (function, arguments, missing) in cases {
        let answer = call(&database, &format!("{function}({arguments})")).await;
        let expected = json!({ "validation_failure_message": missing, "job": null });
        assert_eq!(answer, expected, "{function}({arguments})");
    }
    for table in ["comms.email_message", "comms.sms_message", "millrace.job"] {
        assert_eq!(count(&database, table).await, 0, "{table}");
    }
    println!("messages: {} with something missing", cases.len());
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused_by_name() {
    let database = Database::fresh().await;
    let cases = [
        (
            "create_and_enqueue_email(repeat('f', 321), 't', 's', 'h')",
            "from_address",
        ),
        (
            "create_and_enqueue_email('f', repeat('t', 321), 's', 'h')",
            "to_address",
        ),
        (
            "create_and_enqueue_email('f', 't', repeat('s', 999), 'h')",
            "subject",
        ),
        (
            "create_and_enqueue_email('f', 't', 's', repeat('ü', 524289))",
            "html",
        ),
        ("create_and_enqueue_sms(repeat('1', 51), 'b')", "to_number"),
        ("create_and_enqueue_sms('n', repeat('b', 10001))", "body"),
        (
            "create_and_enqueue_sms('n', 'b', priority => 101)",
            "priority",
        ),
        (
            "create_and_enqueue_sms('n', 'b', idempotency_key => ' ')",
            "idempotency_key",
        ),
        (
            "create_and_enqueue_sms('n', 'b', max_attempts => 0)",
            "max_attempts",
        ),
        (
            "create_and_enqueue_sms('n', 'b', scheduled_at => 'infinity')",
            "run_at",
        ),
    ];
    for (function, field) in cases {
        let sql = format!("select comms.{function}");
        let error = database.client().query(&sql, &[]).await.expect_err(field);
        let code = ("PT400".to_owned(), "invalid_request".to_owned());
        assert_eq!(refusal(&error), code, "{field}");
        let message = error.as_db_error().expect("a refusal").message().to_owned();
        assert!(message.starts_with(field), "{message}");
    }
    assert_eq!(count(&database, "millrace.job").await, 0);
    // The longest that there may be.
    call(
        &database,
        "comms.create_and_enqueue_email(repeat('f', 320), repeat('t', 320), repeat('s', 998), repeat('h', 1048576))",
    )
    .await;
    println!("messages: {} out of bounds", cases.len());
}

#[tokio::test]
async fn a_known_idempotency_key_answers_with_the_first_message_s_job() {
    let database = Database::fresh().await;
    let again = "comms.create_and_enqueue_email('f', 't', 'other', 'other', priority => 1, idempotency_key => 'k')";
    let first = call(
        &database,
        "comms.create_and_enqueue_email('f', 't', 's', 'h', idempotency_key => 'k')",
    )
    .await;
    assert_eq!(call(&database, again).await, first);
    let fetched = fetch(&database, "email").await;
    assert_eq!(fetched["payload"]["subject"], "s");
    assert_eq!(
        call(&database, again).await,
        first,
        "while it is being sent"
    );
    let sql = "service_api.report_task_result('w', 1, 1, true)";
    assert_eq!(call(&database, sql).await["completed"], true);
    assert_eq!(call(&database, again).await, first, "after it was sent");
    assert_eq!(count(&database, "comms.email_message").await, 1);
    assert_eq!(count(&database, "millrace.job").await, 1);
    // The key is one channel's.
    let sms = "comms.create_and_enqueue_sms('n', 'b', idempotency_key => 'k')";
    assert_ne!(
        call(&database, sms).await["job"]["job_id"],
        first["job"]["job_id"]
    );
}

#[tokio::test]
async fn in_a_transaction_both_come_or_neither() {
    let database = Database::fresh().await;
    database
        .run("begin; select comms.create_and_enqueue_sms('n', 'b'); rollback")
        .await;
    assert_eq!(fetch(&database, "sms").await, json!({ "job": null }));
    assert_eq!(count(&database, "comms.sms_message").await, 0);
    database
        .run("begin; select comms.create_and_enqueue_sms('n', 'b'); commit")
        .await;
    assert_eq!(fetch(&database, "sms").await["payload"]["body"], "b");
}

/// Fails the email's only attempt for good and returns its dead letter.
async fn dead_letter(database: &Database) -> i64 {
    let lease = claim_one(database.client(), "email", "w").await;
    queue::report(database.client(), &lease, Outcome::Permanent)
        .await
        .expect("a report");
    let sql = "select id from millrace.dead_letter where job_id = $1";
    database.one(sql, &[&lease.job_id]).await.get(0)
}

#[tokio::test]
async fn a_replay_sends_the_same_message() {
    let database = Database::fresh().await;
    email(&database).await;
    for _ in 0..2 {
        let dead = dead_letter(&database).await;
        let sql = "select millrace.replay($1)";
        let replay: i64 = database.one(sql, &[&dead]).await.get(0);
        let sql = "select id from comms.email_message where job_id = $1";
        let message: i64 = database.one(sql, &[&replay]).await.get(0);
        assert_eq!(message, 1);
    }
    let other = email(&database).await;
    let fetched = fetch(&database, "email").await;
    assert_eq!(fetched["job"]["resource_id"], 1);
    assert_eq!(fetched["payload"]["html"], "<p>Hello</p>");
    let fetched = fetch(&database, "email").await;
    assert_eq!(fetched["job"]["job_id"], other);
    assert_eq!(count(&database, "comms.email_message").await, 2);
}

#[tokio::test]
async fn a_message_goes_when_its_job_is_forgotten_and_stays_for_a_replay() {
    let database = Database::fresh().await;
    database.stop_clock_at("2031-03-05 12:00:00+00").await;
    database.run("select millrace.make_partitions()").await;
    email(&database).await;
    let lease = claim_one(database.client(), "email", "w").await;
    queue::report(database.client(), &lease, Outcome::Succeeded)
        .await
        .expect("a report");
    call(&database, "comms.create_and_enqueue_sms('n', 'b')").await;
    let replayed = email(&database).await;
    let dead = dead_letter(&database).await;
    database.one("select millrace.replay($1)", &[&dead]).await;

    database.stop_clock_at("2031-07-05 12:00:00+00").await;
    database.run("select millrace.housekeep()").await;
    assert_eq!(queue::state(database.client(), lease.job_id).await, None);
    assert_eq!(queue::state(database.client(), replayed).await, None);
    let left = database
        .all("select id from comms.email_message", &[])
        .await;
    let left: Vec<i64> = left.iter().map(|row| row.get(0)).collect();
    assert_eq!(left, [2], "the replay's");
    assert_eq!(count(&database, "comms.sms_message").await, 1);
    assert_eq!(fetch(&database, "email").await["payload"]["message_id"], 2);
}

#[tokio::test]
async fn what_an_application_has_in_its_comms_schema_stays_as_it_is() {
    let database = Database::fresh().await;
    let url = database.unmigrated().await;
    let application = Database::open(&url).await;
    application
        .run(
            "create schema comms;
             create table comms.campaign (id int); grant select on comms.campaign to anon;
             create function comms.create_and_enqueue_email(int) returns int language sql as 'select 1';
             grant usage on schema comms to anon",
        )
        .await;
    millrace::migrate::migrate(&url).await.expect("a migration");
    application
        .run("begin; set local role anon; select from comms.campaign; select comms.create_and_enqueue_email(1); commit")
        .await;
    email(&application).await;
    assert_eq!(fetch(&application, "email").await["job"]["resource_id"], 1);
}

/// Whatever is made in an application's schema may be everybody's at once.
#[tokio::test]
async fn messages_are_closed_where_the_schema_is_open_by_default() {
    let database = Database::fresh().await;
    let url = database.unmigrated().await;
    let application = Database::open(&url).await;
    application
        .run(
            "create schema comms; grant usage on schema comms to anon, authenticated;
             alter default privileges in schema comms grant all on tables to anon, authenticated, public;
             alter default privileges in schema comms grant all on sequences to anon, authenticated, public;
             alter default privileges in schema comms grant all on functions to anon, authenticated",
        )
        .await;
    millrace::migrate::migrate(&url).await.expect("a migration");
    let statements = [
        "select from comms.email_message",
        "delete from comms.sms_message",
        "insert into comms.sms_message (to_number, body, job_id, created_at) values ('n', 'b', 1, now())",
        "truncate comms.email_message",
        "select nextval('comms.email_message_id_seq')",
        "select setval('comms.sms_message_id_seq', 7)",
        "select last_value from comms.sms_message_id_seq",
        "select comms.create_and_enqueue_sms('n', 'b')",
    ];
    for role in ["anon", "authenticated"] {
        for sql in statements {
            let sql = format!("reset role; set role {role}; {sql}");
            let error = application
                .client()
                .batch_execute(&sql)
                .await
                .expect_err(&sql);
            assert_eq!(
                error.code(),
                Some(&SqlState::INSUFFICIENT_PRIVILEGE),
                "{sql}"
            );
        }
    }
    application.run("reset role").await;
    email(&application).await;
    println!(
        "messages: {} statements refused in a schema that is open by default",
        2 * statements.len()
    );
}

#[tokio::test]
async fn clients_and_the_service_role_make_messages_and_nobody_else() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let make = "select comms.create_and_enqueue_email('f', 't', 's', 'h'), comms.create_and_enqueue_sms('n', 'b')";
    for role in ["millrace_client", "service_role"] {
        let sql = format!("set role {role}; {make}; reset role");
        client.batch_execute(&sql).await.expect(role);
    }
    assert_eq!(count(&database, "comms.email_message").await, 2);
    let tables = ["comms.email_message", "comms.sms_message"];
    let mut refused = 0;
    for role in [
        "millrace_client",
        "service_role",
        "millrace_functions",
        "anon",
        "authenticated",
    ] {
        let mut statements: Vec<String> = tables
            .iter()
            .flat_map(|table| {
                [
                    format!("select * from {table}"),
                    format!("delete from {table}"),
                ]
            })
            .collect();
        if !matches!(role, "millrace_client" | "service_role") {
            statements.push(make.to_owned());
        }
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
    println!("messages: {refused} statements without a right to them");
}

/// A megabyte each, and a job only names its message.
#[tokio::test]
async fn large_messages_are_handed_out_over_several_claims() {
    const LARGEST: usize = 8 * 1024 * 1024 + 1_100_000; // eight megabytes begun, and the message that goes beyond
    let database = Database::fresh().await;
    let sql = "select comms.create_and_enqueue_email('f@example.com', 't@example.com', 's', repeat('<p>Hello</p>', 83333)) from generate_series(1, 20)";
    database.run(sql).await;
    // A replay has the dead one's message, and so its size.
    let dead = dead_letter(&database).await;
    database.one("select millrace.replay($1)", &[&dead]).await;

    let (mut handed_out, mut claims) = (0, 0);
    while handed_out < 20 {
        let claim = "millrace_api.channel_claim('{\"queue\": \"email\", \"workerId\": \"w\", \"limit\": 100, \"leaseSeconds\": 60}')";
        let claimed = call(&database, claim).await;
        let size = claimed.to_string().len();
        assert!(size < LARGEST, "{size} bytes");
        let jobs = claimed["jobs"].as_array().expect("jobs");
        assert!(!jobs.is_empty(), "only {handed_out} of 20 came");
        for job in jobs {
            assert_eq!(job["payload"]["html"].as_str().map(str::len), Some(999_996));
        }
        (handed_out, claims) = (handed_out + jobs.len(), claims + 1);
    }
    println!("messages: {handed_out} of 1 MB came in {claims} claims");
    assert_eq!((handed_out, claims), (20, 3));
}
