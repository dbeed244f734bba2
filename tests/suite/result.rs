//! `POST /api/collab/task.result`: what a report does, and every report that is refused.

use millrace_tests::api::Answer;
use millrace_tests::app::App;
use millrace_tests::routes::assert_forms_refused;
use serde_json::{Value, json};

const PATH: &str = "/api/collab/task.result";
const ID: &str = "00000000-0000-4000-8000-000000000000";

/// A report with one field set to what is given.
fn with(id: &str, field: &str, value: Value) -> Value {
    let mut result = json!({"jobId": id, "type": "t", "ok": false});
    result[field] = value;
    result
}

/// Assigns a job and claims it: its id and its lease.
async fn running(app: &App) -> (String, u64) {
    let id = app.api.assign_one("e", "t").await;
    let job = app.api.claim_one("e", "w").await.expect("the job");
    assert_eq!(job["id"], id);
    (id, job["lease_id"].as_u64().expect("a lease"))
}

async fn state(app: &App, id: &str) -> String {
    app.database
        .one(
            "select millrace.job_state(millrace.job_id($1::text::uuid))",
            &[&id],
        )
        .await
        .get(0)
}

/// Seconds from the queue's clock to when the job is due again.
async fn due_in(app: &App, id: &str) -> f64 {
    let sql = "select extract(epoch from run_at - millrace.clock())::float8 from millrace.ready where job_id = millrace.job_id($1::text::uuid)";
    app.database.one(sql, &[&id]).await.get(0)
}

#[tokio::test]
async fn a_success_keeps_its_result_and_its_artifacts() {
    let app = App::start().await;
    let (id, lease) = running(&app).await;
    let sha256 = "AB".repeat(32);
    let result = json!({
        "jobId": id.to_uppercase(), "type": "t", "ok": true, "workerId": "w", "leaseId": lease.to_string(), "result": {"n": null},
        "artifact": {"name": "a"},
        "artifacts": [{"name": "b", "url": "https://example.com/b?c=d", "path": "x/b.png", "size": 0, "mime": "image/png", "sha256": sha256}],
    });
    assert_eq!(app.api.result(result).await.ok(), json!({"ok": true}));
    assert_eq!(state(&app, &id).await, "succeeded");
    let kept = app
        .database
        .one("select result::text from millrace.finished", &[])
        .await;
    assert_eq!(kept.get::<_, &str>(0), r#"{"n": null}"#);
    let sql = "select to_jsonb(a)::text from (select name, url, path, size, mime, sha256 from millrace.artifact order by name) a";
    let artifacts = app.database.all(sql, &[]).await;
    let artifacts: Vec<Value> = artifacts
        .iter()
        .map(|row| serde_json::from_str(row.get(0)).expect("JSON"))
        .collect();
    let bare =
        json!({"name": "a", "url": null, "path": null, "size": null, "mime": null, "sha256": null});
    let whole = json!({
        "name": "b", "url": "https://example.com/b?c=d", "path": "x/b.png", "size": 0, "mime": "image/png", "sha256": "ab".repeat(32)
    });
    assert_eq!(artifacts, [bare, whole]);
}

#[tokio::test]
async fn a_failure_is_retried_after_the_backoff_or_when_the_worker_says() {
    let app = App::start().await;
    app.database.run("select millrace.configure_queue('e', backoff_base => '40 seconds', backoff_jitter => false)").await;
    for (field, value, least, most) in [
        ("errorCode", json!("rate_limited"), 30.0, 40.0),
        ("retryAfterSeconds", json!(500), 490.0, 500.0),
        ("error", json!(""), 30.0, 40.0),
        ("permanent", json!(false), 30.0, 40.0),
    ] {
        let (id, _) = running(&app).await;
        app.api.result(with(&id, field, value)).await.ok();
        assert_eq!(state(&app, &id).await, "queued", "{field}");
        let seconds = due_in(&app, &id).await;
        assert!(
            (least..=most).contains(&seconds),
            "{field}: due in {seconds} s"
        );
    }
}

#[tokio::test]
async fn a_permanent_failure_is_dead_at_once() {
    let app = App::start().await;
    let (id, _) = running(&app).await;
    let failure = json!({"jobId": id, "type": "t", "ok": false, "permanent": true, "errorCode": "bad_input", "error": "не то 🦀"});
    app.api.result(failure).await.ok();
    let row = app
        .database
        .one(
            "select reason, error, attempts from millrace.dead_letter",
            &[],
        )
        .await;
    assert_eq!(
        (
            row.get::<_, &str>(0),
            row.get::<_, &str>(1),
            row.get::<_, i16>(2)
        ),
        ("bad_input", "не то 🦀", 1)
    );
}

#[tokio::test]
async fn a_word_that_does_not_count_is_refused_by_its_reason() {
    let app = App::start().await;
    let queued = app.api.assign_one("another", "t").await;
    let (id, lease) = running(&app).await;
    for (id, field, value, status, code) in [
        (ID, "ok", json!(true), 404, "job_not_found"),
        (
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
            "ok",
            json!(true),
            404,
            "job_not_found",
        ),
        (&queued, "ok", json!(true), 409, "not_leased"),
        (&id, "workerId", json!("w2"), 409, "not_lease_owner"),
        (&id, "leaseId", json!(lease + 1), 409, "invalid_lease"),
        (&id, "type", json!("T"), 409, "type_mismatch"),
    ] {
        app.api
            .result(with(id, field, value))
            .await
            .assert_refused(status, code);
    }
    assert_eq!(state(&app, &id).await, "running");
    app.api.result(with(&id, "ok", json!(true))).await.ok();
    app.api
        .result(with(&id, "ok", json!(true)))
        .await
        .assert_refused(409, "already_attempted");
}

#[tokio::test]
async fn a_stale_worker_is_refused_and_the_new_ones_word_counts() {
    let app = App::start().await;
    app.database
        .run("select millrace.configure_queue('e', backoff_base => '0')")
        .await;
    let (id, stale) = running(&app).await;
    app.database.set_clock_ahead(61.0).await;
    app.api
        .result(with(&id, "leaseId", json!(stale)))
        .await
        .assert_refused(409, "lease_expired");
    let taken = app.api.claim_one("e", "w2").await.expect("the job again");
    app.api
        .result(with(&id, "leaseId", json!(stale)))
        .await
        .assert_refused(409, "lease_expired");
    app.api
        .result(with(&id, "workerId", json!("w")))
        .await
        .assert_refused(409, "not_lease_owner");
    let word = json!({"jobId": id, "type": "t", "ok": true, "workerId": "w2", "leaseId": taken["lease_id"]});
    app.api.result(word).await.ok();
    assert_eq!(state(&app, &id).await, "succeeded");
}

#[tokio::test]
async fn a_batch_records_the_artifacts_of_what_counted_only() {
    let app = App::start().await;
    let (id, _) = running(&app).await;
    let artifact = |name: &str| json!({"name": name});
    let results = json!([
        {"jobId": ID, "type": "t", "ok": true, "artifact": artifact("of nothing")},
        {"jobId": id, "type": "t", "ok": true, "artifact": artifact("of the job")},
    ]);
    let answer = app.api.result(json!({"results": results})).await.ok();
    assert_eq!(answer["ok"], true);
    assert_eq!(answer["results"][0]["code"], "job_not_found");
    assert_eq!(answer["results"][1], json!({"jobId": id, "ok": true}));
    let names = app
        .database
        .all("select name from millrace.artifact", &[])
        .await;
    assert_eq!(
        names.iter().map(|row| row.get(0)).collect::<Vec<&str>>(),
        ["of the job"]
    );
}

#[tokio::test]
async fn a_bad_field_is_named() {
    let app = App::start().await;
    let (id, _) = running(&app).await;
    let long = |length: usize| json!("x".repeat(length));
    let nul = json!("a\0b");
    for (field, values) in [
        (
            "jobId",
            vec![
                json!(null),
                json!(""),
                json!("7"),
                json!(7),
                json!(id.replace('-', "")),
                json!(format!("{{{id}}}")),
                nul.clone(),
            ],
        ),
        (
            "type",
            vec![json!(null), json!(""), long(201), nul.clone(), json!(1)],
        ),
        ("ok", vec![json!(null), json!("true"), json!(1), json!({})]),
        ("error", vec![long(10_001), nul.clone(), json!(1)]),
        ("errorCode", vec![json!(""), long(201), nul.clone()]),
        ("result", vec![nul.clone(), json!([{"a": nul}])]),
        ("workerId", vec![json!(""), long(201), nul.clone()]),
        (
            "leaseId",
            vec![
                json!(0),
                json!(-1),
                json!(1.5),
                json!(""),
                json!("x"),
                json!("9223372036854775808"),
                json!(true),
            ],
        ),
        (
            "retryAfterSeconds",
            vec![json!(-1), json!(31_536_001), json!(0.5), json!("5")],
        ),
        ("permanent", vec![json!("yes"), json!(1)]),
        ("artifact", vec![json!([]), json!("a"), json!(["a"])]),
        (
            "artifacts",
            vec![json!({}), json!(vec![json!({"name": "a"}); 101])],
        ),
        ("unknown", vec![json!(null)]),
        ("job_id", vec![json!(id)]),
    ] {
        for value in values {
            app.api
                .result(with(&id, field, value))
                .await
                .assert_invalid(field);
        }
    }
    assert_eq!(state(&app, &id).await, "running");
}

#[tokio::test]
async fn a_bad_artifact_is_named_down_to_its_field() {
    let app = App::start().await;
    let send = async |artifact: Value| -> Answer {
        app.api
            .result(with(ID, "artifacts", json!([{"name": "good"}, artifact])))
            .await
    };
    for (field, values) in [
        (
            "url",
            vec![
                "/relative",
                "example.com/a",
                "ftp://example.com/a",
                "javascript:alert(1)",
                "https://",
                "a\0",
                "",
            ],
        ),
        (
            "path",
            vec!["/etc/passwd", "a/../b", "..", "a//b", "a\\b", "", "a\0"],
        ),
        ("sha256", vec!["", "abc", "zz"]),
        ("mime", vec![""]),
        ("name", vec!["", "a\0"]),
    ] {
        for value in values {
            let mut artifact = json!({"name": "n"});
            artifact[field] = json!(value);
            send(artifact)
                .await
                .assert_invalid(&format!("artifacts[1].{field}"));
        }
    }
    for size in [json!(-1), json!(0.5), json!("1"), json!(u64::MAX)] {
        send(json!({"name": "n", "size": size}))
            .await
            .assert_invalid("artifacts[1].size");
    }
    send(json!({"size": 1}))
        .await
        .assert_invalid("artifacts[1].name");
    send(json!({"name": "n", "bytes": 1}))
        .await
        .assert_invalid("artifacts[1].bytes");
    app.api
        .result(with(ID, "artifact", json!({})))
        .await
        .assert_invalid("artifact.name");
}

#[tokio::test]
async fn a_bad_batch_is_refused_whole() {
    let app = App::start().await;
    let (id, _) = running(&app).await;
    let good = json!({"jobId": id, "type": "t", "ok": true});
    for (results, field) in [
        (json!([]), "results"),
        (json!({}), "results"),
        (json!(vec![good.clone(); 101]), "results"),
        (json!([good, good]), "results[1].jobId"),
        (json!([good, {"jobId": ID, "type": "t"}]), "results[1].ok"),
        (
            json!([good, {"jobId": "x", "type": "t", "ok": true}]),
            "results[1].jobId",
        ),
        (
            json!([good, {"jobId": ID, "type": "t", "ok": true, "artifact": {"name": "n", "path": "/x"}}]),
            "results[1].artifact.path",
        ),
    ] {
        app.api
            .result(json!({"results": results}))
            .await
            .assert_invalid(field);
    }
    let mixed = json!({"results": [good], "jobId": id});
    app.api.result(mixed).await.assert_invalid("jobId");
    assert_eq!(state(&app, &id).await, "running");
}

#[tokio::test]
async fn other_forms_of_request_are_refused() {
    let app = App::start().await;
    assert_forms_refused(&app, PATH).await;
    let twice = format!(r#"{{"jobId":"{ID}","type":"t","ok":true,"ok":true}}"#);
    app.api.post_text(PATH, twice).await.assert_invalid("ok");
}
