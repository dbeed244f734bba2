//! Whole lives of jobs, as their events tell them; cancelling, retrying and replaying.

use millrace_tests::database::{Database, refusal};
use millrace_tests::queue::{self, Claimed, Outcome, claim_one};
use serde_json::{Value, json};
use tokio_postgres::Error;

async fn fresh() -> Database {
    let database = Database::fresh().await;
    database.run("select millrace.configure_queue('q', max_attempts => 2, backoff_base => '0', backoff_jitter => false)").await;
    database
}

async fn enqueued(database: &Database) -> i64 {
    queue::enqueue(
        database.client(),
        json!({ "queue": "q", "type": "t", "payload": { "n": 1 } }),
    )
    .await
}

async fn end(database: &Database, outcome: Outcome) -> Claimed {
    let lease = claim_one(database.client(), "q", "w").await;
    queue::report(database.client(), &lease, outcome)
        .await
        .expect("a report");
    lease
}

/// A job that has died of its first attempt, and its dead letter.
async fn dead(database: &Database) -> (i64, i64) {
    let job = enqueued(database).await;
    end(database, Outcome::Permanent).await;
    (
        job,
        database
            .one(
                "select id from millrace.dead_letter where job_id = $1",
                &[&job],
            )
            .await
            .get(0),
    )
}

async fn call(database: &Database, function: &str, id: i64) -> Result<u64, Error> {
    database
        .client()
        .execute(&format!("select millrace.{function}($1)"), &[&id])
        .await
}

async fn assert_refused(database: &Database, function: &str, id: i64, status: &str, code: &str) {
    let error = call(database, function, id).await.expect_err(code);
    assert_eq!(
        refusal(&error),
        (status.to_owned(), code.to_owned()),
        "{function}"
    );
}

async fn assert_life(database: &Database, job: i64, state: &str, life: &[&str]) {
    assert_eq!(
        queue::state(database.client(), job).await.as_deref(),
        Some(state)
    );
    assert_eq!(queue::events(database.client(), job).await, life);
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn events_tell_the_whole_life_in_order() {
    let database = fresh().await;
    let job = enqueued(&database).await;
    assert_life(&database, job, "queued", &["queued"]).await;
    let lease = claim_one(database.client(), "q", "w").await;
    assert_life(&database, job, "running", &["queued", "started"]).await;
    queue::report(database.client(), &lease, Outcome::Failed)
        .await
        .expect("a report");
    assert_life(
        &database,
        job,
        "queued",
        &["queued", "started", "retry_scheduled"],
    )
    .await;
    end(&database, Outcome::Succeeded).await;
    assert_life(
        &database,
        job,
        "succeeded",
        &[
            "queued",
            "started",
            "retry_scheduled",
            "started",
            "succeeded",
        ],
    )
    .await;

    let rows = database.all("select payload, created_at <= clock_timestamp() from millrace.job_events where job_id = $1 order by id", &[&job]).await;
    let payloads: Vec<Value> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        payloads[1],
        json!({ "attempt": 1, "lease_id": lease.lease_id, "worker": "w", "waited": payloads[1]["waited"] })
    );
    assert_eq!(
        (&payloads[2]["attempt"], &payloads[2]["error_code"]),
        (&json!(1), &json!("failed"))
    );
    assert!(payloads[2]["run_at"].is_string());
    assert_eq!(payloads[4]["attempt"], json!(2));
    let ordered: bool = database
        .one("select bool_and(created_at >= before) from (select created_at, lag(created_at) over (order by id) as before from millrace.job_events) e", &[])
        .await
        .get(0);
    assert!(ordered, "later events have later times");
}

#[tokio::test]
async fn a_failed_report_keeps_what_the_worker_said() {
    let database = fresh().await;
    let job = enqueued(&database).await;
    for _ in 0..2 {
        let lease = claim_one(database.client(), "q", "w").await;
        let report = json!([{ "job_id": job, "lease_id": lease.lease_id, "worker": "w", "succeeded": false, "error_code": "smtp_550", "error": "no such\nmailbox" }]);
        assert_eq!(
            queue::report_many(database.client(), &report)
                .await
                .expect("an answer"),
            [None]
        );
    }
    assert_life(
        &database,
        job,
        "dead",
        &[
            "queued",
            "started",
            "retry_scheduled",
            "started",
            "dead_lettered",
        ],
    )
    .await;
    let letter = database
        .one(
            "select reason, error, attempts from millrace.dead_letter",
            &[],
        )
        .await;
    assert_eq!(
        (
            letter.get::<_, &str>(0),
            letter.get::<_, &str>(1),
            letter.get::<_, i16>(2)
        ),
        ("smtp_550", "no such\nmailbox", 2)
    );
}

#[tokio::test]
async fn a_result_is_kept_as_it_was() {
    let database = fresh().await;
    let job = enqueued(&database).await;
    let lease = claim_one(database.client(), "q", "w").await;
    let result = json!({ "nested": { "null": null, "list": [1, "é", []] }, "big": 12_345_678_901_234_567_890_u64 });
    let report = json!([{ "job_id": job, "lease_id": lease.lease_id, "worker": "w", "succeeded": true, "result": result }]);
    queue::report_many(database.client(), &report)
        .await
        .expect("an answer");
    let kept: Value = database
        .one(
            "select result from millrace.finished where job_id = $1",
            &[&job],
        )
        .await
        .get(0);
    assert_eq!(kept, result);
}

#[tokio::test]
async fn cancelled_while_queued_waiting_and_running() {
    let database = fresh().await;
    let job = enqueued(&database).await;
    call(&database, "cancel", job).await.expect("a cancel");
    assert_life(&database, job, "cancelled", &["queued", "cancelled"]).await;

    let job = enqueued(&database).await;
    end(&database, Outcome::RetryAfter(60.0)).await;
    call(&database, "cancel", job).await.expect("a cancel");
    assert_life(
        &database,
        job,
        "cancelled",
        &["queued", "started", "retry_scheduled", "cancelled"],
    )
    .await;

    let job = enqueued(&database).await;
    let lease = claim_one(database.client(), "q", "w").await;
    call(&database, "cancel", job).await.expect("a cancel");
    assert_life(
        &database,
        job,
        "cancelled",
        &["queued", "started", "cancelled"],
    )
    .await;
    let error = queue::report(database.client(), &lease, Outcome::Succeeded)
        .await
        .expect_err("a refusal");
    assert_eq!(refusal(&error).1, "cancelled");

    assert_refused(&database, "cancel", job, "PT409", "not_cancellable").await;
    assert_refused(&database, "cancel", 999_999, "PT404", "job_not_found").await;
    let job = enqueued(&database).await;
    end(&database, Outcome::Succeeded).await;
    assert_refused(&database, "cancel", job, "PT409", "not_cancellable").await;
}

#[tokio::test]
async fn a_dead_job_retried_has_its_attempts_again() {
    let database = fresh().await;
    let (job, letter) = dead(&database).await;
    call(&database, "retry", job).await.expect("a retry");
    assert_life(
        &database,
        job,
        "queued",
        &["queued", "started", "dead_lettered", "replayed"],
    )
    .await;
    assert_refused(
        &database,
        "replay",
        letter,
        "PT404",
        "dead_letter_not_found",
    )
    .await;
    for attempt in 1..=2 {
        assert_eq!(end(&database, Outcome::Failed).await.attempt, attempt);
    }
    assert_eq!(
        queue::state(database.client(), job).await.as_deref(),
        Some("dead")
    );

    database
        .client()
        .execute(
            "select millrace.retry($1, reset_attempts => false)",
            &[&job],
        )
        .await
        .expect("a retry");
    let lease = claim_one(database.client(), "q", "w").await;
    assert_eq!(
        (lease.job_id, lease.attempt),
        (job, 3),
        "one more attempt, counted on"
    );
    queue::report(database.client(), &lease, Outcome::Failed)
        .await
        .expect("a report");
    assert_eq!(
        queue::state(database.client(), job).await.as_deref(),
        Some("dead")
    );
}

#[tokio::test]
async fn only_dead_and_cancelled_jobs_are_retried() {
    let database = fresh().await;
    let job = enqueued(&database).await;
    assert_refused(&database, "retry", job, "PT409", "not_retryable").await;
    call(&database, "cancel", job).await.expect("a cancel");
    call(&database, "retry", job)
        .await
        .expect("a retry of the cancelled");
    let lease = claim_one(database.client(), "q", "w").await;
    assert_refused(&database, "retry", job, "PT409", "not_retryable").await;
    queue::report(database.client(), &lease, Outcome::Succeeded)
        .await
        .expect("a report");
    assert_refused(&database, "retry", job, "PT409", "not_retryable").await;
    assert_refused(&database, "retry", 999_999, "PT404", "job_not_found").await;
    assert_life(
        &database,
        job,
        "succeeded",
        &["queued", "cancelled", "replayed", "started", "succeeded"],
    )
    .await;
}

#[tokio::test]
async fn a_dead_letter_is_replayed_once_and_says_as_what() {
    let database = fresh().await;
    let request = json!({ "queue": "q", "type": "t", "payload": { "a": [1, null] }, "priority": 7, "max_attempts": 3, "lease_seconds": 45,
                          "concurrency_key": "c", "idempotency_key": "k" });
    let job = queue::enqueue(database.client(), request.clone()).await;
    end(&database, Outcome::Permanent).await;
    let letter: i64 = database
        .one("select id from millrace.dead_letter", &[])
        .await
        .get(0);

    let new: i64 = database
        .one("select millrace.replay($1)", &[&letter])
        .await
        .get(0);
    let copied: bool = database
        .one(
            "select (n.queue_id, n.lane_id, n.type, n.priority, n.payload, n.max_attempts, n.lease, n.concurrency_key, n.replay_of, n.idempotency_key)
                    is not distinct from (o.queue_id, o.lane_id, o.type, o.priority, o.payload, o.max_attempts, o.lease, o.concurrency_key, o.id, null)
               from millrace.job n, millrace.job o where n.id = $1 and o.id = $2",
            &[&new, &job],
        )
        .await
        .get(0);
    assert!(copied, "the replay is the old job with a new key");
    assert_life(
        &database,
        job,
        "dead",
        &["queued", "started", "dead_lettered", "replayed"],
    )
    .await;
    assert_life(&database, new, "queued", &["queued"]).await;

    let error = call(&database, "replay", letter)
        .await
        .expect_err("a second replay");
    assert_eq!(
        refusal(&error),
        ("PT409".to_owned(), "already_replayed".to_owned())
    );
    let uuid: String = database
        .one("select millrace.job_uuid($1)::text", &[&new])
        .await
        .get(0);
    assert_eq!(
        error.as_db_error().and_then(|e| e.detail()),
        Some(uuid.as_str()),
        "names the job that the first one made"
    );
    assert_refused(&database, "retry", job, "PT409", "not_retryable").await;
    assert_refused(
        &database,
        "replay",
        999_999,
        "PT404",
        "dead_letter_not_found",
    )
    .await;
    assert_eq!(
        queue::enqueue(database.client(), request).await,
        job,
        "the idempotency key still stands for the old job"
    );
    assert_eq!(claim_one(database.client(), "q", "w").await.job_id, new);
}
