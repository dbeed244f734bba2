//! What no call may exceed: sizes, counts, times ahead, waits; and what a claim on a limited queue asks of its transaction.

use millrace_tests::app::App;
use millrace_tests::database::{Database, refusal};
use millrace_tests::deadline::eventually;
use millrace_tests::queue::{self, Want, try_claim};
use serde_json::{Value, json};

/// Numbers of 15,001 digits that make a payload of just under 2 MiB as text, and of a few kilobytes as jsonb.
const LARGE: i32 = 130;

async fn count(database: &Database, from: &str) -> i64 {
    database
        .one(&format!("select count(*) from millrace.{from}"), &[])
        .await
        .get(0)
}

/// The refusal of a batch with `bad` in second place: its message, after its code and its place are as they should be.
async fn refused_in_second_place(database: &Database, bad: &Value) -> String {
    let batch = json!([{ "queue": "q", "type": "t" }, bad]);
    let error = queue::enqueue_many(database.client(), &batch)
        .await
        .expect_err("a refusal");
    assert_eq!(
        refusal(&error),
        ("PT400".to_owned(), "invalid_request".to_owned()),
        "{bad}"
    );
    let said = error.as_db_error().expect("an answer of the database's");
    assert_eq!(
        said.detail(),
        Some("in job 1 of the call, counted from 0"),
        "{bad}"
    );
    assert_eq!(count(database, "job").await, 0, "{bad} made something");
    said.message().to_owned()
}

/// A job whose payload is so many numbers that are short as jsonb and long as text.
async fn enqueue_numbers(
    database: &Database,
    numbers: i32,
    kind: &str,
    priority: i32,
) -> Result<i64, tokio_postgres::Error> {
    let sql = "select millrace.enqueue('q', $1, ('[' || repeat('1e15000, ', $2) || '0]')::jsonb, priority => $3)";
    let row = database
        .client()
        .query_one(sql, &[&kind, &numbers, &priority])
        .await?;
    Ok(row.get(0))
}

#[tokio::test]
async fn a_mistyped_key_and_a_job_that_is_no_object_are_refused() {
    let database = Database::fresh().await;
    let mistyped = json!({ "queue": "q", "type": "t", "prioriti": 9 });
    assert_eq!(
        refused_in_second_place(&database, &mistyped).await,
        "prioriti is not known"
    );
    for bad in [
        json!(5),
        json!("q"),
        json!(true),
        json!(null),
        json!([]),
        json!([{ "queue": "q" }]),
    ] {
        let message = refused_in_second_place(&database, &bad).await;
        assert!(message.contains("no object"), "{bad}: {message}");
    }
}

#[tokio::test]
async fn a_job_may_lie_ten_years_ahead_and_no_more() {
    let database = Database::fresh().await;
    database.stop_clock_at("2030-01-07 12:00:00+00").await;
    for run_at in [
        "infinity",
        "2040-01-05T12:00:01Z",
        "9999-12-31T00:00:00Z",
        "294276-01-01T00:00:00Z",
    ] {
        let bad = json!({ "queue": "q", "type": "t", "run_at": run_at });
        assert_eq!(
            refused_in_second_place(&database, &bad).await,
            "run_at is more than ten years ahead",
            "{run_at}"
        );
    }
    let last = json!({ "queue": "q", "type": "t", "run_at": "2040-01-05T12:00:00Z" });
    queue::enqueue(database.client(), last).await;
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn a_priority_is_whole_however_it_is_written() {
    let database = Database::fresh().await;
    for priority in [5.5, -0.5, 100.5] {
        let bad = json!({ "queue": "q", "type": "t", "priority": priority });
        assert!(
            refused_in_second_place(&database, &bad)
                .await
                .starts_with("priority "),
            "{priority}"
        );
    }
    for (priority, kept) in [(json!(5.0), 5), (json!(-100.0), -100), (json!(1e2), 100)] {
        let job = json!({ "queue": "q", "type": "t", "priority": priority });
        let job = queue::enqueue(database.client(), job).await;
        let sql = "select priority::int from millrace.job where id = $1";
        assert_eq!(database.one(sql, &[&job]).await.get::<_, i32>(0), kept);
    }
}

/// What counts is what a claim has to answer with, not what the table stores.
#[tokio::test]
async fn a_payload_is_measured_as_text() {
    let database = Database::fresh().await;
    let error = enqueue_numbers(&database, 140, "t", 5)
        .await
        .expect_err("2.1 MB of text");
    assert_eq!(
        refusal(&error),
        ("PT400".to_owned(), "invalid_request".to_owned())
    );
    let said = error.as_db_error().expect("an answer of the database's");
    assert_eq!(said.message(), "payload is larger than 2 MiB");
    assert_eq!(count(&database, "job").await, 0);

    let job = enqueue_numbers(&database, LARGE, "t", 5)
        .await
        .expect("1.95 MB of text");
    let sql = "select payload_size = octet_length(payload::text), payload_size > 1900000, pg_column_size(payload) < 20000 from millrace.job where id = $1";
    let row = database.one(sql, &[&job]).await;
    assert_eq!((row.get(0), row.get(1), row.get(2)), (true, true, true));
}

#[tokio::test]
async fn a_queue_has_a_thousand_lanes_and_no_more() {
    let database = Database::fresh().await;
    let of = |queue: &str, kinds: std::ops::Range<i32>| -> Value {
        kinds
            .map(|kind| json!({ "queue": queue, "type": format!("t{kind}") }))
            .collect()
    };
    queue::enqueue_many(database.client(), &of("q", 0..1000))
        .await
        .expect("a thousand types");
    let mut new_priority = of("q", 7..8);
    new_priority[0]["priority"] = json!(6);
    let mut beside_a_new_queue = of("new", 0..3);
    beside_a_new_queue.as_array_mut().expect("an array").push(
        json!({ "queue": "q", "type": "t1000", "idempotency_key": "k", "concurrency_key": "c" }),
    );
    for batch in [
        of("q", 1000..1001),
        of("q", 999..1999),
        new_priority,
        beside_a_new_queue,
    ] {
        let error = queue::enqueue_many(database.client(), &batch)
            .await
            .expect_err("a lane too many");
        assert_eq!(
            refusal(&error),
            ("PT409".to_owned(), "too_many_lanes".to_owned())
        );
    }
    for (table, rows) in [
        ("job", 1000),
        ("ready", 1000),
        ("lane", 1000),
        ("queue where name in ('q', 'new')", 1),
        ("job_events", 1000),
        ("idempotency_key", 0),
        ("concurrency_slot", 0),
    ] {
        assert_eq!(count(&database, table).await, rows, "{table}");
    }
    queue::enqueue_many(database.client(), &of("q", 0..1000))
        .await
        .expect("types that are there");
    queue::enqueue_many(database.client(), &of("other", 0..1000))
        .await
        .expect("another queue");
}

#[tokio::test]
async fn a_claim_stops_at_eight_mebibytes_and_the_rest_stays_in_order() {
    let database = Database::fresh().await;
    let mut jobs = Vec::new();
    for (kind, priority) in [
        ("a", 5),
        ("b", 9),
        ("b", 5),
        ("a", 5),
        ("a", 9),
        ("b", 5),
        ("a", 5),
    ] {
        let job = enqueue_numbers(&database, LARGE, kind, priority).await;
        jobs.push(job.expect("an enqueue"));
    }
    // Small enough to fit, but not its turn: a claim stops, it does not pick.
    let small = json!({ "queue": "q", "type": "a", "priority": 1 });
    jobs.push(queue::enqueue(database.client(), small).await);

    let ids = |claimed: Vec<queue::Claimed>| {
        assert!(claimed.iter().all(|job| job.attempt == 1));
        claimed.iter().map(|job| job.job_id).collect::<Vec<_>>()
    };
    let first = ids(queue::claim(database.client(), "q", "ann", 100).await);
    assert_eq!(first, [1, 4, 0, 2, 3].map(|place: usize| jobs[place]));
    let sql = "select sum(j.payload_size) filter (where e.job_id <> $1) < 8388608 and sum(j.payload_size) >= 8388608
                 from millrace.lease e join millrace.job j on j.id = e.job_id";
    assert!(
        database.one(sql, &[&jobs[3]]).await.get::<_, bool>(0),
        "the fifth begins below 8 MiB and ends above"
    );
    for place in [5, 6, 7] {
        assert_eq!(
            queue::events(database.client(), jobs[place]).await,
            ["queued"]
        );
    }
    database.assert_no_job_misplaced().await;

    let second = ids(queue::claim(database.client(), "q", "bob", 100).await);
    assert_eq!(second, [5, 6, 7].map(|place: usize| jobs[place]));
    assert_eq!(queue::claim(database.client(), "q", "bob", 100).await, []);
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn a_claim_never_stops_before_its_first_job() {
    let database = Database::fresh().await;
    let batch: Value = (0..3)
        .map(|_| json!({ "queue": "q", "type": "t" }))
        .collect();
    let jobs = queue::enqueue_many(database.client(), &batch)
        .await
        .expect("an enqueue");
    // No enqueue takes such a payload; a queue of an earlier limit could hold one.
    database
        .run("update millrace.job set payload_size = 20000000")
        .await;
    for (job, _) in jobs {
        let claimed = queue::claim(database.client(), "q", "w", 100).await;
        assert_eq!(
            claimed.iter().map(|c| c.job_id).collect::<Vec<_>>(),
            [job],
            "one at a time"
        );
    }
    assert_eq!(queue::claim(database.client(), "q", "w", 100).await, []);
}

/// How a heartbeat with these arguments is refused.
async fn heartbeat_refused(database: &Database, arguments: &str) -> (String, String) {
    let sql = format!("select millrace.heartbeat({arguments})");
    refusal(
        &database
            .client()
            .execute(&sql, &[])
            .await
            .expect_err(arguments),
    )
}

#[tokio::test]
async fn a_malformed_heartbeat_is_refused() {
    let database = Database::fresh().await;
    for arguments in [
        "'w', 'q', '  '",
        "'w', 'q', ''",
        "'w', 'q', null",
        "'w', 'q', repeat('x', 51)",
        "'w', 'q', 'idle', -1",
        "'w', 'q', 'idle', 0, -1",
        "'w', 'q', 'idle', 0, 0, repeat('x', 101)",
        "'w', null, 'idle'",
        "'w', ' ', 'idle'",
        "'w', repeat('x', 201), 'idle'",
    ] {
        let refused = heartbeat_refused(&database, arguments).await;
        assert_eq!(
            refused,
            ("PT400".to_owned(), "invalid_request".to_owned()),
            "{arguments}"
        );
    }
    for arguments in ["null, 'q', 'idle'", "' ', 'q', 'idle'"] {
        let refused = heartbeat_refused(&database, arguments).await;
        assert_eq!(
            refused,
            ("PT400".to_owned(), "worker_id_missing".to_owned()),
            "{arguments}"
        );
    }
    assert_eq!(count(&database, "worker").await, 0);
    database
        .run("select millrace.heartbeat('w', repeat('q', 200), repeat('x', 50), 0, 0, repeat('x', 100))")
        .await;
    assert_eq!(count(&database, "worker").await, 1);
}

/// A stricter level would count the leases of before the lock was taken, and two claims could both take the last place.
#[tokio::test]
async fn a_limited_queue_is_claimed_from_at_read_committed_only() {
    let database = Database::fresh().await;
    database
        .run("select millrace.configure_queue('q', concurrency_limit => 1)")
        .await;
    for queue in ["q", "q", "free"] {
        queue::enqueue(database.client(), json!({ "queue": queue, "type": "t" })).await;
    }
    for level in ["repeatable read", "serializable"] {
        database
            .run(&format!("begin isolation level {level}"))
            .await;
        let error = try_claim(database.client(), Want::any("q", "w", 1))
            .await
            .expect_err(level);
        assert_eq!(
            refusal(&error),
            ("PT400".to_owned(), "isolation_level".to_owned())
        );
        database.run("rollback").await;
    }
    database.run("begin isolation level read committed").await;
    assert_eq!(queue::claim(database.client(), "q", "w", 9).await.len(), 1);
    database
        .run("commit; begin isolation level repeatable read")
        .await;
    assert_eq!(
        queue::claim(database.client(), "free", "w", 9).await.len(),
        1,
        "without a limit there is nothing to count"
    );
    database.run("commit").await;
    assert_eq!(
        queue::claim(database.client(), "q", "w", 9).await,
        [],
        "the only place is taken"
    );
}

/// The login's `statement_timeout` bounds every wait for another's lock; the client may simply try again.
#[tokio::test]
async fn a_statement_that_waits_too_long_is_worth_another_try() {
    let database = Database::fresh().await;
    let name: String = database
        .one("select current_database()::text", &[])
        .await
        .get(0);
    let login = database.functions_login();
    database
        .run(&format!(
            "alter role {login} in database {name} set statement_timeout = '200ms'"
        ))
        .await;
    queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    let app = App::serve(database, &[]).await;
    let application = app.database.connect().await;
    application
        .batch_execute("begin; select millrace.enqueue('q', 't', idempotency_key => 'k')")
        .await
        .expect("an enqueue");

    let task = json!({ "type": "t", "executorId": "q", "idempotencyKey": "k" });
    app.api
        .assign(task.clone())
        .await
        .assert_refused(503, "try_again");
    assert_eq!(count(&app.database, "job").await, 1, "nothing of it stays");

    application
        .batch_execute("rollback")
        .await
        .expect("a rollback");
    let again = || async {
        let answer = app.api.assign(task.clone()).await;
        (answer.status == 200).then(|| answer.ok())
    };
    assert_eq!(eventually("the key is free", again).await["queued"], true);
    app.shutdown().await;
}
