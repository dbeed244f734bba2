//! What may be written to the runbook's relations, what is refused, and what reading them costs.

use millrace_tests::database::{Database, explain};
use millrace_tests::queue::{self, Outcome, claim_one};
use serde_json::{Value, json};

use super::{ANN, NOW, attempt, claim, insert, job, refused, rows, select};

async fn due(database: &Database, sql: &str) -> Value {
    database.run("set timezone = 'UTC'").await;
    let row = select(
        database,
        &format!("select scheduled_for from jobs_queue where {sql}"),
    )
    .await;
    row[0]["scheduled_for"].clone()
}

#[tokio::test]
async fn an_insert_makes_a_job_and_returns_its_row() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    database.run("set timezone = 'UTC'").await;
    let made = "insert into jobs_queue (job_type) values ('ocr') returning to_jsonb(jobs_queue.*)";
    let expected = json!({
        "id": 1, "job_type": "ocr", "payload": {}, "status": "pending", "priority": 5, "scheduled_for": "2030-05-01T12:00:00+00:00", "attempts": 0,
        "max_attempts": 5, "locked_by": null, "locked_at": null, "last_attempt_at": null, "last_error": null
    });
    assert_eq!(database.one(made, &[]).await.get::<_, Value>(0), expected);
    database
        .run(
            "insert into jobs_queue (job_type, payload, status, attempts, priority)
             select 'bulk', jsonb_build_object('n', n), 'pending', 0, n % 3 from generate_series(1, 50) as n",
        )
        .await;
    database
        .run("begin; insert into jobs_queue (job_type) values ('undone'); rollback")
        .await;
    let row = database
        .one("select count(*), sum((payload ->> 'n')::int) from jobs_queue where job_type = 'bulk' and status = 'pending'", &[])
        .await;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (50, 1275));
    assert_eq!(
        select(
            &database,
            "select from jobs_queue where job_type = 'undone'"
        )
        .await
        .len(),
        0
    );
}

#[tokio::test]
async fn what_only_the_queue_may_write_is_refused_by_column() {
    let database = Database::fresh().await;
    let id = insert(&database).await;
    let inserts = [
        ("id, job_type", "9, 'ocr'", "id"),
        ("status, job_type", "'processing', 'ocr'", "status"),
        ("status, job_type", "'retry', 'ocr'", "status"),
        ("attempts, job_type", "1, 'ocr'", "attempts"),
        (
            "locked_by, job_type",
            "gen_random_uuid(), 'ocr'",
            "locked_by",
        ),
        ("locked_at, job_type", "now(), 'ocr'", "locked_at"),
        (
            "last_attempt_at, job_type",
            "now(), 'ocr'",
            "last_attempt_at",
        ),
        ("last_error, job_type", "'', 'ocr'", "last_error"),
        ("payload", "'{}'", "job_type"),
        ("job_type", "' '", "job_type"),
        ("job_type, priority", "'ocr', 101", "priority"),
        ("job_type, max_attempts", "'ocr', 0", "max_attempts"),
        (
            "job_type, scheduled_for",
            "'ocr', 'infinity'",
            "scheduled_for",
        ),
    ];
    let updates = [
        ("id = 9", "id"),
        ("job_type = 'other'", "job_type"),
        ("payload = '{\"a\": 1}'", "payload"),
        ("payload = null", "payload"),
        ("priority = 6", "priority"),
        ("attempts = 1", "attempts"),
        (
            "attempts = 0, status = 'retry', max_attempts = 7",
            "max_attempts",
        ),
        ("max_attempts = 6", "max_attempts"),
        ("locked_by = gen_random_uuid()", "locked_by"),
        ("locked_at = now()", "locked_at"),
        ("last_attempt_at = now()", "last_attempt_at"),
        ("last_error = 'none'", "last_error"),
        ("status = 'processing'", "status"),
        ("status = 'completed'", "status"),
        ("status = 'failed'", "status"),
        ("status = 'bogus'", "status"),
        ("status = null", "status"),
    ];
    let statements = inserts
        .map(|(columns, values, column)| {
            (
                format!("insert into jobs_queue ({columns}) values ({values})"),
                column,
            )
        })
        .into_iter()
        .chain(updates.map(|(set, column)| (format!("update jobs_queue set {set}"), column)));
    let mut count = 0;
    for (sql, column) in statements {
        let (status, code, message) = refused(&database, &sql).await;
        assert_eq!(
            (status.as_str(), code.as_str()),
            ("PT400", "invalid_request"),
            "{sql}"
        );
        assert!(
            message.starts_with(&format!("{column} ")),
            "{sql}: {message}"
        );
        count += 1;
    }
    let before = job(&database, id).await;
    database
        .run("update jobs_queue set job_type = job_type, status = status, payload = payload")
        .await;
    assert_eq!(
        job(&database, id).await,
        before,
        "what changes nothing is no change"
    );
    println!("runbook: {count} writes refused by column");
}

#[tokio::test]
async fn history_is_read_only_and_jobs_are_cancelled_not_deleted() {
    let database = Database::fresh().await;
    let id = insert(&database).await;
    claim(&database, ANN).await;
    for (sql, relation) in [
        ("delete from jobs_queue".to_owned(), "jobs_queue"),
        (
            format!("insert into job_runs (job_id) values ({id})"),
            "job_runs",
        ),
        (
            "update job_runs set status = 'completed'".to_owned(),
            "job_runs",
        ),
        ("delete from job_runs".to_owned(), "job_runs"),
    ] {
        let (status, code, message) = refused(&database, &sql).await;
        assert_eq!(
            (status.as_str(), code.as_str()),
            ("PT405", "read_only"),
            "{sql}"
        );
        assert!(message.ends_with(relation), "{message}");
    }
    assert_eq!(job(&database, id).await["status"], "processing");
}

#[tokio::test]
async fn an_operator_cancels_and_retries_by_the_status() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    database
        .run("select millrace.configure_queue('jobs', max_attempts => 1)")
        .await;
    let id = insert(&database).await;
    let set = |status: &str| {
        format!(
            "update jobs_queue set status = '{status}' where id = {id} returning to_jsonb(jobs_queue.*)"
        )
    };
    let changed = async |status: &str| -> Value { database.one(&set(status), &[]).await.get(0) };
    assert_eq!(attempt(&database, false).await["status"], "failed");
    let row = changed("retry").await;
    assert_eq!(
        (&row["status"], &row["attempts"]),
        (&json!("retry"), &json!(1)),
        "one more attempt"
    );
    assert_eq!(attempt(&database, false).await["attempts"], 2);
    let row = changed("pending").await;
    assert_eq!(
        (&row["status"], &row["attempts"]),
        (&json!("pending"), &json!(0)),
        "all of them again"
    );
    assert_eq!(row["last_error"], "it broke", "what happened stays said");
    assert_eq!(changed("cancelled").await["status"], "cancelled");
    assert_eq!(changed("pending").await["status"], "pending");

    claim(&database, ANN).await;
    let row = changed("cancelled").await;
    assert_eq!(
        (&row["status"], &row["locked_by"]),
        (&json!("cancelled"), &Value::Null)
    );
    let word = refused(
        &database,
        &format!("select resolve_job({id}, '{ANN}', true)"),
    )
    .await;
    assert_eq!(word.1, "cancelled");
    let runs = select(&database, "select status from job_runs order by id").await;
    assert_eq!(
        json!(runs),
        json!([{"status": "failed"}, {"status": "failed"}, {"status": "cancelled"}])
    );

    // The statement that other queues of this kind are mended with, and one with another time.
    database
        .run(&format!(
            "update jobs_queue set status = 'pending', attempts = 0, locked_by = null, locked_at = null,
                    scheduled_for = millrace.clock() + interval '1 hour' where id = {id}"
        ))
        .await;
    assert_eq!(
        due(&database, "status = 'pending' and attempts = 0").await,
        "2030-05-01T13:00:00+00:00"
    );
    database.stop_clock_at("2030-05-01 13:00:00+00").await;
    let row = attempt(&database, true).await;
    assert_eq!(
        row["scheduled_for"], "2030-05-01T13:00:00+00:00",
        "what it was put to"
    );
    assert_eq!(
        (&row["status"], &row["last_error"]),
        (&json!("completed"), &Value::Null)
    );
    for (status, code) in [
        ("pending", "not_retryable"),
        ("retry", "not_retryable"),
        ("cancelled", "not_cancellable"),
    ] {
        let refusal = refused(&database, &set(status)).await;
        assert_eq!(
            (refusal.0.as_str(), refusal.1.as_str()),
            ("PT409", code),
            "{status}"
        );
    }
    let waiting = insert(&database).await;
    for status in ["retry", "processing"] {
        let sql = format!("update jobs_queue set status = '{status}' where id = {waiting}");
        refused(&database, &sql).await;
    }
    database.assert_no_job_misplaced().await;
    assert_eq!(
        queue::untrue_counts(database.client()).await,
        Vec::<String>::new()
    );
}

#[tokio::test]
async fn a_job_that_waits_is_given_another_time() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    let id = insert(&database).await;
    let set = |at: &str| format!("update jobs_queue set scheduled_for = {at} where id = {id}");
    database.run(&set("'2030-05-01 18:00+00'")).await;
    assert_eq!(due(&database, "id = 1").await, "2030-05-01T18:00:00+00:00");
    assert!(claim(&database, ANN).await.is_empty());
    // Long after the floors have moved on, an earlier time is now, and the job is found.
    database.stop_clock_at("2030-05-01 15:00:00+00").await;
    for _ in 0..3 {
        assert!(claim(&database, ANN).await.is_empty());
    }
    database.run(&set("'2030-05-01 12:30+00'")).await;
    assert_eq!(due(&database, "id = 1").await, "2030-05-01T15:00:00+00:00");
    let claimed = claim(&database, ANN).await;
    assert_eq!(
        claimed[0]["scheduled_for"], "2030-05-01T15:00:00+00:00",
        "also while it runs"
    );
    for at in ["now()", "'2030-05-02'"] {
        let refusal = refused(&database, &set(at)).await;
        assert_eq!(
            (refusal.0.as_str(), refusal.1.as_str()),
            ("PT409", "not_waiting")
        );
    }
    database
        .run(&format!("select resolve_job({id}, '{ANN}', false)"))
        .await;
    database.run(&set("scheduled_for + interval '1 day'")).await;
    assert_eq!(
        due(&database, "status = 'retry'").await,
        "2030-05-02T15:05:00+00:00"
    );
    for at in ["null", "'infinity'", "'2050-01-01'"] {
        let refusal = refused(&database, &set(at)).await;
        assert_eq!(
            (refusal.0.as_str(), refusal.1.as_str()),
            ("PT400", "invalid_request"),
            "{at}"
        );
    }
    let events = queue::events(database.client(), id).await;
    let expected = [
        "queued",
        "queued",
        "queued",
        "started",
        "retry_scheduled",
        "retry_scheduled",
    ];
    assert_eq!(events, expected);
}

#[tokio::test]
async fn a_parked_job_is_a_waiting_one() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    let keyed = json!({ "queue": "jobs", "type": "ocr", "concurrency_key": "k" });
    for _ in 0..2 {
        queue::enqueue(database.client(), keyed.clone()).await;
    }
    assert_eq!(job(&database, 2).await["status"], "pending");
    database
        .run("update jobs_queue set scheduled_for = '2030-05-01 12:10+00' where id = 2")
        .await;
    assert_eq!(due(&database, "id = 2").await, "2030-05-01T12:10:00+00:00");
    let row = attempt(&database, true).await;
    assert_eq!(
        (&row["id"], &row["status"]),
        (&json!(1), &json!("completed"))
    );
    assert!(
        claim(&database, ANN).await.is_empty(),
        "its turn, and not yet its time"
    );
    database.stop_clock_at("2030-05-01 12:10:00+00").await;
    assert_eq!(claim(&database, ANN).await[0]["id"], 2);
}

#[tokio::test]
async fn a_parked_job_s_time_is_never_in_the_past() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    let keyed = json!({ "queue": "jobs", "type": "ocr", "concurrency_key": "k" });
    for _ in 0..2 {
        queue::enqueue(database.client(), keyed.clone()).await;
    }
    database.stop_clock_at("2030-05-01 12:01:00+00").await;
    for past in ["-infinity", "2020-01-01"] {
        database
            .run(&format!(
                "update jobs_queue set scheduled_for = '{past}' where id = 2"
            ))
            .await;
        assert_eq!(due(&database, "id = 2").await, "2030-05-01T12:01:00+00:00");
    }
}

/// The statement's rows, where another session has done `meanwhile` in a transaction that is still open when the statement comes to it.
async fn update_meanwhile(database: &Database, meanwhile: &str, update: &str) -> u64 {
    let (other, operator) = (database.connect().await, database.connect().await);
    let sql = format!("begin; {meanwhile}");
    other
        .batch_execute(&sql)
        .await
        .unwrap_or_else(|e| panic!("{meanwhile}: {}", explain(&e)));
    let update = update.to_owned();
    let updated = tokio::spawn(async move { operator.execute(&update, &[]).await });
    database.lock_waiters(1).await;
    other.batch_execute("commit").await.expect("its end");
    updated
        .await
        .expect("an operator")
        .unwrap_or_else(|e| panic!("{}", explain(&e)))
}

/// As a table passes over a row that its condition fits no more.
#[tokio::test]
async fn a_job_that_has_left_its_status_is_passed_over() {
    let claim = format!("select from claim_next_job('{ANN}')");
    let fail = format!("select resolve_job(id, '{ANN}', false) from claim_next_job('{ANN}')");
    let resolve = format!("select resolve_job(1, '{ANN}', true)");
    let waiting = "update jobs_queue set status = 'cancelled' where status = 'pending'";
    let later = "update jobs_queue set scheduled_for = scheduled_for + interval '1 hour' where status = 'pending'";
    let running = "update jobs_queue set status = 'cancelled' where status = 'processing'";
    let cases = [
        ("", claim.as_str(), waiting, 2, "processing"),
        ("", &claim, later, 2, "processing"),
        ("", &fail, waiting, 2, "retry"),
        ("", &fail, later, 2, "retry"),
        (&claim, &resolve, running, 0, "completed"),
        (
            "update jobs_queue set status = 'cancelled' where id = 1",
            "update jobs_queue set status = 'pending' where id = 1",
            "update jobs_queue set status = 'retry' where status = 'cancelled'",
            0,
            "pending",
        ),
    ];
    for (before, meanwhile, update, updated, status) in cases {
        let database = Database::fresh().await;
        for _ in 0..3 {
            insert(&database).await;
        }
        database.run(before).await;
        let rows = update_meanwhile(&database, meanwhile, update).await;
        assert_eq!(rows, updated, "{meanwhile}; {update}");
        assert_eq!(
            job(&database, 1).await["status"],
            status,
            "{meanwhile}; {update}"
        );
        database.assert_no_job_misplaced().await;
    }
    println!("runbook: {} updates of jobs that went on", cases.len());
}

/// It takes its key's place meanwhile, and is a waiting job before and after.
#[tokio::test]
async fn a_parked_job_whose_turn_comes_is_not_passed_over() {
    let database = Database::fresh().await;
    let keyed = json!({ "queue": "jobs", "type": "ocr", "concurrency_key": "k" });
    for _ in 0..2 {
        queue::enqueue(database.client(), keyed.clone()).await;
    }
    claim(&database, ANN).await;
    let resolve = format!("select resolve_job(1, '{ANN}', true)");
    let cancel = "update jobs_queue set status = 'cancelled' where status = 'pending'";
    assert_eq!(update_meanwhile(&database, &resolve, cancel).await, 1);
    assert_eq!(job(&database, 2).await["status"], "cancelled");
    database.assert_no_job_misplaced().await;
}

/// An operator's transaction takes a parked job's slot before the job, as whoever ends the job before it does.
#[tokio::test]
async fn a_parked_job_is_rescheduled_and_cancelled_while_the_one_before_it_ends() {
    for reschedule in [
        "update jobs_queue set scheduled_for = scheduled_for + interval '1 hour' where id = 2",
        "select millrace.reschedule(2, millrace.clock() + interval '1 hour')",
    ] {
        let database = Database::fresh().await;
        let keyed = json!({ "queue": "jobs", "type": "ocr", "concurrency_key": "k" });
        for _ in 0..2 {
            queue::enqueue(database.client(), keyed.clone()).await;
        }
        claim(&database, ANN).await;
        let (operator, worker) = (database.connect().await, database.connect().await);
        let sql = format!("begin; {reschedule}");
        operator.batch_execute(&sql).await.expect("another time");
        let resolved = tokio::spawn(async move {
            let sql = format!("select resolve_job(1, '{ANN}', true)");
            worker.batch_execute(&sql).await
        });
        database.lock_waiters(1).await;
        operator
            .batch_execute("update jobs_queue set status = 'cancelled' where id = 2; commit")
            .await
            .unwrap_or_else(|e| panic!("{reschedule}: {}", explain(&e)));
        resolved
            .await
            .expect("a worker")
            .unwrap_or_else(|e| panic!("{reschedule}: {}", explain(&e)));
        assert_eq!(job(&database, 1).await["status"], "completed");
        assert_eq!(job(&database, 2).await["status"], "cancelled");
    }
}

/// A worker and an operator wait for the same slot, the worker first: it then takes the parked job, which the operator must not hold.
#[tokio::test]
async fn an_update_of_a_parked_job_waits_for_its_slot_with_nothing_in_hand() {
    let database = Database::fresh().await;
    let keyed = json!({ "queue": "jobs", "type": "ocr", "concurrency_key": "k" });
    for _ in 0..2 {
        queue::enqueue(database.client(), keyed.clone()).await;
    }
    claim(&database, ANN).await;
    let holder = database.connect().await;
    holder
        .batch_execute("begin; select from millrace.concurrency_slot for update")
        .await
        .expect("the slot");
    let mut waiters = Vec::new();
    for sql in [
        format!("select resolve_job(1, '{ANN}', true)"),
        "update jobs_queue set scheduled_for = scheduled_for + interval '1 hour' where id = 2"
            .to_owned(),
    ] {
        let client = database.connect().await;
        waiters.push(tokio::spawn(
            async move { client.batch_execute(&sql).await },
        ));
        database.lock_waiters(waiters.len() as i64).await;
    }
    holder.batch_execute("commit").await.expect("its release");
    for waiter in waiters {
        waiter
            .await
            .expect("a session")
            .unwrap_or_else(|e| panic!("{}", explain(&e)));
    }
    assert_eq!(job(&database, 2).await["status"], "pending");
    assert!(claim(&database, ANN).await.is_empty(), "an hour later");
}

#[tokio::test]
async fn a_job_that_waits_for_its_retry_is_due_now_once_it_is_set_to_pending() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    let id = insert(&database).await;
    assert_eq!(attempt(&database, false).await["status"], "retry");
    assert!(claim(&database, ANN).await.is_empty());
    let (_, code, message) = refused(
        &database,
        "update jobs_queue set status = 'pending', attempts = 0",
    )
    .await;
    assert_eq!(code, "invalid_request");
    assert!(message.starts_with("attempts "), "{message}");
    let (_, code, _) = refused(
        &database,
        "update jobs_queue set status = 'failed' where status = 'retry'",
    )
    .await;
    assert_eq!(code, "invalid_request");

    let sql = "update jobs_queue set status = 'pending' where status in ('retry', 'failed')";
    let updated = database.client().execute(sql, &[]).await;
    assert_eq!(updated.expect("an update"), 1);
    assert_eq!(
        due(&database, "attempts = 1 and status = 'retry'").await,
        "2030-05-01T12:00:00+00:00"
    );
    let row = attempt(&database, false).await;
    assert_eq!((&row["id"], &row["attempts"]), (&json!(id), &json!(2)));
    database
        .run("update jobs_queue set status = 'pending', scheduled_for = '2030-05-01 12:01+00'")
        .await;
    assert_eq!(
        due(&database, "status = 'retry'").await,
        "2030-05-01T12:01:00+00:00"
    );
}

/// A job that came back between two looks is no reason to say that it does not wait.
#[tokio::test]
async fn a_job_that_waits_is_not_refused_as_one_that_does_not() {
    let database = Database::fresh().await;
    insert(&database).await;
    let refusal = refused(
        &database,
        "select millrace.refuse_transition(1, 'not_waiting', 'only a job that waits')",
    )
    .await;
    assert_eq!(
        (refusal.0.as_str(), refusal.1.as_str()),
        ("PT503", "try_again")
    );
}

#[tokio::test]
async fn other_faces_workers_and_queues_do_not_disturb() {
    let database = Database::fresh().await;
    queue::enqueue(
        database.client(),
        json!({ "queue": "other", "type": "ocr" }),
    )
    .await;
    let lease = claim_one(database.client(), "other", "worker").await;
    queue::report(database.client(), &lease, Outcome::Failed)
        .await
        .expect("a report");
    let id = insert(&database).await;
    for (worker, shown) in [
        ("service:host:pid", Value::Null),
        (&ANN.to_uppercase(), json!(ANN)),
    ] {
        let lease = claim_one(database.client(), "jobs", worker).await;
        assert_eq!(job(&database, id).await["locked_by"], shown);
        let runs = select(
            &database,
            "select worker_id from job_runs where status = 'processing'",
        )
        .await;
        assert_eq!(runs, [json!({ "worker_id": shown })]);
        queue::report(database.client(), &lease, Outcome::RetryAfter(0.0))
            .await
            .expect("a report");
    }
    assert_eq!(select(&database, "select * from jobs_queue").await.len(), 1);
    assert_eq!(select(&database, "select * from job_runs").await.len(), 2);
}

#[tokio::test]
async fn a_cron_task_is_a_schedule() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    database.run("set timezone = 'UTC'").await;
    let made: Value = database
        .one("insert into cron_tasks (slug, job_type, cron_schedule) values ('nightly', 'ocr', '0 3 * * *') returning to_jsonb(cron_tasks.*)", &[])
        .await
        .get(0);
    let at = "2030-05-01T12:00:00+00:00";
    let mut expected = json!({
        "id": 1, "slug": "nightly", "description": null, "job_type": "ocr", "payload": {}, "cron_schedule": "0 3 * * *", "timezone": "UTC",
        "active": true, "last_enqueued_at": null, "created_at": at, "updated_at": at, "next_run_at": "2030-05-02T03:00:00+00:00"
    });
    assert_eq!(made, expected);
    let columns = select(&database, "select string_agg(attname, ', ' order by attnum) as c from pg_attribute where attrelid = 'cron_tasks'::regclass").await;
    let named = "id, slug, description, job_type, payload, cron_schedule, timezone, active, last_enqueued_at, created_at, updated_at, next_run_at";
    assert_eq!(columns[0]["c"], named);

    database.stop_clock_at("2030-05-01 13:00:00+00").await;
    database
        .run(
            "update cron_tasks set slug = 'evening', description = 'Reads pages', job_type = 'read', payload = '{\"all\": true}',
                    cron_schedule = '0 20 * * *', timezone = 'Europe/Berlin', updated_at = now() where slug = 'nightly'",
        )
        .await;
    let changes = json!({
        "slug": "evening", "description": "Reads pages", "job_type": "read", "payload": {"all": true}, "cron_schedule": "0 20 * * *",
        "timezone": "Europe/Berlin", "updated_at": "2030-05-01T13:00:00+00:00", "next_run_at": "2030-05-01T18:00:00+00:00"
    });
    let changes = changes.as_object().expect("an object").clone();
    expected.as_object_mut().expect("an object").extend(changes);
    assert_eq!(
        select(&database, "select * from cron_tasks").await,
        [expected]
    );

    // Due at 20:00 in Berlin, once; and not while it is paused.
    let enqueue = "select enqueue_cron_tasks() as n";
    database.stop_clock_at("2030-05-01 17:59:59+00").await;
    assert_eq!(select(&database, enqueue).await[0]["n"], 0);
    database.stop_clock_at("2030-05-01 18:00:30+00").await;
    assert_eq!(select(&database, enqueue).await[0]["n"], 1);
    assert_eq!(select(&database, enqueue).await[0]["n"], 0);
    let claimed = claim(&database, ANN).await;
    assert_eq!(
        (&claimed[0]["job_type"], &claimed[0]["payload"]),
        (&json!("read"), &json!({"all": true}))
    );
    let row = &select(
        &database,
        "select last_enqueued_at, next_run_at from cron_tasks",
    )
    .await[0];
    let expected = json!({ "last_enqueued_at": "2030-05-01T18:00:30+00:00", "next_run_at": "2030-05-02T18:00:00+00:00" });
    assert_eq!(row, &expected);
    database.run("update cron_tasks set active = false").await;
    assert_eq!(
        select(&database, "select active, next_run_at from cron_tasks").await,
        [json!({"active": false, "next_run_at": null})]
    );
    database.stop_clock_at("2030-05-03 12:00:00+00").await;
    assert_eq!(select(&database, enqueue).await[0]["n"], 0);
    database
        .run("update cron_tasks set active = true, description = null")
        .await;
    let row = &select(
        &database,
        "select active, next_run_at, description from cron_tasks",
    )
    .await[0];
    let expected =
        json!({ "active": true, "next_run_at": "2030-05-03T18:00:00+00:00", "description": null });
    assert_eq!(row, &expected);

    database
        .run("delete from cron_tasks where slug = 'evening'")
        .await;
    assert!(
        select(&database, "select * from cron_tasks")
            .await
            .is_empty()
    );
    database
        .run("insert into cron_tasks (slug, job_type, cron_schedule, active, payload, description) values ('off', 'ocr', '@hourly', false, null, 'd')")
        .await;
    let row = &select(
        &database,
        "select active, next_run_at, payload, description from cron_tasks",
    )
    .await[0];
    let expected =
        json!({ "active": false, "next_run_at": null, "payload": {}, "description": "d" });
    assert_eq!(row, &expected);
}

#[tokio::test]
async fn a_bad_cron_task_is_refused_by_name_and_place() {
    let database = Database::fresh().await;
    database
        .run(
            "insert into cron_tasks (slug, job_type, cron_schedule) values ('a', 'ocr', '0 3 * * *'), ('b', 'ocr', '0 3 * * *');
             select millrace.create_schedule('elsewhere', '0 3 * * *', 'other', 't')",
        )
        .await;
    let insert = |columns: &str, values: &str| {
        format!("insert into cron_tasks ({columns}) values ({values})")
    };
    let update = |set: &str| format!("update cron_tasks set {set} where slug = 'a'");
    let cases = [
        (
            insert("slug, job_type, cron_schedule", "'c', 'ocr', '0 24 * * *'"),
            "PT400",
            "invalid_cron",
            "character 3",
        ),
        (
            insert("slug, job_type, cron_schedule", "'c', 'ocr', null"),
            "PT400",
            "invalid_request",
            "expression",
        ),
        (
            insert("slug, job_type, cron_schedule", "null, 'ocr', '@daily'"),
            "PT400",
            "invalid_request",
            "slug",
        ),
        (
            insert("slug, cron_schedule", "'c', '@daily'"),
            "PT400",
            "invalid_request",
            "type",
        ),
        (
            insert(
                "slug, job_type, cron_schedule, timezone",
                "'c', 'ocr', '@daily', 'Mars/Olympus'",
            ),
            "PT400",
            "",
            "Mars/Olympus",
        ),
        (
            insert("slug, job_type, cron_schedule", "'a', 'ocr', '@daily'"),
            "PT409",
            "schedule_exists",
            "slug",
        ),
        (
            insert(
                "slug, job_type, cron_schedule",
                "'elsewhere', 'ocr', '@daily'",
            ),
            "PT409",
            "schedule_exists",
            "slug",
        ),
        (
            insert(
                "id, slug, job_type, cron_schedule",
                "9, 'c', 'ocr', '@daily'",
            ),
            "PT400",
            "invalid_request",
            "id",
        ),
        (
            insert(
                "next_run_at, slug, job_type, cron_schedule",
                "now(), 'c', 'ocr', '@daily'",
            ),
            "PT400",
            "invalid_request",
            "next_run_at",
        ),
        (
            update("cron_schedule = '61 * * * *'"),
            "PT400",
            "invalid_cron",
            "character 1",
        ),
        (update("slug = 'b'"), "PT409", "schedule_exists", "slug"),
        (update("id = 9"), "PT400", "invalid_request", "id"),
        (
            update("last_enqueued_at = now()"),
            "PT400",
            "invalid_request",
            "last_enqueued_at",
        ),
        (
            update("created_at = now()"),
            "PT400",
            "invalid_request",
            "created_at",
        ),
        (
            update("next_run_at = now()"),
            "PT400",
            "invalid_request",
            "next_run_at",
        ),
        (
            update("active = null"),
            "PT400",
            "invalid_request",
            "active",
        ),
        (update("slug = null"), "PT400", "invalid_request", "slug"),
        (
            update("payload = null"),
            "PT400",
            "invalid_request",
            "payload",
        ),
    ];
    for (sql, status, code, named) in &cases {
        let refusal = refused(&database, sql).await;
        assert_eq!(refusal.0, *status, "{sql}: {refusal:?}");
        assert!(code.is_empty() || refusal.1 == *code, "{sql}: {refusal:?}");
        assert!(refusal.2.contains(named), "{sql}: {refusal:?}");
    }
    // Schedules of other queues are not the runbook's.
    let untouched = database
        .client()
        .execute("delete from cron_tasks where slug = 'elsewhere'", &[])
        .await;
    assert_eq!(untouched.expect("a delete"), 0);
    assert_eq!(
        select(&database, "select slug from cron_tasks order by slug").await,
        [json!({"slug": "a"}), json!({"slug": "b"})]
    );
    println!("runbook: {} cron tasks refused", cases.len());
}

/// The pages that a statement touches.
async fn pages(database: &Database, sql: &str) -> i64 {
    let sql = format!("explain (analyze, buffers, timing off, format json) {sql}");
    let plan: Value = database.one(&sql, &[]).await.get(0);
    let pages = |name: &str| plan[0]["Plan"][name].as_i64().expect("a count of pages");
    pages("Shared Hit Blocks") + pages("Shared Read Blocks")
}

/// As a plan guard: it bounds pages, never time; with the planner's statistics and without them.
#[tokio::test]
async fn one_job_or_one_status_of_50_000_touches_few_pages() {
    let database = Database::fresh().await;
    // Nothing but this test's analyze tells the planner anything.
    database
        .run(
            "do $$ declare v_table regclass; begin
               for v_table in select c.oid::regclass from pg_class c where c.relnamespace = 'millrace'::regnamespace and c.relkind = 'r' loop
                 execute format('alter table %s set (autovacuum_enabled = false)', v_table);
               end loop;
             end $$",
        )
        .await;
    database
        .run(
            "select sum(e.job_id) from generate_series(1, 60) as batch
              cross join lateral millrace.enqueue_many((select jsonb_agg(jsonb_build_object(
                'queue', case when batch > 50 then 'other' else 'jobs' end, 'type', 'ocr', 'payload', jsonb_build_object('n', n, 'batch', batch)))
                from generate_series(1, 1000) as n)) as e;
             do $$ begin
               for n in 1 .. 20 loop
                 perform from millrace.report_many((select jsonb_agg(jsonb_build_object('job_id', c.job_id, 'lease_id', c.lease_id, 'worker', 'w',
                   'succeeded', n < 20, 'permanent', true)) from millrace.claim('jobs', 'w', case when n = 20 then 20 else 1000 end) as c));
               end loop;
             end $$",
        )
        .await;
    let counted = rows(
        database.client(),
        "select status, count(*) as n from jobs_queue group by status order by status",
    )
    .await
    .expect("counts");
    let expected = [
        json!({"status": "completed", "n": 19000}),
        json!({"status": "failed", "n": 20}),
        json!({"status": "pending", "n": 30980}),
    ];
    assert_eq!(counted, expected);
    for analysed in [false, true] {
        if analysed {
            database.run("analyze").await;
        }
        let waiting = pages(&database, "select * from jobs_queue where id = 45000").await;
        let finished = pages(&database, "select * from jobs_queue where id = 11000").await;
        let failed = pages(&database, "select id, job_type, payload, attempts, last_error from jobs_queue where status = 'failed'").await;
        let runs = pages(&database, "select * from job_runs where job_id = 11000").await;
        println!(
            "runbook: of 50,000 jobs, one that waits is {waiting} pages, one that is finished {finished}, its runs {runs}, the 20 failed {failed}; analysed: {analysed}"
        );
        assert!(
            waiting < 300 && finished < 300 && runs < 300,
            "{waiting}, {finished}, {runs}"
        );
        assert!(failed < 500, "{failed}");
        let listed = pages(
            &database,
            "select * from jobs_queue where id in (11000, 45000)",
        )
        .await;
        let chosen = pages(
            &database,
            "select status from jobs_queue where id = any (array(select n from generate_series(11000, 11020) as n))",
        )
        .await;
        let joined = pages(
            &database,
            "select * from jobs_queue q join job_runs r on r.job_id = q.id where q.id = 11000",
        )
        .await;
        assert!(
            listed < 500 && chosen < 1500 && joined < 500,
            "{listed}, {chosen}, {joined}"
        );
        // Every job once, and each by its key: what is quadratic would touch millions.
        let newest = pages(
            &database,
            "select id from jobs_queue where job_type = 'ocr' order by id desc limit 20",
        )
        .await;
        let attempts = pages(&database, "select count(*) from job_runs").await;
        println!(
            "runbook: two of them are {listed} pages, 21 chosen {chosen}, one with its runs {joined}; the newest 20 of a type {newest}, all runs {attempts}"
        );
        assert!(
            newest < 300_000 && attempts < 150_000,
            "{newest}, {attempts}"
        );
    }
}
