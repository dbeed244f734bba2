//! `POST /functions/v1/cron-enqueue`: what a round does, by however many callers, and what becomes of one that fails in part.

use futures::future::join_all;
use millrace_tests::api::Answer;
use millrace_tests::app::App;
use millrace_tests::queue;
use millrace_tests::scope::assert_scope;
use reqwest::Method;
use serde_json::{Value, json};

const ROUND: &str = "/functions/v1/cron-enqueue";

async fn round(app: &App) -> Answer {
    app.api.send(app.api.request(Method::POST, ROUND)).await
}

async fn count(app: &App, sql: &str) -> i64 {
    app.database.one(sql, &[]).await.get(0)
}

/// A job whose worker is gone, in a queue that nobody claims from any more.
async fn lost_job(app: &App, queue: &str) -> i64 {
    let id = queue::enqueue(
        app.database.client(),
        json!({ "queue": queue, "type": "t" }),
    )
    .await;
    let claimed = queue::claim_one(app.database.client(), queue, "gone").await;
    assert_eq!(claimed.job_id, id);
    id
}

const JOBS_OF_SCHEDULES: &str = "select count(*) from millrace.job j join millrace.queue q on q.id = j.queue_id where q.name = 'scheduled'";

#[tokio::test]
async fn a_round_does_all_that_is_to_be_done() {
    let app = App::start().await;
    let quiet = round(&app).await.ok();
    assert_eq!(
        (&quiet["ok"], &quiet["schedules"], &quiet["alerts"]),
        (
            &json!(true),
            &json!({ "enqueued": 0 }),
            &json!({ "opened": 0, "resolved": 0, "told": 0, "delivered": 0, "failed": 0 })
        )
    );

    let lost = lost_job(&app, "abandoned").await;
    app.database
        .run("select millrace.create_schedule('s', '* * * * *', 'scheduled', 't', catch_up => 'all')")
        .await;
    app.database.set_clock_ahead(600.0).await;
    let did = round(&app).await.ok();
    assert!(did["schedules"]["enqueued"].as_i64() >= Some(9), "{did}");
    assert_eq!(did["housekeeping"]["leasesExpired"], 1, "{did}");
    assert_eq!(
        queue::state(app.database.client(), lost).await.as_deref(),
        Some("queued")
    );
    assert_eq!(did["alerts"]["opened"], 1, "the schedule was late: {did}");

    // Ten weeks on there are weeks to make, and history that is no longer kept.
    let old = queue::enqueue(
        app.database.client(),
        json!({ "queue": "old", "type": "t" }),
    )
    .await;
    let claimed = queue::claim_one(app.database.client(), "old", "w").await;
    queue::report(app.database.client(), &claimed, queue::Outcome::Succeeded)
        .await
        .expect("a report");
    app.database
        .run("select millrace.pause_schedule('s')")
        .await;
    app.database.set_clock_ahead(70.0 * 86400.0).await;
    let did = round(&app).await.ok();
    assert!(
        did["housekeeping"]["partitionsMade"].as_i64() > Some(0),
        "{did}"
    );
    assert_eq!(did["housekeeping"]["jobsRetired"], 1, "{did}");
    assert_eq!(queue::state(app.database.client(), old).await, None);
    app.database.assert_no_job_misplaced().await;
}

#[tokio::test]
async fn as_many_rounds_at_once_as_one_likes_do_the_work_of_one() {
    let app = App::start().await;
    app.database
        .run("select count(millrace.create_schedule('s' || n, '* * * * *', 'scheduled', 't', catch_up => 'all')) from generate_series(1, 50) as n")
        .await;
    for n in 0..10 {
        lost_job(&app, &format!("abandoned {n}")).await;
    }
    app.database.set_clock_ahead(3600.0).await;
    let due = count(
        &app,
        "select sum((select count(*) from millrace.cron_times(s.expression, s.next_run_at - interval '1 second', millrace.clock(), s.time_zone, 1000)))::bigint
           from millrace.schedule s",
    )
    .await;
    let answers = join_all((0..16).map(|_| round(&app))).await;
    let answers: Vec<Value> = answers.into_iter().map(Answer::ok).collect();
    let sum = |pointer: &str| -> i64 {
        answers
            .iter()
            .map(|answer| answer.pointer(pointer).and_then(Value::as_i64).unwrap_or(0))
            .sum()
    };
    // What another caller has in hand when a round looks is left to that caller: a last one sees that nothing is left.
    let rest = round(&app).await.ok();
    let enqueued =
        sum("/schedules/enqueued") + rest["schedules"]["enqueued"].as_i64().expect("a number");
    assert!(enqueued >= due, "{enqueued} of {due}");
    assert_eq!(enqueued, count(&app, JOBS_OF_SCHEDULES).await);
    assert_eq!(enqueued, count(&app, "select count(distinct (schedule_id, due_at)) from millrace.schedule_run where outcome = 'enqueued'").await);
    let expired = sum("/housekeeping/leasesExpired")
        + rest["housekeeping"]["leasesExpired"]
            .as_i64()
            .expect("a number");
    assert_eq!(expired, 10);
    assert_eq!(
        sum("/alerts/opened") + rest["alerts"]["opened"].as_i64().expect("a number"),
        50
    );
    app.database.assert_no_job_misplaced().await;
    println!("16 rounds at once enqueued {enqueued} jobs, each once, and ended {expired} leases");
}

#[tokio::test]
async fn a_part_that_fails_is_named_and_keeps_no_other_from_being_done() {
    let app = App::start().await;
    let parts = [
        ("schedules", "enqueue_due"),
        ("housekeeping", "housekeep"),
        ("alerts", "raise_alerts"),
    ];
    for (number, (part, function)) in parts.into_iter().enumerate() {
        let definition: String = app
            .database
            .one(
                "select pg_get_functiondef(('millrace_api.' || $1 || '(jsonb)')::regprocedure)",
                &[&function],
            )
            .await
            .get(0);
        let broken = |raises: &str| {
            format!("create or replace function millrace_api.{function}(jsonb) returns jsonb language plpgsql security definer
                     set search_path = pg_catalog, pg_temp as $$ begin {raises}; return '{{}}'; end $$")
        };
        let slug = format!("s{number}");
        app.database
            .run(&format!(
                "select millrace.create_schedule('{slug}', '* * * * * *', 'scheduled', 't')"
            ))
            .await;
        lost_job(&app, &slug).await;
        app.database
            .set_clock_ahead(3600.0 * (number + 1) as f64)
            .await;
        for (raises, status, code) in [
            ("perform 1 / 0", 500, "internal_error"),
            ("raise sqlstate '55P03'", 503, "try_again"),
        ] {
            app.database.run(&broken(raises)).await;
            let answer = round(&app).await;
            answer.assert_refused(status, "round_incomplete");
            assert_eq!(answer.json()["details"], format!("{part}: {code}"));
            assert_eq!(
                answer.header("retry-after"),
                if status == 503 { "1" } else { "" }
            );
        }
        let done = [
            ("schedules", format!("select count(*) from millrace.schedule where slug = '{slug}' and last_job_id is not null")),
            ("housekeeping", format!("select count(*) from millrace.attempt a join millrace.job j on j.id = a.job_id
                                        join millrace.queue q on q.id = j.queue_id where q.name = '{slug}'")),
            ("alerts", format!("select count(*) from millrace.alert where subject = '{slug}'")),
        ];
        for (other, sql) in &done {
            let is_done = count(&app, sql).await > 0;
            // Of what was not enqueued an alert tells that it is overdue.
            assert_eq!(is_done, *other != part, "{other} where {part} fails");
        }
        app.database.run(&definition).await;
        round(&app).await.ok();
        for (other, sql) in &done {
            assert!(count(&app, sql).await > 0, "{other} after {part} failed");
        }
    }
}

#[tokio::test]
async fn a_round_is_for_those_who_may_call_for_one() {
    let app = App::start().await;
    let tried = assert_scope(&app, "tick", || app.api.bare(Method::POST, ROUND)).await;
    // Schedulers send bodies of all kinds; none is read.
    for body in ["", "{}", "[1]", "not JSON"] {
        // Not held against the document, which has no body here.
        let request = app.api.request(Method::POST, ROUND).body(body);
        let request = request.header("content-type", "application/json");
        assert_eq!(request.send().await.expect("an answer").status(), 200);
    }
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let answer = app.api.send(app.api.request(method, ROUND)).await;
        answer.assert_refused(405, "method_not_allowed");
    }
    println!("{tried} callers");
}
