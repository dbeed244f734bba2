//! The runbook in SQL: its relations as the core has them, what may be written to them, its functions, where all of that lies and
//! who may use it.

mod placing;
mod relations;

use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::join_all;
use millrace_tests::database::{Database, explain, refusal};
use millrace_tests::queue::{self, crowd};
use serde_json::{Value, json};
use tokio_postgres::{Client, Error};

const NOW: &str = "2030-05-01 12:00:00+00";
const ANN: &str = "11111111-1111-4111-8111-111111111111";
const BOB: &str = "22222222-2222-4222-8222-222222222222";

/// The rows of a query, each as an object.
async fn rows(client: &Client, sql: &str) -> Result<Vec<Value>, Error> {
    let sql = format!("select to_jsonb(r) from ({sql}) as r");
    let rows = client.query(&sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

async fn select(database: &Database, sql: &str) -> Vec<Value> {
    rows(database.client(), sql)
        .await
        .unwrap_or_else(|e| panic!("{sql}: {}", explain(&e)))
}

/// The job's row.
async fn job(database: &Database, id: i64) -> Value {
    let rows = select(
        database,
        &format!("select * from jobs_queue where id = {id}"),
    )
    .await;
    assert_eq!(
        rows.len(),
        1,
        "job {id} is in jobs_queue {} times",
        rows.len()
    );
    rows[0].clone()
}

/// A job of the type `ocr`.
async fn insert(database: &Database) -> i64 {
    let sql = "insert into jobs_queue (job_type) values ('ocr') returning id";
    database.one(sql, &[]).await.get(0)
}

async fn claim(database: &Database, worker: &str) -> Vec<Value> {
    select(
        database,
        &format!("select * from claim_next_job('{worker}')"),
    )
    .await
}

/// Claims the next job and fails it, or not; answers its row after that.
async fn attempt(database: &Database, success: bool) -> Value {
    let id = claim(database, ANN).await[0]["id"].as_i64().expect("a job");
    let sql = format!("select resolve_job({id}, '{ANN}', {success}, 'it broke')");
    database.run(&sql).await;
    job(database, id).await
}

/// The statement's refusal: its status and code, and its message.
async fn refused(database: &Database, sql: &str) -> (String, String, String) {
    let error = database.client().batch_execute(sql).await.expect_err(sql);
    let (status, code) = refusal(&error);
    let message = error.as_db_error().expect("a refusal").message().to_owned();
    (status, code, message)
}

/// What the document tells a worker and an operator to run, as it is written there, with the arguments' names and types.
#[tokio::test]
async fn the_document_s_statements_run_as_written() {
    let database = Database::fresh().await;
    database
        .run("insert into cron_tasks (slug, job_type, cron_schedule) values ('renewals', 'license_renewal', '*/5 * * * *')")
        .await;
    database.run("select enqueue_cron_tasks();").await;
    database.set_clock_ahead(600.0).await;
    assert_eq!(
        select(
            &database,
            "select enqueue_cron_tasks();".trim_end_matches(';')
        )
        .await[0]["enqueue_cron_tasks"],
        1
    );
    let claimed = select(
        &database,
        &format!(
            "select * from claim_next_job(worker_id => '{ANN}', job_type => 'license_renewal')"
        ),
    )
    .await;
    let id = &claimed[0]["id"];
    assert_eq!(claimed[0]["payload"], json!({}));
    database
        .run(&format!("select resolve_job(job_id => {id}, worker_id => '{ANN}', success => false, error => 'no licence')"))
        .await;
    let failed = "select * from jobs_queue where status = 'failed' and last_attempt_at < now() - interval '10 minutes'";
    assert_eq!(select(&database, failed).await, Vec::<Value>::new());
    assert_eq!(select(&database, "select * from job_runs").await.len(), 1);
    let tasks = select(
        &database,
        "select last_enqueued_at is not null as enqueued from cron_tasks",
    )
    .await;
    assert_eq!(tasks, [json!({ "enqueued": true })]);
}

#[tokio::test]
async fn a_job_s_row_tells_its_whole_life() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    let id: i64 = database
        .one(
            "insert into jobs_queue (job_type, payload, priority, scheduled_for, max_attempts)
             values ('ocr', '{\"page\": 7}', 9, '2030-05-01 14:01+02', 2) returning id",
            &[],
        )
        .await
        .get(0);
    let mut expected = json!({
        "id": id, "job_type": "ocr", "payload": {"page": 7}, "status": "pending", "priority": 9, "scheduled_for": "2030-05-01T12:01:00+00:00",
        "attempts": 0, "max_attempts": 2, "locked_by": null, "locked_at": null, "last_attempt_at": null, "last_error": null
    });
    let mut change = |changes: Value| {
        let changes = changes.as_object().expect("an object").clone();
        expected.as_object_mut().expect("an object").extend(changes);
        expected.clone()
    };
    database.run("set timezone = 'UTC'").await;
    assert_eq!(job(&database, id).await, change(json!({})));
    assert_eq!(
        claim(&database, ANN).await,
        Vec::<Value>::new(),
        "it is not due yet"
    );

    database.stop_clock_at("2030-05-01 12:02:00+00").await;
    let at = "2030-05-01T12:02:00+00:00";
    let running = change(
        json!({ "status": "processing", "attempts": 1, "locked_by": ANN, "locked_at": at, "last_attempt_at": at }),
    );
    assert_eq!(claim(&database, ANN).await, std::slice::from_ref(&running));
    assert_eq!(job(&database, id).await, running);
    assert_eq!(
        claim(&database, BOB).await,
        Vec::<Value>::new(),
        "it is Ann's"
    );

    database.stop_clock_at("2030-05-01 12:03:00+00").await;
    database
        .run(&format!(
            "select resolve_job({id}, '{ANN}', false, 'blurred')"
        ))
        .await;
    let waiting = change(json!({
        "status": "retry", "scheduled_for": "2030-05-01T12:08:00+00:00", "locked_by": null, "locked_at": null, "last_error": "blurred"
    }));
    assert_eq!(
        job(&database, id).await,
        waiting,
        "five minutes after the report"
    );

    database.stop_clock_at("2030-05-01 12:07:59.9+00").await;
    assert_eq!(claim(&database, BOB).await, Vec::<Value>::new());
    database.stop_clock_at("2030-05-01 12:08:00+00").await;
    let at = "2030-05-01T12:08:00+00:00";
    let running = change(
        json!({ "status": "processing", "attempts": 2, "locked_by": BOB, "locked_at": at, "last_attempt_at": at }),
    );
    assert_eq!(claim(&database, BOB).await, [running]);
    database
        .run(&format!("select resolve_job({id}, '{BOB}', false)"))
        .await;
    let dead = change(
        json!({ "status": "failed", "locked_by": null, "locked_at": null, "last_error": "failed" }),
    );
    assert_eq!(
        job(&database, id).await,
        dead,
        "no attempt is left, and no error was named"
    );

    let runs = select(&database, "select * from job_runs order by id").await;
    let expected = json!([
        {"id": 1, "job_id": id, "attempt_number": 1, "worker_id": ANN, "status": "failed", "error_message": "blurred",
         "started_at": "2030-05-01T12:02:00+00:00", "finished_at": "2030-05-01T12:03:00+00:00"},
        {"id": 2, "job_id": id, "attempt_number": 2, "worker_id": BOB, "status": "failed", "error_message": "failed",
         "started_at": "2030-05-01T12:08:00+00:00", "finished_at": "2030-05-01T12:08:00+00:00"}
    ]);
    assert_eq!(json!(runs), expected);
}

#[tokio::test]
async fn a_failure_waits_for_five_minutes_each_time_and_the_fifth_is_the_last() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    insert(&database).await;
    for n in 1..=5 {
        let row = attempt(&database, false).await;
        assert_eq!(row["attempts"], n);
        if n == 5 {
            assert_eq!(row["status"], "failed");
            break;
        }
        assert_eq!(row["status"], "retry");
        let at = row["scheduled_for"].as_str().expect("a time").to_owned();
        let sql = "select extract(epoch from $1::text::timestamptz - millrace.clock())::float8";
        let delay: f64 = database.one(sql, &[&at]).await.get(0);
        assert!((delay - 300.0).abs() < 0.001, "{delay} s after attempt {n}");
        database.stop_clock_at(&at).await;
    }
    assert!(claim(&database, ANN).await.is_empty());
}

#[tokio::test]
async fn a_worker_that_crashed_strands_nothing() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    let id = insert(&database).await;
    claim(&database, ANN).await;
    database.stop_clock_at("2030-05-01 12:14:59+00").await;
    database.run("select millrace.housekeep()").await;
    assert_eq!(
        job(&database, id).await["status"],
        "processing",
        "a quarter of an hour is not over"
    );
    database.stop_clock_at("2030-05-01 12:15:00+00").await;
    assert!(
        claim(&database, BOB).await.is_empty(),
        "it waits as after any failure"
    );
    let row = job(&database, id).await;
    assert_eq!(row["status"], "retry");
    assert_eq!(
        row["last_error"],
        "the lease ran out before the worker reported"
    );
    let late = refused(
        &database,
        &format!("select resolve_job({id}, '{ANN}', true)"),
    )
    .await;
    assert_eq!(
        (late.0.as_str(), late.1.as_str()),
        ("PT409", "lease_expired")
    );
    database.stop_clock_at("2030-05-01 12:20:00+00").await;
    assert_eq!(claim(&database, BOB).await[0]["attempts"], 2);
    let runs = select(
        &database,
        "select status, worker_id from job_runs order by id",
    )
    .await;
    let expected =
        json!([{"status": "failed", "worker_id": ANN}, {"status": "processing", "worker_id": BOB}]);
    assert_eq!(json!(runs), expected);
}

#[tokio::test]
async fn claims_take_the_greatest_priority_first_and_the_type_that_is_asked_for() {
    let database = Database::fresh().await;
    database
        .run(
            "insert into jobs_queue (job_type, priority) values ('low', 1), ('high', 20), ('ocr', null), ('high', 19);
             select millrace.enqueue('other', 'ocr', priority => 100)",
        )
        .await;
    let of_type =
        |job_type: &str| format!("select job_type from claim_next_job('{ANN}', {job_type})");
    let mut types = Vec::new();
    for job_type in ["'ocr'", "'ocr'", "null", "null", "null", "null"] {
        let row = select(&database, &of_type(job_type)).await;
        types.push(
            row.first()
                .map_or(Value::Null, |row| row["job_type"].clone()),
        );
    }
    assert_eq!(
        json!(types),
        json!(["ocr", null, "high", "high", "low", null])
    );
}

#[tokio::test]
async fn a_word_about_a_job_that_is_not_the_worker_s_is_refused() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    let (done, cancelled, running, waiting, expired) = (
        insert(&database).await,
        insert(&database).await,
        insert(&database).await,
        database.one("insert into jobs_queue (job_type, scheduled_for) values ('ocr', millrace.clock() + interval '1 day') returning id", &[]).await.get::<_, i64>(0),
        insert(&database).await,
    );
    let other: i64 = database
        .one("select millrace.enqueue('other', 't')", &[])
        .await
        .get(0);
    database
        .run(&format!(
            "select count(*) from millrace.claim('other', '{ANN}')"
        ))
        .await;
    for _ in 0..4 {
        claim(&database, ANN).await;
    }
    database
        .run(&format!(
            "select resolve_job({done}, '{ANN}', true); update jobs_queue set status = 'cancelled' where id = {cancelled};
             update millrace.lease set expires_at = millrace.clock() where job_id = {expired}"
        ))
        .await;
    let cases = [
        (
            format!("{running}, '{BOB}', true"),
            "PT409",
            "not_lease_owner",
        ),
        (format!("{waiting}, '{ANN}', true"), "PT409", "not_leased"),
        (
            format!("{done}, '{ANN}', true"),
            "PT409",
            "already_attempted",
        ),
        (
            format!("{done}, '{ANN}', false"),
            "PT409",
            "already_attempted",
        ),
        (format!("{done}, '{BOB}', true"), "PT409", "not_lease_owner"),
        (format!("{cancelled}, '{ANN}', true"), "PT409", "cancelled"),
        (
            format!("{expired}, '{ANN}', true"),
            "PT409",
            "lease_expired",
        ),
        (format!("{other}, '{ANN}', true"), "PT404", "job_not_found"),
        (format!("99, '{ANN}', true"), "PT404", "job_not_found"),
        (format!("null, '{ANN}', true"), "PT404", "job_not_found"),
        (
            format!("{running}, null, true"),
            "PT400",
            "worker_id_missing",
        ),
        (
            format!("{running}, '{ANN}', null"),
            "PT400",
            "invalid_request",
        ),
    ];
    for (arguments, status, code) in &cases {
        let refusal = refused(&database, &format!("select resolve_job({arguments})")).await;
        assert_eq!(
            (refusal.0.as_str(), refusal.1.as_str()),
            (*status, *code),
            "resolve_job({arguments})"
        );
    }
    let unsaid = format!("select resolve_job({running}, '{ANN}', null)");
    assert_eq!(refused(&database, &unsaid).await.2, "success is missing");
    let refusal = refused(&database, "select claim_next_job(null)").await;
    assert_eq!(refusal.1, "worker_id_missing");
    database
        .run(&format!(
            "select resolve_job({running}, '{ANN}', false, repeat('x', 20000))"
        ))
        .await;
    let error = job(&database, running).await["last_error"].clone();
    assert_eq!(
        error.as_str().map(str::len),
        Some(10000),
        "cut, and not lost"
    );
    println!("runbook: {} words refused", cases.len() + 1);
}

/// Workers claim and resolve while an operator keeps giving the waiting jobs other times.
#[tokio::test]
async fn jobs_that_are_rescheduled_while_workers_claim_run_once() {
    const WORKERS: usize = 6;
    const JOBS: usize = 300;
    let _crowd = crowd(WORKERS as u32 + 2).await;
    let database = Database::fresh().await;
    database
        .run(&format!(
            "insert into jobs_queue (job_type) select 'ocr' from generate_series(1, {JOBS})"
        ))
        .await;
    let work = (0..WORKERS).map(|n| {
        let database = &database;
        async move {
            let client = database.connect().await;
            let worker = format!("{n}1111111-1111-4111-8111-111111111111");
            let mut done = 0;
            while let Some(job) = rows(
                &client,
                &format!("select * from claim_next_job('{worker}')"),
            )
            .await
            .expect("a claim")
            .first()
            {
                let sql = format!("select resolve_job({}, '{worker}', true)", job["id"]);
                client.batch_execute(&sql).await.expect("its end");
                done += 1;
            }
            done
        }
    });
    let working = AtomicBool::new(true);
    let operator = async {
        let client = database.connect().await;
        let (mut moved, mut late) = (0, 0);
        // Always one that workers are about to claim.
        let sql = "update jobs_queue set scheduled_for = '2020-01-01'
                    where id = (select r.job_id from millrace.ready r order by r.run_at, r.job_id offset (random() * 9)::int limit 1) and status = 'pending'";
        while working.load(Ordering::Relaxed) {
            match client
                .execute(sql, &[])
                .await
                .expect("a job that waits, or none")
            {
                0 => late += 1,
                rows => moved += rows,
            }
        }
        (moved, late)
    };
    let crew = async {
        let done = join_all(work).await;
        working.store(false, Ordering::Relaxed);
        done
    };
    let (done, (moved, late)) = futures::join!(crew, operator);
    // What was on its way from one entry to the next while all workers looked is still there.
    let mut rest = 0;
    while !claim(&database, ANN).await.is_empty() {
        rest += 1;
    }
    assert_eq!(done.iter().sum::<usize>() + rest, JOBS);
    database.assert_no_job_misplaced().await;
    let runs: i64 = database
        .one("select count(*) from job_runs", &[])
        .await
        .get(0);
    assert_eq!(runs, JOBS as i64);
    println!(
        "runbook: {JOBS} jobs, {WORKERS} workers, {moved} rescheduled meanwhile, {late} too late for that"
    );
    assert!(moved > 0 && late > 0, "they never met");
    assert!(queue::untrue_counts(database.client()).await.is_empty());
}
