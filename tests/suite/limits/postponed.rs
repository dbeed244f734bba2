//! Attempts that were given back untried.

use millrace_tests::database::{Database, refusal};
use millrace_tests::queue::{self, Outcome, claim_one};
use serde_json::json;

#[tokio::test]
async fn a_postponed_attempt_does_not_count() {
    let database = Database::fresh().await;
    database.stop_clock_at("2030-01-07 12:00:00+00").await;
    let request = json!({ "queue": "q", "type": "t", "max_attempts": 1, "concurrency_key": "c" });
    let job = queue::enqueue(database.client(), request.clone()).await;
    let behind = queue::enqueue(database.client(), request).await;
    for minute in 1..=5 {
        let lease = claim_one(database.client(), "q", "w").await;
        assert_eq!(
            (lease.job_id, lease.attempt, lease.resumed),
            (job, 1, false),
            "its key stays its own"
        );
        queue::report(database.client(), &lease, Outcome::Postponed(60.0))
            .await
            .expect("a report");
        let again = queue::report(database.client(), &lease, Outcome::Succeeded)
            .await
            .expect_err("a second report");
        assert_eq!(refusal(&again).1, "already_attempted");
        assert_eq!(
            queue::claim(database.client(), "q", "w", 10).await,
            [],
            "not before its time"
        );
        database
            .stop_clock_at(&format!("2030-01-07 12:0{minute}:00+00"))
            .await;
    }
    let lease = claim_one(database.client(), "q", "w").await;
    queue::report(database.client(), &lease, Outcome::Failed)
        .await
        .expect("a report");
    assert_eq!(
        queue::state(database.client(), job).await.as_deref(),
        Some("dead"),
        "the one attempt that counted"
    );
    assert_eq!(claim_one(database.client(), "q", "w").await.job_id, behind);
    let events = queue::events(database.client(), job).await.join(" ");
    assert_eq!(
        events,
        format!(
            "queued{} started dead_lettered",
            " started postponed".repeat(5)
        )
    );
    let waits: i64 = database
        .one(
            "select sum(n)::bigint from millrace.counts() where kind = 'started' and bucket > 0",
            &[],
        )
        .await
        .get(0);
    assert_eq!(
        waits, 2,
        "the time to the first start is counted once a job"
    );
    assert_eq!(queue::untrue_counts(database.client()).await, [""; 0]);
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn a_postponement_says_nothing_else() {
    let database = Database::fresh().await;
    queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    let lease = claim_one(database.client(), "q", "w").await;
    let report = |more: serde_json::Value| {
        let mut report = json!({ "job_id": lease.job_id, "lease_id": lease.lease_id, "worker": "w", "succeeded": false, "postponed_seconds": 5 });
        report
            .as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        json!([report])
    };
    let wrong = [
        json!({ "succeeded": true }),
        json!({ "permanent": true }),
        json!({ "retry_after_seconds": 1 }),
        json!({ "postponed_seconds": -1 }),
        json!({ "postponed_seconds": 31_536_001 }),
    ];
    for more in wrong {
        let error = queue::report_many(database.client(), &report(more.clone()))
            .await
            .expect_err("a refusal");
        assert_eq!(refusal(&error).1, "invalid_request", "{more}");
    }
    let codes = queue::report_many(
        database.client(),
        &report(json!({ "error_code": "circuit_open", "error": "the provider is down" })),
    )
    .await;
    assert_eq!(codes.expect("a report"), [None]);
    let shown: (String, String) = {
        let row = database
            .one("select outcome, error_code from millrace.attempt", &[])
            .await;
        (row.get(0), row.get(1))
    };
    assert_eq!(shown, ("postponed".to_owned(), "circuit_open".to_owned()));
}

#[tokio::test]
async fn the_runbook_shows_a_postponed_run_and_a_pending_job() {
    let database = Database::fresh().await;
    queue::enqueue(database.client(), json!({ "queue": "jobs", "type": "t" })).await;
    let lease = claim_one(database.client(), "jobs", "w").await;
    queue::report(database.client(), &lease, Outcome::Postponed(30.0))
        .await
        .expect("a report");
    let row = database
        .one(
            "select q.status, q.attempts, r.status, q.scheduled_for - r.finished_at = interval '30 seconds', q.last_error is null
               from jobs_queue q join job_runs r on r.job_id = q.id",
            &[],
        )
        .await;
    let shown: (String, i32, String, bool, bool) =
        (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
    assert_eq!(
        shown,
        ("pending".to_owned(), 0, "postponed".to_owned(), true, true)
    );
}
