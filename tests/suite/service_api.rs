//! The worker's face in SQL: what it answers, how it refuses, and how a PostgREST lets workers in by their keys.

use std::collections::BTreeSet;

use futures::future::join_all;
use millrace_tests::database::Database;
use millrace_tests::queue::{self, crowd};
use serde_json::{Value, json};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};
use url::Url;

const NOW: &str = "2030-05-01 12:00:00+00";

async fn try_call(client: &Client, call: &str) -> Result<Value, Error> {
    let row = client
        .query_one(&format!("select service_api.{call}"), &[])
        .await?;
    Ok(row.get(0))
}

async fn call(database: &Database, call: &str) -> Value {
    try_call(database.client(), call)
        .await
        .unwrap_or_else(|e| panic!("{call}: {:?}", e.as_db_error()))
}

/// The four fields of a refusal, as PostgREST's body has them: code, message, details, hint.
fn fields(error: &Error) -> [&str; 4] {
    let e = error.as_db_error().expect("the database's refusal");
    let (detail, hint) = (e.detail().unwrap_or_default(), e.hint().unwrap_or_default());
    [e.code().code(), e.message(), detail, hint]
}

async fn assert_refused(database: &Database, call: &str, message: &str, details: &str, hint: &str) {
    let error = try_call(database.client(), call).await.expect_err(call);
    assert_eq!(fields(&error), ["P0001", message, details, hint], "{call}");
}

/// An email and a text message, made and due now.
async fn messages(database: &Database) {
    database
        .run(
            "select comms.create_and_enqueue_email('from@example.com', 'to@example.com', 'Hello', '<p>Hello</p>');
             select comms.create_and_enqueue_sms('+15550100', 'Hi')",
        )
        .await;
}

#[tokio::test]
async fn a_task_comes_with_its_message() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    assert_eq!(
        call(&database, "fetch_next_task('w')").await,
        json!({ "job": null })
    );
    messages(&database).await;
    let email = call(
        &database,
        "fetch_next_task(worker_id => 'w', lease_seconds => 30, task_type => 'email')",
    )
    .await;
    let expected = json!({
        "job": {"job_id": 1, "lease_id": 1, "task_type": "email", "resource_id": 1, "priority": 5, "scheduled_at": "2030-05-01T12:00:00+00:00"},
        "payload": {"message_id": 1, "from_address": "from@example.com", "to_address": "to@example.com", "subject": "Hello", "html": "<p>Hello</p>"}
    });
    assert_eq!(email, expected);
    assert_eq!(
        call(&database, "fetch_next_task('w', 30, 'email')").await,
        json!({ "job": null })
    );
    let sms = call(&database, "fetch_next_task('w')").await;
    let expected = json!({
        "job": {"job_id": 2, "lease_id": 2, "task_type": "sms", "resource_id": 1, "priority": 5, "scheduled_at": "2030-05-01T12:00:00+00:00"},
        "payload": {"message_id": 1, "to_number": "+15550100", "body": "Hi"}
    });
    assert_eq!(sms, expected);
    assert_eq!(
        call(&database, "fetch_next_task('w')").await,
        json!({ "job": null })
    );
}

#[tokio::test]
async fn a_lease_is_as_long_as_asked_for_from_a_second_to_a_day() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    let cases = [
        ("'w', null", 60),
        ("'w'", 60),
        ("'w', 0", 1),
        ("'w', -5", 1),
        ("'w', -2147483648", 1),
        ("'w', 1", 1),
        ("'w', 61", 61),
        ("'w', 86400", 86400),
        ("'w', 86401", 86400),
        ("'w', 2147483647", 86400),
    ];
    for (arguments, expected) in cases {
        database
            .run("select comms.create_and_enqueue_sms('n', 'b')")
            .await;
        let task = call(&database, &format!("fetch_next_task({arguments})")).await;
        let sql = "select extract(epoch from expires_at - leased_at)::int from millrace.lease where lease_id = $1";
        let lease = task["job"]["lease_id"].as_i64().expect("a lease");
        let seconds: i32 = database.one(sql, &[&lease]).await.get(0);
        assert_eq!(seconds, expected, "fetch_next_task({arguments})");
    }
}

#[tokio::test]
async fn without_a_type_the_best_of_both_channels_comes_first() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    // Priorities and times that meet in every way, some of them not due yet.
    let sql = "select case n % 2 when 0 then comms.create_and_enqueue_email('f', 't', 's', 'h', scheduled_at => at, priority => p)
                                 else comms.create_and_enqueue_sms('n', 'b', scheduled_at => at, priority => p) end
                 from (select n, millrace.clock() + (n * 7 % 5) * interval '1 minute' as at, (n * 11 % 3) as p from generate_series(1, 60) as n) as m";
    database.run(sql).await;
    database.stop_clock_at("2030-05-01 12:03:00+00").await;
    let sql = "select r.job_id from millrace.ready r join millrace.job j on j.id = r.job_id
                where r.run_at <= millrace.clock() order by j.priority desc, r.run_at, r.job_id";
    let rows = database.all(sql, &[]).await;
    let expected: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(expected.len(), 48);
    let mut fetched = Vec::new();
    while let Some(job) = call(&database, "fetch_next_task('w')").await["job"]["job_id"].as_i64() {
        fetched.push(job);
    }
    assert_eq!(fetched, expected);
    println!(
        "service_api: {} tasks of two channels in one order",
        fetched.len()
    );
}

/// Both channels have all that they may run, somebody holds what the limit of one is set in, and two workers come to them in opposite orders.
#[tokio::test]
async fn workers_that_come_to_full_channels_wait_for_nobody() {
    let database = Database::fresh().await;
    messages(&database).await;
    database
        .run("select millrace.configure_queue('email', concurrency_limit => 1), millrace.configure_queue('sms', concurrency_limit => 1)")
        .await;
    for _ in 0..2 {
        assert_ne!(
            call(&database, "fetch_next_task('w')").await["job"],
            Value::Null
        );
    }
    database
        .run("select comms.create_and_enqueue_email('f', 't', 's', 'h', priority => 20), comms.create_and_enqueue_sms('n', 'b')")
        .await;
    let holder = database.connect().await;
    let hold = "begin; select from millrace.queue q where q.name = 'email' for update; select from millrace.place for update";
    holder.batch_execute(hold).await.expect("the email channel");
    for worker in ["ann", "bob"] {
        let client = database.connect().await;
        client
            .batch_execute("set lock_timeout = '5s'")
            .await
            .expect("a setting");
        let answer = try_call(&client, &format!("fetch_next_task('{worker}')")).await;
        assert_eq!(
            answer.expect("no wait"),
            json!({ "job": null }),
            "there is no place"
        );
        database
            .run("select comms.create_and_enqueue_sms('n', 'b', priority => 50)")
            .await;
    }
    holder.batch_execute("commit").await.expect("its release");
}

#[tokio::test]
async fn many_workers_get_each_task_once() {
    const WORKERS: usize = 16;
    const TASKS: usize = 600;
    let _crowd = crowd(WORKERS as u32).await;
    let database = Database::fresh().await;
    database
        .run(&format!(
            "select case n % 3 when 0 then comms.create_and_enqueue_email('f', 't', 's', 'h', priority => n % 4)
                               else comms.create_and_enqueue_sms('n', 'b', priority => n % 4) end from generate_series(1, {TASKS}) as n"
        ))
        .await;
    let workers = (0..WORKERS).map(|worker| {
        let database = &database;
        async move {
            let client = database.connect().await;
            let mut jobs = Vec::new();
            loop {
                let fetch = format!("fetch_next_task('w{worker}')");
                let task = try_call(&client, &fetch).await.expect("a fetch");
                let job = &task["job"];
                if job.is_null() {
                    return jobs;
                }
                let report = format!(
                    "report_task_result('w{worker}', {}, {}, true)",
                    job["job_id"], job["lease_id"]
                );
                let answer = try_call(&client, &report).await.expect("a report");
                assert_eq!(answer["completed"], true);
                jobs.push(job["job_id"].as_i64().expect("a job"));
            }
        }
    });
    let fetched: Vec<i64> = join_all(workers).await.concat();
    assert_eq!(fetched.len(), TASKS);
    assert_eq!(fetched.iter().collect::<BTreeSet<_>>().len(), TASKS);
    database.assert_no_job_misplaced().await;
    println!("service_api: {TASKS} tasks, {WORKERS} workers, each task once");
}

#[tokio::test]
async fn a_job_of_another_face_comes_with_its_own_payload() {
    let database = Database::fresh().await;
    messages(&database).await;
    // Naming a message makes it nobody's: it belongs to the job that it was made with.
    let payload = json!({ "message_id": 1, "to": "x" });
    let job = queue::enqueue(
        database.client(),
        json!({ "queue": "email", "type": "welcome", "payload": payload, "priority": 9 }),
    )
    .await;
    queue::enqueue(
        database.client(),
        json!({ "queue": "fax", "type": "email" }),
    )
    .await;
    let task = call(&database, "fetch_next_task('w', task_type => 'email')").await;
    assert_eq!(task["payload"], payload);
    assert_eq!(task["job"]["job_id"], job);
    assert_eq!(task["job"]["resource_id"], Value::Null);
    assert_eq!(
        task["job"]["task_type"], "email",
        "the channel, whatever the job's own type"
    );
    for _ in 0..2 {
        assert_ne!(
            call(&database, "fetch_next_task('w')").await["job"],
            Value::Null
        );
    }
    assert_eq!(
        call(&database, "fetch_next_task('w')").await["job"],
        Value::Null,
        "a fax is no task"
    );
}

#[tokio::test]
async fn a_paused_channel_gives_way_to_the_other() {
    let database = Database::fresh().await;
    messages(&database).await;
    database.run("select millrace.pause('email')").await;
    assert_eq!(
        call(&database, "fetch_next_task('w')").await["job"]["task_type"],
        "sms"
    );
    assert_eq!(
        call(&database, "fetch_next_task('w')").await["job"],
        Value::Null
    );
    database.run("select millrace.resume('email')").await;
    assert_eq!(
        call(&database, "fetch_next_task('w')").await["job"]["task_type"],
        "email"
    );
}

#[tokio::test]
async fn malformed_calls_are_refused_in_four_fields() {
    let database = Database::fresh().await;
    let fetch = "Fetch Next Task Failed";
    let report = "Task Result Failed";
    let extend = "Extend Lease Failed";
    let long = "repeat('w', 201)";
    let cases = [
        (
            "fetch_next_task(null)".to_owned(),
            fetch,
            "worker_id_missing",
        ),
        ("fetch_next_task('')".to_owned(), fetch, "worker_id_missing"),
        (
            "fetch_next_task('  ')".to_owned(),
            fetch,
            "worker_id_missing",
        ),
        (
            format!("fetch_next_task({long})"),
            fetch,
            "worker_id_too_long",
        ),
        (
            "fetch_next_task(E'\\t\\r\\n')".to_owned(),
            fetch,
            "worker_id_missing",
        ),
        (
            "fetch_next_task('w', 60, 'fax')".to_owned(),
            fetch,
            "task_type_unknown",
        ),
        (
            "fetch_next_task('w', 60, '')".to_owned(),
            fetch,
            "task_type_unknown",
        ),
        (
            "fetch_next_task('', 86401, 'fax')".to_owned(),
            fetch,
            "worker_id_missing",
        ),
        (
            "report_task_result(null, 1, 1, true)".to_owned(),
            report,
            "worker_id_missing",
        ),
        (
            format!("report_task_result({long}, 1, 1, true)"),
            report,
            "worker_id_too_long",
        ),
        (
            "report_task_result('w', null, 1, true)".to_owned(),
            report,
            "job_id_missing",
        ),
        (
            "report_task_result('w', 1, null, true)".to_owned(),
            report,
            "lease_id_missing",
        ),
        (
            "report_task_result('w', 1, 1, null)".to_owned(),
            report,
            "succeeded_missing",
        ),
        (
            "extend_lease(' ', 1, 1)".to_owned(),
            extend,
            "worker_id_missing",
        ),
        (
            "extend_lease('w', null, 1)".to_owned(),
            extend,
            "job_id_missing",
        ),
        (
            "extend_lease('w', 1, null)".to_owned(),
            extend,
            "lease_id_missing",
        ),
        (
            "extend_lease(E'\\n', 1, 1)".to_owned(),
            extend,
            "worker_id_missing",
        ),
    ];
    for (call, message, hint) in &cases {
        assert_refused(&database, call, message, "Invalid Request", hint).await;
    }
    println!("service_api: {} malformed calls", cases.len());
}

/// What a report and an extension are refused for: each is tried under every lease that can't be spoken of any more.
#[tokio::test]
async fn a_stale_word_is_refused_in_the_contract_s_order() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    for _ in 0..4 {
        database
            .run("select comms.create_and_enqueue_sms('n', 'b')")
            .await;
        call(&database, "fetch_next_task('w', 60)").await;
    }
    // Job and lease 1 run on; 2 is reported, 3 cancelled, 4 will have expired.
    call(&database, "report_task_result('w', 2, 2, true)").await;
    database.run("select millrace.cancel(3)").await;
    call(&database, "extend_lease('w', 1, 1, 3600)").await;
    database.stop_clock_at("2030-05-01 12:01:00+00").await;

    let cases = [
        // worker, job, lease
        ("w", 1, 99, "Invalid Lease", "invalid_lease"),
        ("w", 1, 2, "Invalid Lease", "invalid_lease"),
        ("w", 99, 1, "Invalid Lease", "invalid_lease"),
        ("v", 1, 99, "Invalid Lease", "invalid_lease"),
        ("v", 1, 1, "Not Lease Owner", "not_lease_owner"),
        ("v", 2, 2, "Not Lease Owner", "not_lease_owner"),
        ("v", 4, 4, "Not Lease Owner", "not_lease_owner"),
        ("w", 4, 4, "Lease Expired", "lease_expired"),
        ("w", 2, 2, "Already Attempted", "already_attempted"),
        ("w", 3, 3, "Job Cancelled", "cancelled"),
    ];
    let mut refused = 0;
    for expired in ["lies there", "was ended"] {
        for (worker, job, lease, details, hint) in cases {
            for succeeded in [true, false] {
                let report = format!("report_task_result('{worker}', {job}, {lease}, {succeeded})");
                assert_refused(&database, &report, "Task Result Failed", details, hint).await;
            }
            let extend = format!("extend_lease('{worker}', {job}, {lease})");
            assert_refused(&database, &extend, "Extend Lease Failed", details, hint).await;
            refused += 3;
        }
        println!("service_api: {refused} stale words so far, while the expired lease {expired}");
        database.run("select millrace.housekeep()").await;
    }
    let answer = call(&database, "report_task_result('w', 1, 1, true)").await;
    assert_eq!(
        answer["completed"], true,
        "the lease that holds is untouched by all that"
    );
}

#[tokio::test]
async fn a_success_ends_the_job() {
    let database = Database::fresh().await;
    messages(&database).await;
    call(&database, "fetch_next_task('w', task_type => 'email')").await;
    let answer = call(
        &database,
        "report_task_result(worker_id => 'w', job_id => 1, lease_id => 1, succeeded => true)",
    )
    .await;
    let expected = json!({ "completed": true, "scheduled_retry": false, "next_job_id": null, "next_scheduled_at": null });
    assert_eq!(answer, expected);
    assert_eq!(
        queue::state(database.client(), 1).await.as_deref(),
        Some("succeeded")
    );
}

/// Puts the job's attempts to `attempts`, fetches it and reports a failure with that base; answers the delay in seconds.
async fn delay(database: &Database, attempts: i16, base: &str) -> f64 {
    let sql = "update millrace.ready set attempts = $1, run_at = millrace.clock()";
    database
        .one(
            &format!("with u as ({sql} returning 1) select count(*) from u"),
            &[&attempts],
        )
        .await;
    let task = call(database, "fetch_next_task('w')").await;
    let report = format!(
        "report_task_result('w', 1, {}, false, 'code', 'message'{base})",
        task["job"]["lease_id"]
    );
    let answer = call(database, &report).await;
    assert_eq!(answer["completed"], false);
    assert_eq!(answer["scheduled_retry"], true);
    assert_eq!(answer["next_job_id"], 1, "a retry is the same job");
    let at = answer["next_scheduled_at"].as_str().expect("a time");
    let sql = "select extract(epoch from $1::text::timestamptz - millrace.clock())::float8";
    database.one(sql, &[&at]).await.get(0)
}

#[tokio::test]
async fn a_failure_is_retried_after_base_times_two_to_the_attempts_before() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    database
        .run("select comms.create_and_enqueue_sms('n', 'b', max_attempts => 1000)")
        .await;
    let year = 31_536_000.0;
    let cases = [
        (0, "", 30.0),
        (1, "", 60.0),
        (2, ", base_delay_seconds => 30", 120.0),
        (0, ", 7", 7.0),
        (3, ", 7", 56.0),
        (0, ", 0", 1.0),
        (4, ", 0", 16.0),
        (0, ", -7", 1.0),
        (0, ", null", 30.0),
        (0, ", 2147483647", year),
        (20, ", 30", 31_457_280.0),
        (21, ", 30", year),
        (998, ", 30", year),
    ];
    for (attempts, base, expected) in cases {
        let seconds = delay(&database, attempts, base).await;
        assert!(
            (seconds - expected).abs() < 0.001,
            "after {attempts} attempts{base}: {seconds} s"
        );
    }
    // The history has what was said, and the year is long over when the last attempt comes.
    let sql = "select error_code, error from millrace.attempt order by lease_id limit 1";
    let row = database.one(sql, &[]).await;
    assert_eq!(
        (row.get::<_, &str>(0), row.get::<_, &str>(1)),
        ("code", "message")
    );
    println!("service_api: {} delays", cases.len());
}

#[tokio::test]
async fn the_last_failure_ends_the_job() {
    let database = Database::fresh().await;
    database
        .run("select comms.create_and_enqueue_sms('n', 'b', max_attempts => 2)")
        .await;
    call(&database, "fetch_next_task('w')").await;
    call(
        &database,
        "report_task_result('w', 1, 1, false, base_delay_seconds => 1)",
    )
    .await;
    database.set_clock_ahead(2.0).await;
    let task = call(&database, "fetch_next_task('w')").await;
    assert_eq!(task["job"]["lease_id"], 2);
    // A worker says more than there is room for: it is cut, and the report counts.
    let answer = call(
        &database,
        "report_task_result('w', 1, 2, false, repeat('c', 300), repeat('m', 20000))",
    )
    .await;
    let expected = json!({ "completed": false, "scheduled_retry": false, "next_job_id": null, "next_scheduled_at": null });
    assert_eq!(answer, expected);
    let row = database
        .one(
            "select length(reason), length(error) from millrace.dead_letter where job_id = 1",
            &[],
        )
        .await;
    assert_eq!((row.get::<_, i32>(0), row.get::<_, i32>(1)), (200, 10000));
    assert_eq!(
        call(&database, "fetch_next_task('w')").await["job"],
        Value::Null
    );
}

#[tokio::test]
async fn an_extension_counts_from_now_and_never_shortens() {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    messages(&database).await;
    call(&database, "fetch_next_task('w', 60, 'email')").await;
    database.stop_clock_at("2030-05-01 12:00:50+00").await;
    for (arguments, expected) in [
        ("'w', 1, 1, 5", "2030-05-01T12:01:00+00:00"),
        ("'w', 1, 1", "2030-05-01T12:01:50+00:00"),
        (
            "worker_id => 'w', job_id => 1, lease_id => 1, lease_seconds => 600",
            "2030-05-01T12:10:50+00:00",
        ),
        ("'w', 1, 1, null", "2030-05-01T12:10:50+00:00"),
        ("'w', 1, 1, 2147483647", "2030-05-02T12:00:50+00:00"),
    ] {
        let answer = call(&database, &format!("extend_lease({arguments})")).await;
        assert_eq!(
            answer,
            json!({ "lease_id": 1, "expires_at": expected }),
            "{arguments}"
        );
    }
    database.stop_clock_at("2030-05-01 12:09:00+00").await;
    let answer = call(&database, "report_task_result('w', 1, 1, true)").await;
    assert_eq!(
        answer["completed"], true,
        "long after the end that it began with"
    );
}

/// A database as a PostgREST sees it: its login may become `anon`, and `millrace_client` where that was granted.
struct PostgRest {
    database: Database,
    authenticator: Client,
}

impl PostgRest {
    async fn start(may_become: &str) -> Self {
        let database = Database::fresh().await;
        let mut url = Url::parse(database.url()).expect("a URL");
        let login = format!("{}_authenticator", url.path().trim_start_matches('/'));
        database
            .run(&format!(
                "create role {login} login noinherit password 'plain'; grant anon, service_role to {login}; {}",
                may_become.replace("$", &login)
            ))
            .await;
        url.set_username(&login).expect("a user");
        url.set_password(Some("plain")).expect("a password");
        let authenticator = millrace::database::connect(url.as_str())
            .await
            .expect("the authenticator's login");
        messages(&database).await;
        Self {
            database,
            authenticator,
        }
    }

    async fn configured() -> Self {
        Self::start("grant millrace_client to $").await
    }

    async fn key(&self, name: &str, scopes: &str, expires_in: &str) -> String {
        let sql = format!("select millrace.create_api_key('{name}', '{scopes}', {expires_in})");
        self.database.one(&sql, &[]).await.get(0)
    }

    /// One request, as PostgREST makes its transaction: the schema first in the path, the role, the headers, the function
    /// of db-pre-request if there is one, and then what was asked for. Answers that and the role that it was done as.
    async fn request(&self, request: &Request<'_>) -> Result<(Value, String), Error> {
        let client = &self.authenticator;
        let begin = if request.read_only {
            "begin read only"
        } else {
            "begin"
        };
        client.batch_execute(begin).await.expect("a transaction");
        let answer = self.in_transaction(request).await;
        let end = if answer.is_ok() { "commit" } else { "rollback" };
        client.batch_execute(end).await.expect("its end");
        let role: String = client
            .query_one("select current_user::text", &[])
            .await?
            .get(0);
        assert!(
            role.ends_with("_authenticator"),
            "{role} is left on the connection"
        );
        answer
    }

    async fn in_transaction(&self, request: &Request<'_>) -> Result<(Value, String), Error> {
        let client = &self.authenticator;
        let path = format!("\"{}\", \"public\"", request.schema);
        let headers = request.headers.to_string();
        client
            .query_one(
                "select set_config('search_path', $1, true), set_config('role', $2, true), set_config('request.method', 'POST', true), \
                 set_config('request.headers', $3, true)",
                &[&path, &request.role, &headers],
            )
            .await?;
        if request.pre_request {
            client
                .query_one("select service_api.pre_request()", &[])
                .await?;
        }
        let row = client
            .query_one(
                &format!("select to_jsonb({}), current_user::text", request.call),
                &[],
            )
            .await?;
        Ok((row.get(0), row.get(1)))
    }

    async fn assert_refused(&self, request: &Request<'_>, expected: [&str; 4]) {
        let error = self.request(request).await.expect_err("a refusal");
        assert_eq!(fields(&error), expected, "{request:?}");
    }

    /// How often a task may still be fetched.
    async fn left(&self) -> i64 {
        self.database
            .one("select count(*) from millrace.ready", &[])
            .await
            .get(0)
    }
}

#[derive(Debug, Clone)]
struct Request<'a> {
    schema: &'a str,
    role: &'a str,
    headers: Value,
    pre_request: bool,
    read_only: bool,
    call: &'a str,
}

/// What `anon` sends, with that key if any.
fn fetch(key: Option<&str>) -> Request<'static> {
    let headers = match key {
        Some(key) => json!({ "host": "localhost", "x-api-key": key }),
        None => json!({ "host": "localhost" }),
    };
    Request {
        schema: "service_api",
        role: "anon",
        headers,
        pre_request: true,
        read_only: false,
        call: "service_api.fetch_next_task('w')",
    }
}

#[tokio::test]
async fn a_postgrest_lets_a_stored_key_in_and_nothing_else() {
    let postgrest = PostgRest::configured().await;
    let worker = postgrest.key("worker", "{work}", "null").await;
    let reader = postgrest.key("reader", "{read}", "null").await;
    let short = postgrest.key("short", "{all}", "interval '1 minute'").await;
    let gone = postgrest.key("gone", "{all}", "null").await;
    postgrest
        .database
        .run("select millrace.revoke_api_key('gone')")
        .await;
    postgrest.database.set_clock_ahead(61.0).await;

    let missing = [
        "PT401",
        "Service API Failed",
        "the header x-api-key has no key",
        "missing_api_key",
    ];
    let invalid = [
        "PT401",
        "Service API Failed",
        "the API key is not valid",
        "invalid_api_key",
    ];
    let expired = [
        "PT401",
        "Service API Failed",
        "the API key has expired",
        "api_key_expired",
    ];
    let forbidden = [
        "PT403",
        "Service API Failed",
        "the API key's scopes do not allow this",
        "forbidden",
    ];
    for (key, refusal) in [
        (None, missing),
        (Some(""), missing),
        (Some("  "), missing),
        (Some("mr_nonsense"), invalid),
        (Some(&worker[..66]), invalid),
        (Some(&gone), invalid),
        (Some(&short), expired),
        (Some(&reader), forbidden),
    ] {
        postgrest.assert_refused(&fetch(key), refusal).await;
    }
    assert_eq!(postgrest.left().await, 2, "nothing was fetched");

    let (task, role) = postgrest
        .request(&fetch(Some(&worker)))
        .await
        .expect("a task");
    assert_eq!(task["job"]["job_id"], 1);
    assert_eq!(role, "millrace_client");
    let used: bool = postgrest
        .database
        .one(
            "select last_used_at is not null from millrace.api_key where name = 'worker'",
            &[],
        )
        .await
        .get(0);
    assert!(used, "a key's use is noted");
    let report = Request {
        call: "service_api.report_task_result('w', 1, 1, true)",
        ..fetch(Some(&worker))
    };
    let (answer, _) = postgrest.request(&report).await.expect("a report");
    assert_eq!(answer["completed"], true);
    // Refused with the status 400, in the bodies that workers know.
    let again = [
        "P0001",
        "Task Result Failed",
        "Already Attempted",
        "already_attempted",
    ];
    postgrest.assert_refused(&report, again).await;
}

#[tokio::test]
async fn a_service_role_needs_no_key_but_a_wrong_one_is_wrong() {
    let postgrest = PostgRest::configured().await;
    // What pre_request looks at is the catalogue's, whatever else is on the request's path.
    postgrest
        .database
        .run(
            "create function public.spring(jsonb, jsonb) returns boolean language plpgsql as 'begin raise exception ''planted''; end';
             create operator public.? (leftarg = jsonb, rightarg = jsonb, function = public.spring)",
        )
        .await;
    let request = Request {
        role: "service_role",
        ..fetch(None)
    };
    let (task, role) = postgrest.request(&request).await.expect("a task");
    assert_eq!(
        (task["job"]["job_id"].as_i64(), role.as_str()),
        (Some(1), "service_role")
    );
    let request = Request {
        role: "service_role",
        ..fetch(Some("mr_nonsense"))
    };
    let error = postgrest.request(&request).await.expect_err("a wrong key");
    assert_eq!(fields(&error)[3], "invalid_api_key");
}

/// Whoever grants it, the functions of later migrations are its role's too; those are made by the schema's owner.
#[tokio::test]
async fn the_api_is_granted_for_what_its_owner_makes_later() {
    let database = Database::fresh().await;
    let mut url = Url::parse(&database.unmigrated().await).expect("a URL");
    let name = url.path().trim_start_matches('/').to_owned();
    let administrator = Database::open(url.as_str()).await;
    administrator
        .run(&format!(
            "create role {name}_owner login nosuperuser password 'plain'; grant create on database {name} to {name}_owner;
             create role {name}_gateway nologin"
        ))
        .await;
    url.set_username(&format!("{name}_owner")).expect("a user");
    url.set_password(Some("plain")).expect("a password");
    millrace::migrate::migrate(url.as_str())
        .await
        .expect("a migration");
    administrator
        .run(&format!("select millrace.grant_api('{name}_gateway')"))
        .await;
    Database::open(url.as_str())
        .await
        .run(
            "create function millrace_api.of_a_later_version(jsonb) returns jsonb language sql as 'select $1';
             revoke all on function millrace_api.of_a_later_version from public",
        )
        .await;
    let sql = format!(
        "select has_function_privilege('{name}_gateway', 'millrace_api.of_a_later_version(jsonb)', 'execute')"
    );
    assert!(administrator.one(&sql, &[]).await.get::<_, bool>(0));
}

#[tokio::test]
async fn requests_to_other_schemas_pass_untouched() {
    let postgrest = PostgRest::configured().await;
    for headers in [json!({}), json!({ "x-api-key": "another application's" })] {
        for read_only in [true, false] {
            let request = Request {
                schema: "public",
                headers: headers.clone(),
                read_only,
                call: "current_setting('request.headers')",
                ..fetch(None)
            };
            let (_, role) = postgrest
                .request(&request)
                .await
                .expect("somebody else's request");
            assert_eq!(role, "anon");
        }
    }
    // What a GET asks of service_api itself: the list of its functions, for one.
    let request = Request {
        read_only: true,
        call: "1",
        ..fetch(None)
    };
    let (_, role) = postgrest.request(&request).await.expect("a GET");
    assert_eq!(role, "anon");
}

/// Forgotten configuration opens nothing.
#[tokio::test]
async fn without_its_configuration_a_postgrest_lets_nobody_in() {
    let postgrest = PostgRest::start("").await;
    let worker = postgrest.key("worker", "{work}", "null").await;
    let denied = [
        Request {
            pre_request: false,
            ..fetch(Some(&worker))
        },
        fetch(Some(&worker)), // which may not become millrace_client
        Request {
            schema: "public",
            ..fetch(Some(&worker))
        }, // a function named with its schema, somehow
        Request {
            read_only: true,
            ..fetch(Some(&worker))
        },
        Request {
            pre_request: false,
            call: "service_api.report_task_result('w', 1, 1, true)",
            ..fetch(None)
        },
        Request {
            pre_request: false,
            call: "service_api.extend_lease('w', 1, 1)",
            ..fetch(None)
        },
    ];
    for request in &denied {
        let error = postgrest.request(request).await.expect_err("no right");
        assert_eq!(
            error.code(),
            Some(&SqlState::INSUFFICIENT_PRIVILEGE),
            "{request:?}: {error:?}"
        );
    }
    assert_eq!(postgrest.left().await, 2);
    println!(
        "service_api: {} requests denied without a configuration",
        denied.len()
    );
}

#[tokio::test]
async fn clients_and_the_service_role_work_from_psql_and_nobody_else() {
    let database = Database::fresh().await;
    let client = database.connect().await;
    let calls = [
        "fetch_next_task('w')",
        "report_task_result('w', 1, 1, true)",
        "extend_lease('w', 1, 1)",
    ];
    for role in ["millrace_client", "service_role"] {
        client
            .batch_execute(&format!("set role {role}"))
            .await
            .expect(role);
        assert_eq!(
            try_call(&client, calls[0]).await.expect("a fetch"),
            json!({ "job": null })
        );
        for call in &calls[1..] {
            let error = try_call(&client, call).await.expect_err(call);
            assert_eq!(fields(&error)[3], "invalid_lease", "{role}: {call}");
        }
    }
    let internal = "select p.oid::regprocedure::text from pg_proc p where p.pronamespace in ('service_api'::regnamespace, 'comms'::regnamespace)
                       and p.proname not in ('pre_request', 'check_key')
                       and (has_function_privilege('anon', p.oid, 'execute') or has_function_privilege('authenticated', p.oid, 'execute'))";
    let open = database.all(internal, &[]).await;
    assert!(open.is_empty(), "open to the browsers' roles");
    for role in ["anon", "authenticated"] {
        client
            .batch_execute(&format!("reset role; set role {role}"))
            .await
            .expect(role);
        for call in calls {
            let error = try_call(&client, call).await.expect_err(call);
            assert_eq!(
                error.code(),
                Some(&SqlState::INSUFFICIENT_PRIVILEGE),
                "{role}: {call}"
            );
        }
    }
}

/// What runs with its owner's rights must not look where its caller can put things.
#[tokio::test]
async fn a_caller_s_own_objects_change_nothing() {
    let database = Database::fresh().await;
    messages(&database).await;
    let client = database.connect().await;
    client
        .batch_execute(
            "set role millrace_client;
             create temp table email_message (id bigint); create temp table lease (id bigint);
             create function pg_temp.btrim(text) returns text language sql as 'select ''''';
             set search_path = pg_temp, public",
        )
        .await
        .expect("temporary objects");
    let task = try_call(&client, "fetch_next_task('w', task_type => 'email')")
        .await
        .expect("a task");
    assert_eq!(task["payload"]["subject"], "Hello");
    let sql = "select p.oid::regprocedure::text from pg_proc p
                where p.pronamespace in ('service_api'::regnamespace, 'comms'::regnamespace) and p.prosecdef
                  and not coalesce(p.proconfig @> array['search_path=pg_catalog, pg_temp'], false)";
    assert!(
        database.all(sql, &[]).await.is_empty(),
        "no fixed search_path"
    );
}
