//! `/api/jobs`: creating, listing, pausing, resuming and deleting jobs, the tasks that they make, and every request that is refused.

use millrace_tests::app::App;
use millrace_tests::database::Database;
use millrace_tests::routes::assert_forms_refused;
use reqwest::Method;
use serde_json::{Value, json};

const JOBS: &str = "/api/jobs";
const NOW: &str = "2030-05-01 12:00:30+00";

fn daily(name: &str) -> Value {
    json!({ "name": name, "type": "backup", "schedule": "0 0 * * *" })
}

async fn create(app: &App, job: &Value) -> Value {
    app.api.post(JOBS, job).await.created()
}

async fn get(app: &App, id: &str) -> Value {
    app.api.get(&format!("{JOBS}/{id}")).await.ok()
}

fn id_of(job: &Value) -> String {
    job["id"].as_str().expect("an id").to_owned()
}

async fn change(app: &App, id: &str, action: &str) -> millrace_tests::api::Answer {
    app.api
        .post(&format!("{JOBS}/{id}/{action}"), &json!({}))
        .await
}

/// An application whose database's clock stands at [`NOW`].
async fn at_noon() -> App {
    let database = Database::fresh().await;
    database.stop_clock_at(NOW).await;
    App::serve(database, &[]).await
}

#[tokio::test]
async fn a_job_has_the_fields_and_defaults_of_the_contract() {
    let app = at_noon().await;
    let job = create(&app, &daily("Daily Backup")).await;
    let expected = json!({
        "id": job["id"], "name": "Daily Backup", "type": "backup", "schedule": "0 0 * * *", "payload": {}, "status": "active", "queue": "tasks",
        "timeZone": "UTC", "createdAt": "2030-05-01T12:00:30+00:00", "updatedAt": "2030-05-01T12:00:30+00:00",
        "nextRun": "2030-05-02T00:00:00+00:00",
    });
    assert_eq!(job, expected);
    assert_eq!(get(&app, &id_of(&job)).await, job);

    let all = json!({
        "name": "Berlin", "type": "report", "schedule": "30 8 * * 1-5", "payload": { "a": null }, "queue": "reports", "timeZone": "Europe/Berlin",
        "priority": 20, "maxAttempts": 2,
    });
    let job = create(&app, &all).await;
    assert_eq!(
        (
            &job["queue"],
            &job["timeZone"],
            &job["payload"],
            &job["nextRun"]
        ),
        (
            &json!("reports"),
            &json!("Europe/Berlin"),
            &json!({ "a": null }),
            &json!("2030-05-02T06:30:00+00:00")
        )
    );
}

#[tokio::test]
async fn a_job_makes_tasks_as_they_were_described() {
    let app = at_noon().await;
    let job = json!({ "name": "n", "type": "report", "schedule": "1 12 * * *", "payload": { "a": 1 }, "priority": 20, "maxAttempts": 2 });
    let job = create(&app, &job).await;
    app.database.stop_clock_at("2030-05-01 12:01:05+00").await;
    app.database.run("select millrace.enqueue_due()").await;
    let tasks = app.api.get("/api/tasks").await.ok();
    assert_eq!(tasks["total"], 1);
    let task = &tasks["tasks"][0];
    assert_eq!(
        (
            &task["type"],
            &task["payload"],
            &task["priority"],
            &task["maxAttempts"],
            &task["queue"]
        ),
        (
            &json!("report"),
            &json!({ "a": 1 }),
            &json!(20),
            &json!(2),
            &json!("tasks")
        )
    );
    let job = get(&app, &id_of(&job)).await;
    assert_eq!(job["lastRun"], "2030-05-01T12:01:05+00:00");
    assert_eq!(job["nextRun"], "2030-05-02T12:01:00+00:00");
}

#[tokio::test]
async fn a_job_whose_last_due_time_was_refused_has_failed_until_one_is_not() {
    let app = at_noon().await;
    let job = json!({ "name": "n", "type": "t", "schedule": "* * * * *", "queue": "full" });
    let id = id_of(&create(&app, &job).await);
    app.database
        .run("update millrace.schedule set last_error = 'the queue would not take it', last_error_at = millrace.clock()")
        .await;
    assert_eq!(get(&app, &id).await["status"], "failed");
    change(&app, &id, "pause").await.created();
    assert_eq!(get(&app, &id).await["status"], "paused");
    change(&app, &id, "resume").await.created();
    app.database.stop_clock_at("2030-05-01 12:01:05+00").await;
    app.database.run("select millrace.enqueue_due()").await;
    assert_eq!(get(&app, &id).await["status"], "active");
}

#[tokio::test]
async fn a_job_is_paused_and_resumed_once() {
    let app = at_noon().await;
    let id = id_of(&create(&app, &daily("n")).await);
    let refused = change(&app, &id, "resume").await;
    assert_eq!(refused.gateway_refusal(400), "Job is not paused");

    let paused = change(&app, &id, "pause").await.created();
    assert_eq!(
        (&paused["status"], &paused["nextRun"]),
        (&json!("paused"), &Value::Null)
    );
    assert_eq!(get(&app, &id).await, paused);
    let refused = change(&app, &id, "pause").await;
    assert_eq!(refused.gateway_refusal(400), "Job is already paused");

    app.database.stop_clock_at("2030-05-03 12:00:00+00").await;
    let resumed = change(&app, &id, "resume").await.created();
    assert_eq!(resumed["status"], "active");
    assert_eq!(
        resumed["nextRun"], "2030-05-04T00:00:00+00:00",
        "a pause is no miss"
    );
    assert_eq!(resumed["updatedAt"], "2030-05-03T12:00:00+00:00");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_pauses_at_once_one_counts() {
    let app = App::start().await;
    const ROUNDS: usize = 20;
    for round in 0..ROUNDS {
        let id = id_of(&create(&app, &daily(&format!("n{round}"))).await);
        for (action, told) in [
            ("pause", "Job is already paused"),
            ("resume", "Job is not paused"),
        ] {
            let (one, other) = tokio::join!(change(&app, &id, action), change(&app, &id, action));
            let (won, lost) = match one.status {
                201 => (one, other),
                _ => (other, one),
            };
            won.created();
            assert_eq!(lost.gateway_refusal(400), told);
        }
    }
    println!("{} pairs of changes, one of each counted", 2 * ROUNDS);
}

#[tokio::test]
async fn a_deleted_job_is_gone_and_its_name_free() {
    let app = App::start().await;
    let id = id_of(&create(&app, &daily("n")).await);
    let path = format!("{JOBS}/{id}");
    let deleted = app.api.send(app.api.request(Method::DELETE, &path)).await;
    assert_eq!(
        deleted.ok(),
        json!({ "message": format!("Job {id} deleted successfully") })
    );
    let again = app.api.send(app.api.request(Method::DELETE, &path)).await;
    assert_eq!(
        again.gateway_refusal(404),
        format!("Job with ID {id} not found")
    );
    assert_ne!(id_of(&create(&app, &daily("n")).await), id);
}

#[tokio::test]
async fn a_name_is_given_once() {
    let app = App::start().await;
    create(&app, &daily("Daily Backup")).await;
    let refused = app.api.post(JOBS, &daily("Daily Backup")).await;
    assert_eq!(
        refused.gateway_refusal(409),
        "Job with name Daily Backup already exists"
    );
    create(&app, &daily("daily backup")).await;
}

#[tokio::test]
async fn the_list_is_a_bare_array_of_all() {
    let app = App::start().await;
    assert_eq!(app.api.get(JOBS).await.ok(), json!([]));
    let mut made = Vec::new();
    for number in 0..60 {
        made.insert(0, create(&app, &daily(&format!("n{number}"))).await);
    }
    assert_eq!(app.api.get(JOBS).await.ok(), json!(made));
    let part = app.api.get(&format!("{JOBS}?limit=7&offset=50")).await.ok();
    assert_eq!(part, json!(made[50..57]));

    let large =
        "update millrace.schedule set payload = to_jsonb(repeat('x', 1000000)) where id <= 10";
    app.database.run(large).await;
    let refused = app.api.get(JOBS).await;
    refused.assert_gateway_invalid("limit");
    let said = refused.gateway_refusal(400);
    assert!(said.contains("ask for fewer with limit"), "{said}");
    let part = app.api.get(&format!("{JOBS}?limit=58")).await.ok();
    assert_eq!(part.as_array().map(Vec::len), Some(58));
}

#[tokio::test]
async fn a_bad_expression_is_told_with_its_place() {
    let app = App::start().await;
    for (field, value, place) in [
        ("schedule", "61 * * * *", "character 1 (minute)"),
        ("schedule", "0 0 * * 8", "character 9 (weekday)"),
        ("schedule", "0 0 30 2 *", "character 5 (day)"),
        ("schedule", "every day", "expression"),
        ("schedule", "", ""),
        (
            "timeZone",
            "Mars/Olympus",
            "Mars/Olympus is not a time zone",
        ),
        ("timeZone", "CET", "name a place"),
        ("timeZone", "", ""),
    ] {
        let mut job = daily("n");
        job[field] = value.into();
        let answer = app.api.post(JOBS, &job).await;
        answer.assert_gateway_invalid(field);
        let message = answer.gateway_refusal(400);
        assert!(message.contains(place), "{message}");
    }
    assert_eq!(app.api.get(JOBS).await.ok(), json!([]));
}

#[tokio::test]
async fn a_bad_field_or_parameter_is_named_and_never_ignored() {
    let app = App::start().await;
    let id = id_of(&create(&app, &daily("n")).await);
    let long = "x".repeat(201);
    let mut cases = 0;
    for (field, values) in [
        (
            "name",
            vec![
                json!(null),
                json!(""),
                json!("  "),
                json!(5),
                json!("a\0"),
                json!(long),
            ],
        ),
        ("type", vec![json!(null), json!(""), json!(5), json!(long)]),
        (
            "schedule",
            vec![json!(null), json!(5), json!(["* * * * *"])],
        ),
        ("queue", vec![json!(""), json!(7), json!("millrace.alerts")]),
        (
            "priority",
            vec![json!(0), json!(21), json!("5"), json!(1.5)],
        ),
        ("maxAttempts", vec![json!(0), json!(1001), json!("3")]),
        ("timeZone", vec![json!(1), json!("a\0")]),
        ("payload", vec![json!("\0")]),
        ("cron", vec![json!("* * * * *")]),
        ("status", vec![json!("paused")]),
    ] {
        for value in values {
            let mut job = daily("m");
            job[field] = value;
            app.api.post(JOBS, &job).await.assert_gateway_invalid(field);
            cases += 1;
        }
    }
    for (name, values) in [
        ("limit", vec!["0", "1001", "x", ""]),
        ("offset", vec!["-1", "x"]),
        ("status", vec!["active"]),
    ] {
        for value in values {
            let answer = app.api.get(&format!("{JOBS}?{name}={value}")).await;
            answer.assert_gateway_invalid(name);
            cases += 1;
        }
    }
    for (method, path) in [
        (Method::GET, format!("{JOBS}/{id}")),
        (Method::DELETE, format!("{JOBS}/{id}")),
        (Method::POST, format!("{JOBS}/{id}/pause")),
        (Method::POST, format!("{JOBS}/{id}/resume")),
        (Method::POST, JOBS.to_owned()),
    ] {
        let request = app.api.request(method, &format!("{path}?force=1"));
        app.api.send(request).await.assert_gateway_invalid("force");
        cases += 1;
    }
    for action in ["pause", "resume"] {
        let answer = app
            .api
            .post(&format!("{JOBS}/{id}/{action}"), &json!({ "until": 1 }))
            .await;
        answer.assert_gateway_invalid("until");
        let answer = app
            .api
            .post_text(&format!("{JOBS}/{id}/{action}"), "[]")
            .await;
        answer.gateway_refusal(400);
        cases += 2;
    }
    assert_eq!(get(&app, &id).await["status"], "active");
    println!("{cases} bad requests, each field named");
}

#[tokio::test]
async fn an_id_that_names_no_job_is_not_found_whatever_it_is() {
    let app = App::start().await;
    let (mut cases, long) = (0, "9".repeat(500));
    for id in [
        "1",
        "0",
        "-1",
        "01",
        "x",
        "%31",
        "%00",
        "1e0",
        "9223372036854775808",
        &long,
    ] {
        let shown = match id.len() {
            500 => format!("{}…", &long[..100]),
            _ => id.to_owned(),
        };
        for (method, rest) in [
            (Method::GET, ""),
            (Method::DELETE, ""),
            (Method::POST, "/pause"),
            (Method::POST, "/resume"),
        ] {
            let request = app.api.request(method, &format!("{JOBS}/{id}{rest}"));
            let message = app.api.send(request).await.gateway_refusal(404);
            assert_eq!(message, format!("Job with ID {shown} not found"));
            cases += 1;
        }
    }
    println!("{cases} requests about jobs that are none");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_in_this_faces_words() {
    let app = App::start().await;
    for path in ["/api/jobs/1/2", "/api/jobs//pause", "/api/jobs/1/pause/now"] {
        let message = app.api.get(path).await.gateway_refusal(404);
        assert_eq!(message, "there is no such route", "{path}");
    }
    let mut refusals = 0;
    for path in [
        JOBS,
        "/api/jobs/{id}",
        "/api/jobs/{id}/pause",
        "/api/jobs/{id}/resume",
    ] {
        refusals += assert_forms_refused(&app, path).await;
    }
    app.api.get("/api/jobs/").await.ok();
    println!("{refusals} other methods and forms");
}
