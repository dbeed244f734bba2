//! The way in: one and many, keys, order, limits, and enqueueing in an application's own transaction.

use std::collections::BTreeSet;

use futures::future::join_all;
use millrace_tests::database::{Database, refusal};
use millrace_tests::queue::{self, Outcome, claim_one};
use serde_json::{Value, json};

async fn jobs(database: &Database) -> i64 {
    database
        .one("select count(*) from millrace.job", &[])
        .await
        .get(0)
}

#[tokio::test]
async fn one_and_a_thousand() {
    let database = Database::fresh().await;
    let row = database.one("select millrace.enqueue('q', 't'), millrace.enqueue('q', 't', '{\"n\": 1}', priority => 9)", &[]).await;
    assert!(row.get::<_, i64>(0) < row.get::<_, i64>(1));
    let many: Vec<_> = (0..1000).map(|n| json!({ "queue": format!("q{}", n % 3), "type": format!("t{}", n % 5), "payload": { "n": n } })).collect();
    let answers = queue::enqueue_many(database.client(), &json!(many))
        .await
        .expect("a thousand");
    assert!(answers.iter().all(|(_, queued)| *queued));
    assert!(
        answers.windows(2).all(|pair| pair[0].0 < pair[1].0),
        "jobs are numbered in the order of the batch"
    );
    let in_place: i64 = database
        .one(
            "select count(*) from millrace.job where payload ->> 'n' = (id - $1)::text",
            &[&answers[0].0],
        )
        .await
        .get(0);
    assert!(in_place >= 1000);
    assert_eq!(
        queue::enqueue_many(database.client(), &json!([]))
            .await
            .expect("none"),
        []
    );
    assert_eq!(jobs(&database).await, 1002);
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn a_known_key_answers_with_its_first_job() {
    let database = Database::fresh().await;
    let request =
        |queue: &str, key: &str| json!({ "queue": queue, "type": "t", "idempotency_key": key });
    let batch = json!([
        request("q", "a"),
        request("q", "b"),
        request("q", "a"),
        request("other", "a")
    ]);
    let first = queue::enqueue_many(database.client(), &batch)
        .await
        .expect("an enqueue");
    assert_eq!(
        first.iter().map(|a| a.1).collect::<Vec<_>>(),
        [true, true, false, true]
    );
    assert_eq!(first[2].0, first[0].0, "the same key twice in one batch");
    assert_ne!(first[3].0, first[0].0, "another queue");
    let second = queue::enqueue_many(database.client(), &batch)
        .await
        .expect("an enqueue");
    assert_eq!(
        second.iter().map(|a| a.0).collect::<Vec<_>>(),
        first.iter().map(|a| a.0).collect::<Vec<_>>()
    );
    assert!(second.iter().all(|(_, queued)| !queued));
    queue::report(
        database.client(),
        &claim_one(database.client(), "q", "w").await,
        Outcome::Succeeded,
    )
    .await
    .expect("a report");
    assert_eq!(
        queue::enqueue(database.client(), request("q", "a")).await,
        first[0].0,
        "also when the job has ended"
    );
    assert_eq!(jobs(&database).await, 3);
}

#[tokio::test]
async fn one_key_in_many_sessions_at_once_makes_one_job() {
    let _crowd = queue::crowd(16).await;
    let database = Database::fresh().await;
    let clients = join_all((0..16).map(|_| database.connect())).await;
    for round in 0..25 {
        let batch = json!([{ "queue": format!("q{round}"), "type": "t", "idempotency_key": "x" }, { "queue": format!("q{round}"), "type": "u", "idempotency_key": "y" }]);
        let answers = join_all(
            clients
                .iter()
                .map(|client| queue::enqueue_many(client, &batch)),
        )
        .await;
        let answers: Vec<_> = answers
            .into_iter()
            .map(|answer| answer.expect("an enqueue"))
            .collect();
        assert_eq!(
            answers
                .iter()
                .flatten()
                .filter(|(_, queued)| *queued)
                .count(),
            2,
            "round {round}"
        );
        assert_eq!(
            answers
                .iter()
                .flatten()
                .map(|(job, _)| *job)
                .collect::<BTreeSet<_>>()
                .len(),
            2,
            "round {round}"
        );
    }
    assert_eq!(jobs(&database).await, 50);
    println!("enqueue: 25 rounds of 16 sessions with the same two keys");
}

#[tokio::test]
async fn a_key_whose_transaction_is_rolled_back_is_free_again() {
    let database = Database::fresh().await;
    let other = database.connect().await;
    let request = json!({ "queue": "q", "type": "t", "idempotency_key": "k" });
    other.batch_execute("begin").await.expect("a transaction");
    let lost = queue::enqueue(&other, request.clone()).await;
    let batch = json!([request]);
    let waiting = queue::enqueue_many(database.client(), &batch);
    let (answer, rolled_back) = tokio::join!(waiting, async {
        // The enqueue beside us must be waiting for the key by now, or it will find it free: both are right.
        other.batch_execute("rollback").await
    });
    rolled_back.expect("a rollback");
    let (job, queued) = answer.expect("an enqueue")[0];
    assert!(queued && job != lost);
}

#[tokio::test]
async fn a_transaction_takes_its_jobs_with_it() {
    let database = Database::fresh().await;
    database
        .run("create table orders (id int primary key)")
        .await;
    let application = database.connect().await;
    let order = "begin; insert into orders values (1); select millrace.enqueue('q', 't', concurrency_key => 'c', idempotency_key => 'k')";
    application.batch_execute(order).await.expect("an order");
    assert_eq!(
        queue::claim(database.client(), "q", "w", 1).await,
        [],
        "not before the commit"
    );
    application
        .batch_execute("rollback")
        .await
        .expect("a rollback");
    let left: i64 = database
        .one(
            "select (select count(*) from millrace.job) + (select count(*) from millrace.ready) + (select count(*) from millrace.job_events)
                  + (select count(*) from millrace.idempotency_key) + (select count(*) from millrace.concurrency_slot)",
            &[],
        )
        .await
        .get(0);
    assert_eq!(left, 0, "a rollback leaves nothing");
    application
        .batch_execute(&format!("{order}; commit"))
        .await
        .expect("an order");
    claim_one(database.client(), "q", "w").await;
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn due_times_are_never_before_the_clock() {
    let database = Database::fresh().await;
    database.stop_clock_at("2030-01-07 12:00:00+00").await;
    for (request, due) in [
        (json!({ "run_at": "2001-01-01T00:00:00Z" }), "12:00:00"),
        (json!({ "run_at": "-infinity" }), "12:00:00"),
        (json!({ "run_at": "2030-01-07T13:30:00+01:00" }), "12:30:00"),
        (json!({ "delay_seconds": 90.5 }), "12:01:30.5"),
        (
            json!({ "run_at": "2030-01-07T12:10:00Z", "delay_seconds": 5 }),
            "12:10:00",
        ),
        (json!({}), "12:00:00"),
    ] {
        let mut whole = json!({ "queue": "q", "type": "t" });
        whole
            .as_object_mut()
            .expect("an object")
            .extend(request.as_object().expect("an object").clone());
        let job = queue::enqueue(database.client(), whole).await;
        let sql = "select run_at = ('2030-01-07 ' || $2 || '+00')::timestamptz from millrace.ready where job_id = $1";
        let right: bool = database.one(sql, &[&job, &due]).await.get(0);
        assert!(right, "{request} is not due at {due}");
    }
}

#[tokio::test]
async fn malformed_requests_name_their_field_and_lose_nothing() {
    let database = Database::fresh().await;
    let long = "x".repeat(201);
    let wrong: Vec<(&str, Value)> = vec![
        ("queue", json!(null)),
        ("queue", json!("  ")),
        ("queue", json!(long)),
        ("type", json!(null)),
        ("type", json!("")),
        ("type", json!(long)),
        ("priority", json!(101)),
        ("priority", json!(-101)),
        ("priority", json!(1.5)),
        ("delay_seconds", json!(-1)),
        ("delay_seconds", json!(315_360_001)),
        ("max_attempts", json!(0)),
        ("max_attempts", json!(1001)),
        ("max_attempts", json!(2.5)),
        ("lease_seconds", json!(0.5)),
        ("lease_seconds", json!(86_401)),
        ("idempotency_key", json!("")),
        ("idempotency_key", json!(long)),
        ("concurrency_key", json!(" ")),
        ("concurrency_key", json!(long)),
        ("payload", json!("y".repeat(2_200_000))),
    ];
    for (field, value) in &wrong {
        let mut bad = json!({ "queue": "q", "type": "t" });
        bad[*field] = value.clone();
        let error = queue::enqueue_many(
            database.client(),
            &json!([{ "queue": "q", "type": "t" }, bad]),
        )
        .await
        .expect_err(field);
        assert_eq!(
            refusal(&error),
            ("PT400".to_owned(), "invalid_request".to_owned()),
            "{field}"
        );
        let said = error.as_db_error().expect("an answer of the database's");
        assert!(
            said.message().starts_with(field),
            "{field}: {}",
            said.message()
        );
        assert_eq!(said.detail(), Some("in job 1 of the call, counted from 0"));
    }
    let too_many: Vec<_> = (0..1001)
        .map(|_| json!({ "queue": "q", "type": "t" }))
        .collect();
    for batch in [json!(too_many), json!({}), json!("jobs"), json!(null)] {
        let error = queue::enqueue_many(database.client(), &batch)
            .await
            .expect_err("a refusal");
        assert_eq!(refusal(&error).1, "invalid_request");
    }
    assert_eq!(
        jobs(&database).await,
        0,
        "a batch with one malformed request makes nothing"
    );
    println!("enqueue: {} malformed requests refused", wrong.len() + 4);
}

/// Every key has one UUID and comes back from it; other UUIDs stand for none.
#[tokio::test]
async fn a_jobs_key_and_its_uuid_are_one() {
    let database = Database::fresh().await;
    let mut keys: Vec<i64> = vec![
        0,
        1,
        15,
        16,
        4095,
        4096,
        i64::from(u32::MAX),
        i64::from(u32::MAX) + 1,
        i64::MAX - 1,
        i64::MAX,
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for shift in 0..2000 {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        keys.push(i64::try_from(state >> (1 + shift % 62)).expect("63 bits"));
    }
    let rows = database.all("select k, millrace.job_id(millrace.job_uuid(k)), millrace.job_uuid(k)::text from unnest($1::bigint[]) as k", &[&keys]).await;
    for row in &rows {
        assert_eq!(row.get::<_, Option<i64>>(1), Some(row.get::<_, i64>(0)));
        let uuid: uuid::Uuid = row.get::<_, &str>(2).parse().expect("a UUID");
        assert_eq!(
            (uuid.get_version_num(), uuid.get_variant()),
            (8, uuid::Variant::RFC4122)
        );
    }
    let distinct = rows
        .iter()
        .map(|row| row.get::<_, &str>(2))
        .collect::<BTreeSet<_>>()
        .len();
    assert_eq!(distinct, keys.iter().collect::<BTreeSet<_>>().len());

    let mut foreign: Vec<String> = (0..500).map(|_| uuid::Uuid::new_v4().to_string()).collect();
    foreign.extend(
        [
            "00000000-0000-0000-0000-000000000000",
            "ffffffff-ffff-8fff-8f6d-696c6c726163",
            "80000000-0000-8000-806d-696c6c726163",
            "00000000-0000-8000-806d-696c6c726164",
        ]
        .map(str::to_owned),
    );
    let ours = database
        .all(
            "select u from unnest($1::text[]) as u where millrace.job_id(u::uuid) is not null",
            &[&foreign],
        )
        .await;
    assert!(
        ours.is_empty(),
        "{} foreign UUIDs were taken for ours",
        ours.len()
    );
    println!(
        "enqueue: {} keys to UUIDs and back, {} foreign UUIDs",
        keys.len(),
        foreign.len()
    );
}
