//! A word about an attempt counts only under its own, current, unexpired lease: a worker whose lease is over is refused
//! at every verb with the right code, and leaves nothing changed.

use millrace_tests::database::{Database, refusal};
use millrace_tests::queue::{self, Claimed, Outcome, claim_one};
use serde_json::{Value, json};
use tokio_postgres::Error;

/// Every way to say something about an attempt.
#[derive(Debug, Clone, Copy)]
enum Verb {
    Report(Outcome),
    ReportMany(Outcome),
    Extend,
    CollabResult { ok: bool },
    CollabResults { ok: bool },
}

const VERBS: [Verb; 10] = [
    Verb::Report(Outcome::Succeeded),
    Verb::Report(Outcome::Failed),
    Verb::Report(Outcome::Permanent),
    Verb::ReportMany(Outcome::Succeeded),
    Verb::ReportMany(Outcome::RetryAfter(0.0)),
    Verb::Extend,
    Verb::CollabResult { ok: true },
    Verb::CollabResult { ok: false },
    Verb::CollabResults { ok: true },
    Verb::CollabResults { ok: false },
];

/// Says `verb` under `lease`; answers the code of the refusal.
async fn say(database: &Database, verb: Verb, lease: &Claimed) -> Option<String> {
    let client = database.client();
    match verb {
        Verb::Report(outcome) => code(queue::report(client, lease, outcome).await),
        Verb::ReportMany(outcome) => {
            let report = outcome.report(lease.job_id, lease.lease_id, &lease.worker);
            queue::report_many(client, &json!([report]))
                .await
                .expect("an answer")[0]
                .clone()
        }
        Verb::Extend => code(
            client
                .execute(
                    "select millrace.extend_lease($1, $2, $3)",
                    &[&lease.job_id, &lease.lease_id, &lease.worker],
                )
                .await,
        ),
        Verb::CollabResult { ok } => {
            let result = collab(database, lease, ok).await;
            code(
                client
                    .query_one("select millrace_api.collab_result($1)", &[&result])
                    .await,
            )
        }
        Verb::CollabResults { ok } => {
            let results = json!({ "results": [collab(database, lease, ok).await] });
            let answer: Value = database
                .one("select millrace_api.collab_result($1)", &[&results])
                .await
                .get(0);
            answer["results"][0]["code"].as_str().map(str::to_owned)
        }
    }
}

/// The result as the collab face takes it.
async fn collab(database: &Database, lease: &Claimed, ok: bool) -> Value {
    let id: String = database
        .one("select millrace.job_uuid($1)::text", &[&lease.job_id])
        .await
        .get(0);
    json!({ "jobId": id, "type": lease.job_type, "ok": ok, "workerId": lease.worker, "leaseId": lease.lease_id })
}

fn code<T>(answer: Result<T, Error>) -> Option<String> {
    answer.err().map(|error| {
        let (status, code) = refusal(&error);
        assert_eq!(
            status,
            if code == "job_not_found" {
                "PT404"
            } else {
                "PT409"
            },
            "the status of {code}"
        );
        code
    })
}

/// Everything that a word could change.
async fn everything(database: &Database) -> String {
    let tables = [
        "ready",
        "parked",
        "lease",
        "finished",
        "dead_letter",
        "attempt",
        "job_events",
        "concurrency_slot",
        "artifact",
    ];
    let parts: Vec<_> = tables
        .iter()
        .map(|t| {
            format!("(select string_agg(t::text, E'\\n' order by t::text) from millrace.{t} t)")
        })
        .collect();
    database
        .one(
            &format!("select concat_ws(E'\\n', {})", parts.join(", ")),
            &[],
        )
        .await
        .get(0)
}

/// Asserts that every verb is refused with `expected`, and that nothing has changed; returns how many were.
async fn assert_refused(database: &Database, case: &str, lease: &Claimed, expected: &str) -> usize {
    let before = everything(database).await;
    for verb in VERBS {
        assert_eq!(
            say(database, verb, lease).await.as_deref(),
            Some(expected),
            "{case}: {verb:?}"
        );
    }
    assert_eq!(
        everything(database).await,
        before,
        "{case}: a refused word changed something"
    );
    VERBS.len()
}

/// A database with the queue `q`, whose failed jobs are due again at once, and its clock stopped.
async fn fresh() -> Database {
    let database = Database::fresh().await;
    database
        .run("select millrace.configure_queue('q', backoff_base => '0', lease => '60 seconds')")
        .await;
    database.stop_clock_at("2030-01-07 12:00:00+00").await;
    database
}

/// A job of `q`, claimed by `ann`.
async fn leased(database: &Database) -> Claimed {
    queue::enqueue(
        database.client(),
        json!({ "queue": "q", "type": "t", "concurrency_key": "c" }),
    )
    .await;
    claim_one(database.client(), "q", "ann").await
}

async fn minutes_later(database: &Database, minutes: u32) {
    database
        .stop_clock_at(&format!("2030-01-07 12:{minutes:02}:00+00"))
        .await;
}

#[tokio::test]
async fn a_stale_worker_is_refused_at_every_verb_after_a_takeover() {
    for takeover in VERBS {
        let database = fresh().await;
        let stale = leased(&database).await;
        minutes_later(&database, 2).await;
        let current = claim_one(database.client(), "q", "bob").await;
        assert_eq!((current.job_id, current.attempt), (stale.job_id, 2));

        assert_refused(&database, "taken over", &stale, "lease_expired").await;
        let impostor = Claimed {
            worker: current.worker.clone(),
            ..stale.clone()
        };
        assert_refused(
            &database,
            "the new worker's name on the old lease",
            &impostor,
            "not_lease_owner",
        )
        .await;
        let thief = Claimed {
            worker: stale.worker.clone(),
            ..current.clone()
        };
        assert_refused(
            &database,
            "the old worker's name on the new lease",
            &thief,
            "not_lease_owner",
        )
        .await;

        assert_eq!(
            say(&database, takeover, &current).await,
            None,
            "the new worker's {takeover:?}"
        );
        let after_that = if matches!(takeover, Verb::Extend) {
            None
        } else {
            Some("already_attempted")
        };
        assert_eq!(
            say(&database, Verb::Extend, &current).await.as_deref(),
            after_that
        );
        assert_refused(
            &database,
            "taken over, and reported since",
            &stale,
            "lease_expired",
        )
        .await;
        database.assert_no_job_misplaced().await;
    }
    println!(
        "fencing: {} refusals after takeovers, {} words of the new worker",
        VERBS.len() * VERBS.len() * 4,
        VERBS.len() * 2
    );
}

#[tokio::test]
async fn an_expired_lease_counts_no_more_even_if_nobody_took_over() {
    let database = fresh().await;
    let lease = leased(&database).await;
    minutes_later(&database, 1).await; // the very instant of its end
    let mut refused =
        assert_refused(&database, "expired a moment ago", &lease, "lease_expired").await;
    database.run("select millrace.housekeep()").await;
    refused += assert_refused(
        &database,
        "expired and queued again",
        &lease,
        "lease_expired",
    )
    .await;
    println!("fencing: {refused} refusals of expired leases");
}

#[tokio::test]
async fn every_other_reason_has_its_code() {
    let mut refused = 0;
    let database = fresh().await;
    let lease = leased(&database).await;
    refused += assert_refused(
        &database,
        "a lease never given",
        &Claimed {
            lease_id: 999_999,
            ..lease.clone()
        },
        "invalid_lease",
    )
    .await;
    refused += assert_refused(
        &database,
        "another worker",
        &Claimed {
            worker: "eve".into(),
            ..lease.clone()
        },
        "not_lease_owner",
    )
    .await;
    refused += assert_refused(
        &database,
        "no such job",
        &Claimed {
            job_id: 999_999,
            ..lease.clone()
        },
        "job_not_found",
    )
    .await;
    refused += assert_refused(
        &database,
        "no such job",
        &Claimed {
            job_id: 0,
            ..lease.clone()
        },
        "job_not_found",
    )
    .await;
    let other = queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    refused += assert_refused(
        &database,
        "another job's lease",
        &Claimed {
            job_id: other,
            ..lease.clone()
        },
        "invalid_lease",
    )
    .await;

    queue::report(database.client(), &lease, Outcome::Failed)
        .await
        .expect("the first report");
    refused += assert_refused(
        &database,
        "reported, and queued again",
        &lease,
        "already_attempted",
    )
    .await;
    let again = queue::claim(database.client(), "q", "bob", 2)
        .await
        .into_iter()
        .find(|c| c.job_id == lease.job_id)
        .expect("the retry");
    refused += assert_refused(
        &database,
        "reported, and running again",
        &lease,
        "already_attempted",
    )
    .await;
    queue::report(database.client(), &again, Outcome::Permanent)
        .await
        .expect("the last report");
    refused += assert_refused(&database, "dead", &again, "already_attempted").await;

    let database = fresh().await;
    let lease = leased(&database).await;
    database
        .client()
        .execute("select millrace.cancel($1)", &[&lease.job_id])
        .await
        .expect("a cancel");
    refused += assert_refused(&database, "cancelled", &lease, "cancelled").await;
    database
        .client()
        .execute("select millrace.retry($1)", &[&lease.job_id])
        .await
        .expect("a retry");
    claim_one(database.client(), "q", "bob").await;
    refused += assert_refused(
        &database,
        "cancelled, and running again",
        &lease,
        "cancelled",
    )
    .await;
    println!("fencing: {refused} refusals for other reasons");
}

/// Words that name no lease, as the collab face allows, speak of the job's current attempt.
#[tokio::test]
async fn a_word_without_a_lease_is_checked_by_what_it_names() {
    let database = fresh().await;
    let job = queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    let answer = async |report: Value| {
        queue::report_many(database.client(), &json!([report]))
            .await
            .expect("an answer")[0]
            .clone()
    };
    let report = |worker: Option<&str>, name: &str| json!({ "job_id": job, "worker": worker, "type": name, "succeeded": true });

    assert_eq!(
        answer(report(None, "t")).await.as_deref(),
        Some("not_leased")
    );
    let lease = claim_one(database.client(), "q", "ann").await;
    assert_eq!(
        answer(report(None, "u")).await.as_deref(),
        Some("type_mismatch")
    );
    assert_eq!(
        answer(report(Some("bob"), "t")).await.as_deref(),
        Some("not_lease_owner")
    );
    minutes_later(&database, 3).await;
    assert_eq!(
        answer(report(None, "t")).await.as_deref(),
        Some("lease_expired")
    );
    let current = claim_one(database.client(), "q", "bob").await;
    assert_eq!((current.job_id, current.attempt), (lease.job_id, 2));
    assert_eq!(
        answer(report(Some("ann"), "t")).await.as_deref(),
        Some("not_lease_owner")
    );
    assert_eq!(answer(report(None, "t")).await, None);
    assert_eq!(
        answer(report(None, "t")).await.as_deref(),
        Some("already_attempted")
    );
    assert_eq!(
        queue::state(database.client(), job).await.as_deref(),
        Some("succeeded")
    );
}

/// In a batch each word stands for itself: the stale ones are refused, the others count.
#[tokio::test]
async fn a_batch_counts_what_is_right_and_refuses_the_rest() {
    let database = fresh().await;
    let jobs: Vec<_> = (0..100).map(|n| json!({ "queue": "q", "type": "t", "lease_seconds": if n % 2 == 0 { 30 } else { 600 } })).collect();
    queue::enqueue_many(database.client(), &json!(jobs))
        .await
        .expect("an enqueue");
    let leases = queue::claim(database.client(), "q", "ann", 100).await;
    minutes_later(&database, 1).await;
    let taken_over = queue::claim(database.client(), "q", "bob", 100).await;
    assert_eq!(taken_over.len(), 50);

    let reports: Vec<_> = leases
        .iter()
        .map(|l| Outcome::Succeeded.report(l.job_id, l.lease_id, &l.worker))
        .collect();
    let codes = queue::report_many(database.client(), &json!(reports))
        .await
        .expect("an answer");
    for (lease, code) in leases.iter().zip(&codes) {
        let stale = taken_over.iter().any(|t| t.job_id == lease.job_id);
        assert_eq!(
            code.as_deref(),
            stale.then_some("lease_expired"),
            "{lease:?}"
        );
    }
    for lease in &taken_over {
        queue::report(database.client(), lease, Outcome::Succeeded)
            .await
            .expect("the new worker's report");
    }
    database.assert_no_job_misplaced().await;
    println!(
        "fencing: a batch of {} words, 50 of them stale",
        reports.len()
    );
}
