//! Schedules: made, changed, paused, run by hand and ended; what is refused; what their history tells; and what a round costs.

mod catch_up;
mod exactly_once;
mod overlap;
mod rounds;

use millrace_tests::database::{Database, explain, refusal};
use millrace_tests::queue::{self, Outcome, claim_one};
use serde_json::{Value, json};
use tokio_postgres::Error;

/// Half a minute past noon, on a Wednesday.
const BEGIN: &str = "2031-03-05 12:00:30+00";

/// A database whose clock stands at [`BEGIN`].
async fn at_begin() -> Database {
    let database = Database::fresh().await;
    database.stop_clock_at(BEGIN).await;
    database
}

/// Makes a schedule of those arguments of `create_schedule`, as SQL writes them.
async fn try_create(database: &Database, arguments: &str) -> Result<i64, Error> {
    let sql = format!("select millrace.create_schedule({arguments})");
    Ok(database.client().query_one(&sql, &[]).await?.get(0))
}

async fn create(database: &Database, arguments: &str) -> i64 {
    try_create(database, arguments)
        .await
        .unwrap_or_else(|e| panic!("{arguments}: {}", explain(&e)))
}

/// One round; how many jobs it made.
async fn round(database: &Database) -> i32 {
    database
        .one("select millrace.enqueue_due()", &[])
        .await
        .get(0)
}

/// One round at that time.
async fn round_at(database: &Database, instant: &str) -> i32 {
    database.stop_clock_at(instant).await;
    round(database).await
}

/// A schedule as the typed function shows it.
async fn shown(database: &Database, slug: &str) -> Value {
    let sql = "select to_jsonb(s) from millrace.schedules($1) s";
    database.one(sql, &[&slug]).await.get(0)
}

/// When it runs next, in UTC; none while it is paused.
async fn next_run(database: &Database, slug: &str) -> Option<String> {
    let sql = "select to_char(next_run_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') from millrace.schedules($1)";
    database.one(sql, &[&slug]).await.get(0)
}

/// The history, first due time first, in UTC: `05 12:01:00 enqueued`, `05 12:01:00..05 12:03:00 missed`.
async fn history(database: &Database, slug: &str) -> Vec<String> {
    let sql = "select to_char(due_at at time zone 'UTC', 'DD HH24:MI:SS') || coalesce(to_char(until at time zone 'UTC', '..DD HH24:MI:SS'), '') || ' ' || outcome
                 from millrace.schedule_history($1, 1000) order by due_at";
    let rows = database.all(sql, &[&slug]).await;
    rows.iter().map(|row| row.get(0)).collect()
}

async fn count(database: &Database, from: &str) -> i64 {
    let sql = format!("select count(*) from millrace.{from}");
    database.one(&sql, &[]).await.get(0)
}

#[tokio::test]
async fn a_schedule_makes_the_job_that_it_describes_and_says_when_the_next_is_due() {
    let database = at_begin().await;
    let id = create(
        &database,
        "'hourly', '0 * * * *', 'q', 't', '{\"n\": null}', priority => 7, max_attempts => 3, description => 'each hour'",
    )
    .await;
    let schedule = shown(&database, "hourly").await;
    for (field, value) in [
        ("id", json!(id)),
        ("description", json!("each hour")),
        ("time_zone", json!("UTC")),
        ("catch_up", json!("one")),
        ("overlap", json!("allow")),
        ("grace", json!("00:02:00")),
        ("last_due_at", json!(null)),
    ] {
        assert_eq!(schedule[field], value, "{field}");
    }
    assert_eq!(
        next_run(&database, "hourly").await.as_deref(),
        Some("2031-03-05 13:00:00")
    );
    assert_eq!(
        round_at(&database, "2031-03-05 12:59:59.999999+00").await,
        0
    );
    assert_eq!(round_at(&database, "2031-03-05 13:00:00+00").await, 1);
    assert_eq!(round(&database).await, 0, "a due time makes one job");

    let job: Value = database
        .one("select to_jsonb(j) from millrace.job j", &[])
        .await
        .get(0);
    assert_eq!(
        (
            &job["type"],
            &job["priority"],
            &job["max_attempts"],
            &job["payload"]
        ),
        (&json!("t"), &json!(7), &json!(3), &json!({ "n": null }))
    );
    let schedule = shown(&database, "hourly").await;
    assert_eq!(schedule["last_job_id"], job["id"]);
    assert_eq!(schedule["last_due_at"], schedule["last_enqueued_at"]);
    assert_eq!(
        next_run(&database, "hourly").await.as_deref(),
        Some("2031-03-05 14:00:00")
    );
    assert_eq!(claim_one(database.client(), "q", "w").await.job_type, "t");
}

#[tokio::test]
async fn what_is_malformed_is_refused_and_named() {
    let database = at_begin().await;
    create(&database, "'there', '0 * * * *', 'q', 't'").await;
    let long = "x".repeat(201);
    let cases = [
        ("'', '* * * * *', 'q', 't'".to_owned(), "slug"),
        ("null, '* * * * *', 'q', 't'".to_owned(), "slug"),
        (format!("'{long}', '* * * * *', 'q', 't'"), "slug"),
        ("'s', null, 'q', 't'".to_owned(), "expression"),
        ("'s', '* * * * *', ' ', 't'".to_owned(), "queue"),
        (format!("'s', '* * * * *', '{long}', 't'"), "queue"),
        ("'s', '* * * * *', 'q', null".to_owned(), "type"),
        (format!("'s', '* * * * *', 'q', '{long}'"), "type"),
        (
            "'s', '* * * * *', 'q', 't', to_jsonb(repeat('x', 2097151))".to_owned(),
            "payload",
        ),
        (
            "'s', '* * * * *', 'q', 't', priority => 101".to_owned(),
            "priority",
        ),
        (
            "'s', '* * * * *', 'q', 't', priority => -100000".to_owned(),
            "priority",
        ),
        (
            "'s', '* * * * *', 'q', 't', max_attempts => 0".to_owned(),
            "max_attempts",
        ),
        (
            "'s', '* * * * *', 'q', 't', catch_up => 'some'".to_owned(),
            "catch_up",
        ),
        (
            "'s', '* * * * *', 'q', 't', overlap => 'wait'".to_owned(),
            "overlap",
        ),
        (
            "'s', '* * * * *', 'q', 't', grace => '-1 second'".to_owned(),
            "grace",
        ),
        (
            "'s', '* * * * *', 'q', 't', grace => '366 days'".to_owned(),
            "grace",
        ),
        (
            "'s', '* * * * *', 'q', 't', description => repeat('x', 2001)".to_owned(),
            "description",
        ),
    ];
    for (arguments, field) in &cases {
        let error = try_create(&database, arguments)
            .await
            .expect_err(&arguments[..60.min(arguments.len())]);
        assert_eq!(
            refusal(&error),
            ("PT400".to_owned(), "invalid_request".to_owned()),
            "{field}"
        );
        assert!(
            explain(&error).contains(&format!("{field} is ")),
            "{field}: {}",
            explain(&error)
        );
    }
    let sql = "select millrace.update_schedule('there', payload => '1', catch_up => 'some')";
    let error = database
        .client()
        .query(sql, &[])
        .await
        .expect_err("a change to what is malformed");
    assert!(explain(&error).contains("catch_up is "));
    assert_eq!(count(&database, "schedule").await, 1);
    assert_eq!(
        shown(&database, "there").await["payload"],
        json!({}),
        "all or nothing"
    );
    println!(
        "schedules: {} malformed ones refused by field",
        cases.len() + 1
    );
}

#[tokio::test]
async fn a_bad_expression_is_refused_with_the_place_of_its_fault() {
    let database = at_begin().await;
    create(&database, "'there', '0 * * * *', 'q', 't'").await;
    for (expression, zone, code) in [
        ("0 24 * * *", "UTC", "invalid_cron"),
        ("0 0 30 2 *", "UTC", "invalid_cron"),
        ("0 0 * * *", "Europe/Nowhere", "invalid_time_zone"),
    ] {
        for sql in [
            "select millrace.create_schedule('s', $1, 'q', 't', time_zone => $2)::text",
            "select millrace.update_schedule('there', expression => $1, time_zone => $2)::text",
        ] {
            let answer = database
                .client()
                .query_one(sql, &[&expression, &zone])
                .await;
            let error = answer.expect_err(expression);
            assert_eq!(refusal(&error), ("PT400".to_owned(), code.to_owned()));
            assert!(
                expression != "0 24 * * *" || explain(&error).contains("character 3"),
                "{}",
                explain(&error)
            );
        }
    }
    assert_eq!(
        next_run(&database, "there").await.as_deref(),
        Some("2031-03-05 13:00:00")
    );
}

#[tokio::test]
async fn a_slug_stands_for_one_schedule() {
    let database = at_begin().await;
    create(&database, "'a', '0 * * * *', 'q', 't'").await;
    create(&database, "'b', '0 * * * *', 'q', 't'").await;
    for sql in [
        "select millrace.create_schedule('a', '* * * * *', 'q', 't')::text",
        "select millrace.update_schedule('b', new_slug => 'a')::text",
    ] {
        let error = database.client().query(sql, &[]).await.expect_err(sql);
        assert_eq!(
            refusal(&error),
            ("PT409".to_owned(), "schedule_exists".to_owned()),
            "{sql}"
        );
    }
    for call in [
        "update_schedule('c')",
        "pause_schedule('c')",
        "resume_schedule('c')",
        "delete_schedule('c')",
        "run_schedule('c')",
        "schedule_history('c')",
    ] {
        let sql = format!("select millrace.{call}::text");
        let error = database.client().query(&sql, &[]).await.expect_err(call);
        assert_eq!(
            refusal(&error),
            ("PT404".to_owned(), "schedule_not_found".to_owned()),
            "{call}"
        );
    }
    assert_eq!(
        database
            .all("select from millrace.schedules('c')", &[])
            .await
            .len(),
        0
    );
    assert_eq!(
        database
            .all("select from millrace.schedules()", &[])
            .await
            .len(),
        2
    );
}

#[tokio::test]
async fn a_queue_that_has_no_lane_left_is_told_when_the_schedule_is_made() {
    let database = at_begin().await;
    database
        .run("select count(*) from generate_series(0, 999) as n cross join lateral millrace.enqueue_many(jsonb_build_array(jsonb_build_object('queue', 'q', 'type', 't' || n)))")
        .await;
    let error = try_create(&database, "'s', '* * * * *', 'q', 'one more'")
        .await
        .expect_err("a lane too many");
    assert_eq!(
        refusal(&error),
        ("PT409".to_owned(), "too_many_lanes".to_owned())
    );
    create(&database, "'s', '* * * * *', 'q', 't7'").await;
}

#[tokio::test]
async fn a_pause_is_not_a_miss() {
    let database = at_begin().await;
    create(&database, "'s', '* * * * *', 'q', 't', catch_up => 'all'").await;
    let pause = "select millrace.pause_schedule('s')";
    let resume = "select millrace.resume_schedule('s')";
    assert!(
        !database.one(resume, &[]).await.get::<_, bool>(0),
        "it was running"
    );
    assert!(database.one(pause, &[]).await.get::<_, bool>(0));
    assert!(
        !database.one(pause, &[]).await.get::<_, bool>(0),
        "pausing twice is no error"
    );
    assert_eq!(next_run(&database, "s").await, None);
    assert_eq!(round_at(&database, "2031-03-05 18:00:10+00").await, 0);
    assert!(database.one(resume, &[]).await.get::<_, bool>(0));
    assert_eq!(
        next_run(&database, "s").await.as_deref(),
        Some("2031-03-05 18:01:00")
    );
    assert_eq!(round(&database).await, 0);
    assert_eq!(round_at(&database, "2031-03-05 18:01:00+00").await, 1);
    assert_eq!(history(&database, "s").await, ["05 18:01:00 enqueued"]);
}

#[tokio::test]
async fn a_change_counts_from_now_on() {
    let database = at_begin().await;
    create(
        &database,
        "'s', '*/10 * * * *', 'q', 't', max_attempts => 3, catch_up => 'all'",
    )
    .await;
    database.stop_clock_at("2031-03-05 12:25:00+00").await;
    // The same expression again leaves what is due; another drops it.
    database
        .run("select millrace.update_schedule('s', expression => '*/10 * * * *', priority => 9)")
        .await;
    assert_eq!(
        next_run(&database, "s").await.as_deref(),
        Some("2031-03-05 12:10:00")
    );
    database
        .run("select millrace.update_schedule('s', expression => '0 14 * * *', time_zone => 'Europe/Berlin', type => 'u', payload => '[1]', max_attempts => 0, new_slug => 'renamed')")
        .await;
    assert_eq!(
        next_run(&database, "renamed").await.as_deref(),
        Some("2031-03-05 13:00:00")
    );
    assert_eq!(round_at(&database, "2031-03-05 13:00:01+00").await, 1);
    assert_eq!(
        history(&database, "renamed").await,
        ["05 13:00:00 enqueued"]
    );
    let job: Value = database
        .one("select to_jsonb(j) from millrace.job j", &[])
        .await
        .get(0);
    assert_eq!(
        (
            &job["type"],
            &job["payload"],
            &job["priority"],
            &job["max_attempts"]
        ),
        (&json!("u"), &json!([1]), &json!(9), &json!(null))
    );

    database
        .run("select millrace.pause_schedule('renamed'); select millrace.update_schedule('renamed', expression => '30 * * * *', time_zone => 'UTC')")
        .await;
    assert_eq!(next_run(&database, "renamed").await, None, "still paused");
    database
        .run("select millrace.resume_schedule('renamed')")
        .await;
    assert_eq!(
        next_run(&database, "renamed").await.as_deref(),
        Some("2031-03-05 13:30:00")
    );
}

#[tokio::test]
async fn a_deleted_schedule_makes_no_more_jobs_and_those_it_made_stay() {
    let database = at_begin().await;
    let first = create(&database, "'s', '* * * * *', 'q', 't'").await;
    assert_eq!(round_at(&database, "2031-03-05 12:01:00+00").await, 1);
    database.run("select millrace.delete_schedule('s')").await;
    assert_eq!(round_at(&database, "2031-03-05 12:02:00+00").await, 0);
    claim_one(database.client(), "q", "w").await;
    let second = create(&database, "'s', '* * * * *', 'q', 't'").await;
    assert!(second > first, "an id is not used again");
    assert_eq!(history(&database, "s").await, [""; 0]);
    assert_eq!(
        count(&database, "schedule_run").await,
        1,
        "what became of the old one's is kept for its time"
    );
}

#[tokio::test]
async fn a_run_by_hand_is_one_more_and_takes_no_due_time_s_place() {
    let database = at_begin().await;
    create(&database, "'s', '* * * * *', 'q', 't', '{\"n\": 1}'").await;
    let run = "select millrace.run_schedule('s')";
    let job: i64 = database.one(run, &[]).await.get(0);
    assert_eq!(
        queue::state(database.client(), job).await.as_deref(),
        Some("queued")
    );
    assert_eq!(
        next_run(&database, "s").await.as_deref(),
        Some("2031-03-05 12:01:00")
    );
    // At the very instant of a due time, twice, and then the due time itself.
    database.stop_clock_at("2031-03-05 12:01:00+00").await;
    database.run(run).await;
    database.run(run).await;
    assert_eq!(round(&database).await, 1);
    database.run("select millrace.pause_schedule('s')").await;
    database.run(run).await;
    let outcomes: Vec<_> = history(&database, "s")
        .await
        .iter()
        .map(|line| line.rsplit(' ').next().expect("an outcome").to_owned())
        .collect();
    assert_eq!(
        outcomes,
        ["manual", "enqueued", "manual", "manual", "manual"]
    );
    assert_eq!(count(&database, "job").await, 5);
    assert_eq!(
        count(&database, "job where payload = '{\"n\": 1}'").await,
        5
    );
}

#[tokio::test]
async fn history_tells_what_became_of_the_jobs_and_is_read_in_pages() {
    let database = at_begin().await;
    create(&database, "'s', '* * * * *', 'q', 't', catch_up => 'all'").await;
    assert_eq!(round_at(&database, "2031-03-05 12:05:10+00").await, 5);
    for outcome in [Outcome::Succeeded, Outcome::Permanent] {
        let lease = claim_one(database.client(), "q", "w").await;
        queue::report(database.client(), &lease, outcome)
            .await
            .expect("a report");
    }
    let mut states = Vec::new();
    let mut before = "infinity".to_owned();
    loop {
        let sql = "select due_at::text, job_state, seen_at - due_at < interval '10 minutes'
                     from millrace.schedule_history('s', 2, before => $1::text::timestamptz)";
        let rows = database.all(sql, &[&before]).await;
        let Some(last) = rows.last() else { break };
        assert!(rows.len() <= 2);
        before = last.get(0);
        states.extend(rows.iter().map(|row| row.get::<_, String>(1)));
    }
    assert_eq!(
        states,
        ["queued", "queued", "queued", "dead", "succeeded"],
        "latest first"
    );
    let wrong = "select millrace.schedule_history('s', 1001)";
    let error = database
        .client()
        .query(wrong, &[])
        .await
        .expect_err("too many rows");
    assert_eq!(
        refusal(&error),
        ("PT400".to_owned(), "invalid_request".to_owned())
    );
}

#[tokio::test]
async fn history_ends_when_its_time_is_over() {
    let database = at_begin().await;
    create(&database, "'s', '0 0 * * *', 'q', 't'").await;
    for day in 6..=8 {
        assert_eq!(
            round_at(&database, &format!("2031-03-{day:02} 00:00:05+00")).await,
            1
        );
    }
    database
        .run("update millrace.retention set schedule_runs = '2 days'")
        .await;
    database.stop_clock_at("2031-03-09 00:00:00+00").await;
    database.run("select millrace.retire_jobs(1)").await;
    assert_eq!(
        history(&database, "s").await,
        ["07 00:00:00 enqueued", "08 00:00:00 enqueued"]
    );
    database.stop_clock_at("2031-03-20 00:00:00+00").await;
    database.run("select millrace.retire_jobs(1)").await;
    assert_eq!(
        history(&database, "s").await,
        ["08 00:00:00 enqueued"],
        "one row for one job to forget"
    );
    database.run("select millrace.housekeep()").await;
    assert_eq!(history(&database, "s").await, [""; 0]);
}

/// Its time begins when it was written, however long ago it was due.
#[tokio::test]
async fn what_a_round_says_of_a_long_outage_is_kept() {
    let database = at_begin().await;
    create(&database, "'s', '0 0 * * *', 'q', 't'").await;
    assert_eq!(round_at(&database, "2031-05-10 12:00:00+00").await, 1);
    database.run("select millrace.housekeep()").await;
    assert_eq!(
        history(&database, "s").await,
        ["06 00:00:00..10 00:00:00 missed", "10 00:00:00 enqueued"]
    );
}

/// The clients' role works through the typed functions, the functions' role through one of `millrace_api`.
#[tokio::test]
async fn the_roles_have_what_they_need_and_no_more() {
    let database = at_begin().await;
    let client = database.connect().await;
    client
        .batch_execute(
            "set role millrace_client;
             select millrace.create_schedule('s', '* * * * *', 'q', 't', overlap => 'queue');
             select millrace.create_schedule('u', '* * * * *', 'q', 't', overlap => 'skip');
             select millrace.update_schedule('s', priority => 6);
             select millrace.pause_schedule('s');
             select millrace.resume_schedule('s');
             select millrace.run_schedule('u');
             select count(next_run_at) from millrace.schedules();
             select count(*) from millrace.schedule_history('u');
             select millrace.enqueue_due();
             select millrace.delete_schedule('u')",
        )
        .await
        .expect("the clients' role");
    database.stop_clock_at("2031-03-05 12:01:00+00").await;
    let functions = millrace::database::connect(&database.functions_url())
        .await
        .expect("the functions' login");
    let answer: Value = functions
        .query_one("select millrace_api.enqueue_due('{}')", &[])
        .await
        .expect("a round")
        .get(0);
    assert_eq!(answer, json!({ "enqueued": 1 }));
    functions
        .query("select millrace.enqueue_due()", &[])
        .await
        .expect_err("a typed function");
}
