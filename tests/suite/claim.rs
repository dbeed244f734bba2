//! `POST /api/collab/task.claim`: what it leases, and every request that it refuses.

use millrace_tests::app::App;
use millrace_tests::routes::assert_forms_refused;
use serde_json::{Value, json};

const PATH: &str = "/api/collab/task.claim";

/// A claim with one field set to what is given.
fn with(field: &str, value: Value) -> Value {
    let mut claim = json!({"executorId": "e", "workerId": "w"});
    claim[field] = value;
    claim
}

/// The types of the jobs that a claim of up to 100 answers with.
async fn types(app: &App, field: &str, value: &str) -> Vec<String> {
    let mut claim = with(field, json!(value));
    claim["limit"] = json!(100);
    let answer = app.api.claim(claim).await.ok();
    let jobs = answer["jobs"].as_array().expect("jobs");
    jobs.iter()
        .map(|job| job["type"].as_str().expect("a type").to_owned())
        .collect()
}

#[tokio::test]
async fn a_job_tells_all_about_itself_and_its_lease() {
    let app = App::start().await;
    let task = json!({"type": "browser.run", "executorId": "e", "payload": {"a": null}, "priority": 7, "maxAttempts": 9});
    let id = app.api.assign(task).await.ok()["jobId"].clone();
    let job = app.api.claim_one("e", "w").await.expect("a job");
    let mut fields: Vec<_> = job
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    fields.sort_unstable();
    let expected = [
        "attempt",
        "created_at",
        "executor_id",
        "id",
        "lease_expires_at",
        "lease_id",
        "max_attempts",
        "payload",
        "priority",
        "status",
        "type",
        "updated_at",
        "worker_id",
    ];
    assert_eq!(fields, expected);
    assert_eq!(
        (&job["id"], &job["payload"], &job["status"]),
        (&id, &json!({"a": null}), &json!("running"))
    );
    assert_eq!(
        (&job["priority"], &job["attempt"], &job["max_attempts"]),
        (&json!(7), &json!(1), &json!(9))
    );
}

#[tokio::test]
async fn a_lease_is_as_long_as_asked_for_else_a_minute() {
    let app = App::start().await;
    for (asked, seconds) in [
        (None, 60.0),
        (Some(15), 15.0),
        (Some(600), 600.0),
        (Some(61), 61.0),
    ] {
        app.api.assign_one("e", "t").await;
        let claim = asked.map_or(json!({"executorId": "e", "workerId": "w"}), |asked| {
            with("leaseSeconds", json!(asked))
        });
        let job = app.api.claim(claim).await.ok()["job"].clone();
        let sql =
            "select extract(epoch from $1::text::timestamptz - $2::text::timestamptz)::float8";
        let row = app
            .database
            .one(
                sql,
                &[
                    &job["lease_expires_at"].as_str(),
                    &job["updated_at"].as_str(),
                ],
            )
            .await;
        assert_eq!(row.get::<_, f64>(0), seconds, "{asked:?}");
    }
}

#[tokio::test]
async fn a_type_is_met_whole_and_a_prefix_letter_for_letter() {
    let app = App::start().await;
    let kinds = [
        "browser.run",
        "browser.run.fast",
        "browserless",
        "Browser.run",
        "b%",
        "b_",
        "ключ.1",
        "\u{10ffff}z",
    ];
    for kind in kinds {
        app.api.assign_one("e", kind).await;
    }
    assert_eq!(types(&app, "type", "browser").await, [""; 0]);
    assert_eq!(types(&app, "type", "browser.run").await, ["browser.run"]);
    assert_eq!(
        types(&app, "typePrefix", "b%").await,
        ["b%"],
        "% and _ stand for themselves"
    );
    assert_eq!(types(&app, "typePrefix", "b_").await, ["b_"]);
    assert_eq!(
        types(&app, "typePrefix", "browser.").await,
        ["browser.run.fast"]
    );
    assert_eq!(
        types(&app, "typePrefix", "\u{10ffff}").await,
        ["\u{10ffff}z"],
        "the greatest character has no successor"
    );
    assert_eq!(types(&app, "typePrefix", "ключ.").await, ["ключ.1"]);
    assert_eq!(types(&app, "typePrefix", "b").await, ["browserless"]);
    assert!(
        app.api
            .claim_one("e", "w")
            .await
            .is_some_and(|job| job["type"] == "Browser.run")
    );
}

#[tokio::test]
async fn the_limit_decides_the_answers_shape() {
    let app = App::start().await;
    app.api.assign_one("e", "t").await;
    let several = app.api.claim(with("limit", json!(1))).await.ok();
    assert_eq!(several["jobs"].as_array().map(Vec::len), Some(1));
    assert!(several.get("job").is_none());
    let one = app.api.claim(with("limit", Value::Null)).await.ok();
    assert_eq!(one, json!({"job": null}), "null stands for an absent field");
}

#[tokio::test]
async fn a_paused_queue_gives_nothing_out() {
    let app = App::start().await;
    app.api.assign_one("e", "t").await;
    app.database.run("select millrace.pause('e')").await;
    assert_eq!(app.api.claim_one("e", "w").await, None);
    app.database.run("select millrace.resume('e')").await;
    assert!(app.api.claim_one("e", "w").await.is_some());
}

#[tokio::test]
async fn a_job_whose_lease_ran_out_is_claimed_again_under_a_new_one() {
    let app = App::start().await;
    app.database
        .run("select millrace.configure_queue('e', backoff_base => '0')")
        .await;
    app.api.assign_one("e", "t").await;
    let first = app.api.claim_one("e", "w1").await.expect("a job");
    assert_eq!(app.api.claim_one("e", "w2").await, None);
    app.database.set_clock_ahead(61.0).await;
    let second = app.api.claim_one("e", "w2").await.expect("the job again");
    assert_eq!(
        (&second["id"], &second["attempt"]),
        (&first["id"], &json!(2))
    );
    assert!(second["lease_id"].as_u64() > first["lease_id"].as_u64());
}

#[tokio::test]
async fn a_bad_field_is_named() {
    let app = App::start().await;
    app.api.assign_one("e", "t").await;
    let long = "x".repeat(201);
    let nul = "a\0b";
    for (field, values) in [
        (
            "executorId",
            vec![
                json!(null),
                json!(""),
                json!(" "),
                json!(long),
                json!(nul),
                json!(7),
            ],
        ),
        (
            "workerId",
            vec![
                json!(null),
                json!(""),
                json!("\n"),
                json!(long),
                json!(nul),
                json!([]),
            ],
        ),
        (
            "leaseSeconds",
            vec![
                json!(14),
                json!(601),
                json!(-60),
                json!(60.5),
                json!("60"),
                json!(true),
                json!(1e300),
            ],
        ),
        (
            "typePrefix",
            vec![json!(""), json!(long), json!(nul), json!(1)],
        ),
        ("type", vec![json!(""), json!(long), json!(nul), json!(1)]),
        (
            "limit",
            vec![
                json!(0),
                json!(101),
                json!(-1),
                json!("1"),
                json!(1.0),
                json!(u64::MAX),
            ],
        ),
        ("unknown", vec![json!(1)]),
        ("executor_id", vec![json!("e")]),
    ] {
        for value in values {
            app.api
                .claim(with(field, value))
                .await
                .assert_invalid(field);
        }
    }
    for (body, field) in [
        (r#"{"workerId":"w"}"#, "executorId"),
        (r#"{"executorId":"e"}"#, "workerId"),
        (
            r#"{"executorId":"e","workerId":"w","limit":1,"limit":2}"#,
            "limit",
        ),
    ] {
        app.api.post_text(PATH, body).await.assert_invalid(field);
    }
    let both = json!({"executorId": "e", "workerId": "w", "type": "t", "typePrefix": "t"});
    app.api
        .claim(both)
        .await
        .assert_refused(400, "invalid_request");
    assert!(
        app.api.claim_one("e", "w").await.is_some(),
        "no refused claim took the job"
    );
}

#[tokio::test]
async fn other_forms_of_request_are_refused() {
    let app = App::start().await;
    assert_forms_refused(&app, PATH).await;
}
