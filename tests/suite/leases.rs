//! What happens to a job whose worker says no more, and how a worker asks for more time.

use millrace_tests::database::{Database, refusal};
use millrace_tests::queue::{self, Outcome, Want, claim_one};
use serde_json::json;

/// The events of a job whose first worker vanished, up to its second start.
const TAKEN_OVER: [&str; 5] = [
    "queued",
    "started",
    "lease_expired",
    "retry_scheduled",
    "started",
];

/// A database with the queue `q`: leases of 30 seconds, retries due at once, three attempts.
async fn fresh() -> Database {
    let database = Database::fresh().await;
    database.run("select millrace.configure_queue('q', max_attempts => 3, backoff_base => '0', lease => '30 seconds')").await;
    database
}

#[tokio::test]
async fn a_worker_killed_in_mid_job_has_its_job_redone() {
    let database = fresh().await;
    let job = queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;

    let worker = database.connect().await;
    let pid: i32 = worker
        .query_one("select pg_backend_pid()", &[])
        .await
        .expect("a pid")
        .get(0);
    let first = claim_one(&worker, "q", "ann").await;
    assert_eq!((first.job_id, first.attempt), (job, 1));
    // The kill: the server ends the worker's connection, and nothing is ever reported.
    database
        .one("select pg_terminate_backend($1)", &[&pid])
        .await;
    drop(worker);

    database.set_clock_ahead(29.0).await;
    assert_eq!(
        queue::claim(database.client(), "q", "bob", 1).await,
        [],
        "the lease has not run out yet"
    );
    database.set_clock_ahead(31.0).await;
    let second = claim_one(database.client(), "q", "bob").await;
    assert_eq!(
        (second.job_id, second.attempt, second.max_attempts),
        (job, 2, 3)
    );
    assert!(second.lease_id > first.lease_id);
    assert_eq!(queue::events(database.client(), job).await, TAKEN_OVER);

    queue::report(database.client(), &second, Outcome::Succeeded)
        .await
        .expect("the new worker's report");
    let rows = database.all("select attempt, worker, outcome, error_code from millrace.attempt where job_id = $1 order by lease_id", &[&job]).await;
    let attempts: Vec<(i16, &str, &str, Option<&str>)> = rows
        .iter()
        .map(|r| (r.get(0), r.get(1), r.get(2), r.get(3)))
        .collect();
    assert_eq!(
        attempts,
        [
            (1, "ann", "lease_expired", Some("lease_expired")),
            (2, "bob", "succeeded", None)
        ]
    );
    assert_eq!(
        queue::state(database.client(), job).await.as_deref(),
        Some("succeeded")
    );
}

#[tokio::test]
async fn a_claim_that_never_committed_leaves_the_job_where_it_was() {
    let database = fresh().await;
    let job = queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    let worker = database.connect().await;
    worker.batch_execute("begin").await.expect("a transaction");
    assert_eq!(claim_one(&worker, "q", "ann").await.job_id, job);
    assert_eq!(
        queue::claim(database.client(), "q", "bob", 1).await,
        [],
        "another worker passes it over"
    );
    worker.batch_execute("rollback").await.expect("a rollback");
    assert_eq!(claim_one(database.client(), "q", "bob").await.attempt, 1);
    assert_eq!(
        queue::events(database.client(), job).await,
        ["queued", "started"]
    );
}

#[tokio::test]
async fn a_job_that_kills_its_workers_ends_in_the_dead_letters() {
    let database = fresh().await;
    let job = queue::enqueue(database.client(), json!({ "queue": "q", "type": "poison" })).await;
    for attempt in 1..=3 {
        let worker = database.connect().await;
        assert_eq!(
            claim_one(&worker, "q", &format!("worker-{attempt}"))
                .await
                .attempt,
            attempt
        );
        drop(worker);
        database.set_clock_ahead(f64::from(attempt) * 60.0).await;
    }
    assert_eq!(
        queue::claim(database.client(), "q", "bob", 1).await,
        [],
        "three attempts, and no more"
    );

    let letter = database
        .one(
            "select job_id, attempts, reason, error from millrace.dead_letter",
            &[],
        )
        .await;
    assert_eq!(
        (
            letter.get::<_, i64>(0),
            letter.get::<_, i16>(1),
            letter.get::<_, &str>(2)
        ),
        (job, 3, "lease_expired")
    );
    let life = [
        "queued",
        "started",
        "lease_expired",
        "retry_scheduled",
        "started",
        "lease_expired",
        "retry_scheduled",
        "started",
        "lease_expired",
        "dead_lettered",
    ];
    assert_eq!(queue::events(database.client(), job).await, life);
    database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn housekeeping_ends_leases_of_queues_that_nobody_claims_from() {
    let database = fresh().await;
    for _ in 0..3 {
        queue::enqueue(database.client(), json!({ "queue": "q", "type": "t" })).await;
    }
    queue::claim(database.client(), "q", "ann", 2).await;
    let expired = async || -> i32 {
        database
            .one(
                "select (millrace.housekeep() ->> 'leases_expired')::int",
                &[],
            )
            .await
            .get(0)
    };
    assert_eq!(expired().await, 0);
    database.set_clock_ahead(31.0).await;
    assert_eq!(expired().await, 2);
    assert_eq!(expired().await, 0, "running twice does no harm");
    let queued: i64 = database
        .one("select count(*) from millrace.ready", &[])
        .await
        .get(0);
    assert_eq!(queued, 3);
}

#[tokio::test]
async fn an_extension_gives_time_and_never_takes_it() {
    let database = fresh().await;
    database.stop_clock_at("2030-01-07 12:00:00+00").await;
    queue::enqueue(
        database.client(),
        json!({ "queue": "q", "type": "t", "lease_seconds": 40 }),
    )
    .await;
    let lease = claim_one(database.client(), "q", "ann").await;
    let extend = async |length: Option<&str>| -> String {
        let sql = "select to_char(millrace.extend_lease($1, $2, 'ann', $3::text::interval) at time zone 'UTC', 'HH24:MI:SS')";
        database
            .one(sql, &[&lease.job_id, &lease.lease_id, &length])
            .await
            .get(0)
    };
    assert_eq!(
        extend(None).await,
        "12:00:40",
        "the job's own length, as claimed"
    );
    database.stop_clock_at("2030-01-07 12:00:30+00").await;
    assert_eq!(extend(Some("1 second")).await, "12:00:40", "never shorter");
    assert_eq!(extend(None).await, "12:01:10");
    assert_eq!(extend(Some("10 minutes")).await, "12:10:30");
    database
        .stop_clock_at("2030-01-07 12:10:29.999999+00")
        .await;
    assert_eq!(
        queue::claim(database.client(), "q", "bob", 1).await,
        [],
        "still leased"
    );
    queue::report(database.client(), &lease, Outcome::Succeeded)
        .await
        .expect("a report within the extended lease");
}

#[tokio::test]
async fn an_extension_waits_for_nobody_and_calls_nothing_lost_that_may_not_be() {
    let database = fresh().await;
    let jobs = json!([{ "queue": "q", "type": "t" }, { "queue": "q", "type": "t" }]);
    queue::enqueue_many(database.client(), &jobs)
        .await
        .expect("an enqueue");
    let held = queue::claim(database.client(), "q", "ann", 2).await;
    let somebody = database.connect().await;
    let lock = format!(
        "begin; select from millrace.lease where job_id = {} for update",
        held[0].job_id
    );
    somebody.batch_execute(&lock).await.expect("the lease");
    database.run("set lock_timeout = '1s'").await; // a wait would be an error
    database.set_clock_ahead(20.0).await;

    let extend = async |lease: &queue::Claimed| {
        let sql = "select millrace.extend_lease($1, $2, 'ann')";
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
            [&lease.job_id, &lease.lease_id];
        let extended = database.client().query_one(sql, &parameters).await;
        extended.map(drop).map_err(|error| refusal(&error))
    };
    let busy = ("PT503".to_owned(), "try_again".to_owned());
    assert_eq!(extend(&held[0]).await, Err(busy));
    assert_eq!(extend(&held[1]).await, Ok(()));
    let extended = async || -> serde_json::Value {
        let sql = "select millrace_api.channel_extend(jsonb_build_object('workerId', 'ann', 'leaseSeconds', 30, 'leases',
                     (select jsonb_agg(jsonb_build_object('id', millrace.job_uuid(job_id), 'leaseId', lease_id)) from millrace.lease)))";
        database.one(sql, &[]).await.get(0)
    };
    let id: String = database
        .one("select millrace.job_uuid($1)::text", &[&held[0].job_id])
        .await
        .get(0);
    let (nobody, one) = (json!([]), json!([id]));
    assert_eq!(extended().await, json!({ "lost": nobody, "busy": one }));
    database.set_clock_ahead(31.0).await;
    assert_eq!(extended().await, json!({ "lost": one, "busy": nobody }));
    somebody.batch_execute("rollback").await.expect("its end");
    let expired = ("PT409".to_owned(), "lease_expired".to_owned());
    assert_eq!(extend(&held[0]).await, Err(expired));
    assert_eq!(extend(&held[1]).await, Ok(()));
}

#[tokio::test]
async fn lease_lengths_come_from_the_claim_then_the_job_then_the_queue() {
    let database = fresh().await;
    database.stop_clock_at("2030-01-07 12:00:00+00").await;
    queue::enqueue(
        database.client(),
        json!({ "queue": "q", "type": "queue's" }),
    )
    .await;
    queue::enqueue(
        database.client(),
        json!({ "queue": "q", "type": "job's", "lease_seconds": 45.5 }),
    )
    .await;
    queue::enqueue(
        database.client(),
        json!({ "queue": "q", "type": "claim's", "lease_seconds": 45 }),
    )
    .await;
    for (name, lease) in [("queue's", None), ("job's", None), ("claim's", Some(600.0))] {
        let want = Want {
            job_type: Some(name),
            lease,
            ..Want::any("q", "ann", 1)
        };
        assert_eq!(
            queue::try_claim(database.client(), want)
                .await
                .expect("a claim")
                .len(),
            1
        );
    }
    let rows = database.all("select extract(epoch from expires_at - leased_at)::float8 from millrace.lease order by job_id", &[]).await;
    let lengths: Vec<f64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(lengths, [30.0, 45.5, 600.0]);
    for lease in [0.5, 86_401.0] {
        let error = queue::try_claim(
            database.client(),
            Want {
                lease: Some(lease),
                ..Want::any("q", "ann", 1)
            },
        )
        .await
        .expect_err("a refusal");
        assert_eq!(
            refusal(&error),
            ("PT400".to_owned(), "invalid_request".to_owned())
        );
    }
}

/// An application's long transaction has enqueued with a concurrency key, and so has its slot locked, when the lease of the
/// key's holder runs out with its last attempt. Everything else goes on; the holder is ended once that is over.
#[tokio::test]
async fn the_expiry_waits_for_nobody() {
    let database = Database::fresh().await;
    database.run("select millrace.configure_queue('q', max_attempts => 1); select millrace.configure_queue('idle', max_attempts => 1)").await;
    let client = database.client();
    let keyed = |key: &str| json!({ "queue": "q", "type": "t", "concurrency_key": key });
    let holder = queue::enqueue(client, keyed("k")).await;
    let other_holder = queue::enqueue(client, keyed("l")).await;
    let plain = queue::enqueue(client, json!({ "queue": "q", "type": "t" })).await;
    let elsewhere = queue::enqueue(client, json!({ "queue": "idle", "type": "t" })).await;
    assert_eq!(queue::claim(client, "q", "gone", 10).await.len(), 3);
    claim_one(client, "idle", "gone").await;
    let other_next = queue::enqueue(client, keyed("l")).await;
    let second = queue::enqueue(client, keyed("k")).await;

    let application = database.connect().await;
    application
        .batch_execute("begin")
        .await
        .expect("a transaction");
    let third = queue::enqueue(&application, keyed("k")).await;
    database.set_clock_ahead(61.0).await;
    database.run("set lock_timeout = '1s'").await; // a wait would be an error

    let state = async |job| queue::state(client, job).await.expect("a state");
    let ids = |claimed: &[queue::Claimed]| claimed.iter().map(|c| c.job_id).collect::<Vec<_>>();
    let claimed = queue::claim(client, "q", "bob", 10).await;
    assert_eq!(ids(&claimed), [other_next], "the other key goes on");
    assert_eq!(state(other_holder).await, "dead");
    assert_eq!(state(plain).await, "dead");
    assert_eq!(state(holder).await, "running");
    let did: serde_json::Value = database
        .one("select millrace.housekeep()", &[])
        .await
        .get(0);
    assert_eq!(did["leases_expired"], json!(1), "{did}");
    assert_eq!(state(elsewhere).await, "dead");
    assert_eq!(state(holder).await, "running");
    // Tending again and again must not move the floor of leases past the one that was left.
    for seconds in [63.0, 65.0, 67.0] {
        database.set_clock_ahead(seconds).await;
        assert_eq!(queue::claim(client, "q", "bob", 10).await, []);
    }
    database.assert_no_job_misplaced().await;

    application.batch_execute("commit").await.expect("a commit");
    for (seconds, job) in [(69.0, second), (71.0, third)] {
        database.set_clock_ahead(seconds).await;
        let claimed = queue::claim(client, "q", "bob", 10).await;
        assert_eq!(ids(&claimed), [job], "one after another");
        assert_eq!(state(holder).await, "dead");
        database.set_clock_ahead(seconds + 1.0).await;
        assert_eq!(queue::claim(client, "q", "cid", 10).await, []);
        queue::report(client, &claimed[0], Outcome::Succeeded)
            .await
            .expect("a report");
    }
    queue::report(client, &claimed[0], Outcome::Succeeded)
        .await
        .expect("a report");
    for job in [other_next, second, third] {
        assert_eq!(state(job).await, "succeeded");
    }
    assert_eq!(
        queue::events(client, holder).await,
        ["queued", "started", "lease_expired", "dead_lettered"]
    );
    database.assert_no_job_misplaced().await;
}
