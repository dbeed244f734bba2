//! `POST /api/collab/workers/heartbeat` and `GET /api/collab/workers/active`: who is there to work.

use millrace_tests::app::App;
use millrace_tests::routes::assert_forms_refused;
use serde_json::{Value, json};

const HEARTBEAT: &str = "/api/collab/workers/heartbeat";
const ACTIVE: &str = "/api/collab/workers/active";

/// A heartbeat with one field set to what is given.
fn with(field: &str, value: Value) -> Value {
    let mut beat = json!({"agentId": "a", "executorId": "e", "status": "idle"});
    beat[field] = value;
    beat
}

/// The agents that are active, in the order in which they are told.
async fn agents(app: &App, query: &str) -> Vec<String> {
    let answer = app.api.get(&format!("{ACTIVE}{query}")).await.ok();
    let items = answer["items"].as_array().expect("items");
    assert_eq!(answer["count"], items.len());
    items
        .iter()
        .map(|item| item["agent_id"].as_str().expect("an id").to_owned())
        .collect()
}

#[tokio::test]
async fn a_worker_is_active_for_twenty_seconds() {
    let app = App::start().await;
    assert_eq!(agents(&app, "").await, [""; 0]);
    app.api
        .post(HEARTBEAT, &with("agentId", json!("a")))
        .await
        .ok();
    app.database.set_clock_ahead(15.0).await;
    app.api
        .post(HEARTBEAT, &with("agentId", json!("b")))
        .await
        .ok();
    assert_eq!(agents(&app, "").await, ["b", "a"], "the newest first");
    app.database.set_clock_ahead(25.0).await;
    assert_eq!(agents(&app, "").await, ["b"]);
    app.api
        .post(HEARTBEAT, &with("agentId", json!("a")))
        .await
        .ok();
    assert_eq!(agents(&app, "").await, ["a", "b"]);
    app.database.set_clock_ahead(100.0).await;
    assert_eq!(agents(&app, "").await, [""; 0]);
}

#[tokio::test]
async fn a_second_heartbeat_replaces_the_first() {
    let app = App::start().await;
    let first = json!({"agentId": "агент", "executorId": "e", "status": "busy", "running": 3, "capacity": 4, "version": "1"});
    app.api.post(HEARTBEAT, &first).await.ok();
    let second = json!({"agentId": "агент", "executorId": "f", "status": "idle", "running": 0});
    app.api.post(HEARTBEAT, &second).await.ok();
    let active = app.api.get(ACTIVE).await.ok();
    assert_eq!(active["count"], 1);
    let worker = &active["items"][0];
    assert_eq!(
        (
            &worker["executor_id"],
            &worker["status"],
            &worker["running"]
        ),
        (&json!("f"), &json!("idle"), &json!(0))
    );
    assert_eq!(
        (&worker["capacity"], &worker["version"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn one_executors_workers_can_be_asked_for() {
    let app = App::start().await;
    for (agent, executor) in [("a", "e 1"), ("b", "e&2"), ("c", "ключ")] {
        app.api
            .post(
                HEARTBEAT,
                &json!({"agentId": agent, "executorId": executor, "status": "idle"}),
            )
            .await
            .ok();
    }
    for (query, expected) in [
        ("?executorId=e%201", vec!["a"]),
        ("?executorId=e+1", vec!["a"]),
        ("?executorId=e%262", vec!["b"]),
        ("?executorId=%D0%BA%D0%BB%D1%8E%D1%87", vec!["c"]),
        ("?executorId=nobody", vec![]),
        ("?executorId=%27%20or%201%3D1%20--", vec![]),
        ("?", vec!["c", "b", "a"]),
    ] {
        assert_eq!(agents(&app, query).await, expected, "{query}");
    }
}

#[tokio::test]
async fn a_bad_parameter_is_named() {
    let app = App::start().await;
    for (query, field) in [
        ("?executorId=", "executorId".to_owned()),
        ("?executorId=%20", "executorId".to_owned()),
        ("?executorId", "executorId".to_owned()),
        ("?executorId=a&executorId=a", "executorId".to_owned()),
        ("?executorId=a%00", "executorId".to_owned()),
        ("?executorId=%FF", "executorId".to_owned()),
        ("?executorid=a", "executorid".to_owned()),
        ("?limit=1", "limit".to_owned()),
        ("?executorId=a&cursor=null", "cursor".to_owned()),
    ] {
        app.api
            .get(&format!("{ACTIVE}{query}"))
            .await
            .assert_invalid(&field);
    }
    app.api
        .get(&format!("{ACTIVE}?executorId={}", "x".repeat(201)))
        .await
        .assert_invalid("executorId");
}

#[tokio::test]
async fn a_bad_field_is_named() {
    let app = App::start().await;
    let long = |length: usize| json!("x".repeat(length));
    let nul = json!("a\0b");
    for (field, values) in [
        (
            "agentId",
            vec![
                json!(null),
                json!(""),
                json!(" "),
                long(201),
                nul.clone(),
                json!(1),
            ],
        ),
        (
            "executorId",
            vec![json!(null), json!(""), long(201), nul.clone()],
        ),
        (
            "status",
            vec![json!(null), json!(""), long(51), nul.clone(), json!(true)],
        ),
        (
            "running",
            vec![json!(-1), json!(0.5), json!("1"), json!(2_147_483_648_i64)],
        ),
        (
            "capacity",
            vec![json!(-1), json!(0.5), json!("1"), json!(2_147_483_648_i64)],
        ),
        ("version", vec![json!(""), long(101), nul.clone(), json!(1)]),
        ("unknown", vec![json!(1)]),
        ("agent_id", vec![json!("a")]),
    ] {
        for value in values {
            app.api
                .post(HEARTBEAT, &with(field, value))
                .await
                .assert_invalid(field);
        }
    }
    for (body, field) in [
        (r#"{"executorId":"e","status":"idle"}"#, "agentId"),
        (r#"{"agentId":"a","status":"idle"}"#, "executorId"),
        (r#"{"agentId":"a","executorId":"e"}"#, "status"),
        (
            r#"{"agentId":"a","agentId":"a","executorId":"e","status":"idle"}"#,
            "agentId",
        ),
    ] {
        app.api
            .post_text(HEARTBEAT, body)
            .await
            .assert_invalid(field);
    }
    assert_eq!(agents(&app, "").await, [""; 0]);
}

#[tokio::test]
async fn other_forms_of_request_are_refused() {
    let app = App::start().await;
    for path in [HEARTBEAT, ACTIVE] {
        assert_forms_refused(&app, path).await;
    }
    for path in [
        "/api/collab/workers",
        "/api/collab/workers/active/x",
        "/api/collab/workers/gone",
    ] {
        assert_eq!(app.api.get(path).await.status, 404, "{path}");
    }
}

/// A heartbeat of the worker `a` that names the leases of these jobs.
fn naming(jobs: &[Value]) -> Value {
    let name = |job: &Value| json!({"jobId": job["id"], "leaseId": job["lease_id"]});
    with("leases", jobs.iter().map(name).collect())
}

/// What becomes of the leases that a heartbeat names.
async fn leases(app: &App, beat: &Value) -> Vec<Value> {
    let answer = app.api.post(HEARTBEAT, beat).await.ok();
    assert_eq!(answer["ok"], true);
    let leases = answer["leases"].as_array().expect("leases").clone();
    let named = beat["leases"].as_array().expect("leases");
    assert_eq!(leases.len(), named.len());
    for (lease, name) in leases.iter().zip(named) {
        assert_eq!(lease["jobId"], name["jobId"], "in the request's order");
        assert_eq!(lease["held"], lease["code"].is_null(), "{lease}");
    }
    leases
}

/// Jobs that `worker` has claimed for a minute.
async fn claimed(app: &App, worker: &str, count: usize) -> Vec<Value> {
    let task = json!({"type": "t", "executorId": "e", "maxAttempts": 2});
    app.api
        .assign(json!({"tasks": vec![task; count]}))
        .await
        .ok();
    let claim = json!({"executorId": "e", "workerId": worker, "limit": count, "leaseSeconds": 60});
    let jobs = app.api.claim(claim).await.ok()["jobs"].take();
    let jobs = jobs.as_array().expect("jobs").clone();
    assert_eq!(jobs.len(), count);
    jobs
}

/// Withdraws a job, whatever it is at.
async fn cancel(app: &App, job: &Value) {
    let sql = "select millrace.cancel(millrace.job_id($1::text::uuid))";
    app.database.one(sql, &[&job["id"].as_str()]).await;
}

#[tokio::test]
async fn a_heartbeat_extends_the_leases_that_it_names_and_no_other() {
    let app = App::start().await;
    app.database.stop_clock_at("2030-01-07 12:00:00+00").await;
    let jobs = claimed(&app, "a", 2).await;
    let ends = async |beat: Value| leases(&app, &beat).await[0]["leaseExpiresAt"].clone();
    let mut beat = naming(&jobs[..1]);
    app.database.stop_clock_at("2030-01-07 12:00:30+00").await;
    assert_eq!(ends(beat.clone()).await, "2030-01-07T12:01:30+00:00");
    beat["leaseSeconds"] = json!(600);
    assert_eq!(ends(beat.clone()).await, "2030-01-07T12:10:30+00:00");
    beat["leaseSeconds"] = json!(15);
    assert_eq!(
        ends(beat.clone()).await,
        "2030-01-07T12:10:30+00:00",
        "never shorter"
    );
    beat["leases"][0]["leaseId"] = json!(jobs[0]["lease_id"].to_string());
    assert_eq!(
        ends(beat).await,
        "2030-01-07T12:10:30+00:00",
        "digits in a string"
    );
    assert_eq!(
        agents(&app, "").await,
        ["a"],
        "it is a heartbeat all the same"
    );

    for beat in [
        with("leases", json!([])),
        with("leases", Value::Null),
        with("version", json!("1")),
    ] {
        let answer = app.api.post(HEARTBEAT, &beat).await.ok();
        let expected = match beat["leases"].is_array() {
            true => json!({"ok": true, "leases": []}),
            false => json!({"ok": true}),
        };
        assert_eq!(answer, expected);
    }
    app.database.stop_clock_at("2030-01-07 12:01:01+00").await;
    let lost = &leases(&app, &naming(&jobs)).await[1];
    assert_eq!(lost["code"], "lease_expired", "the one that nobody named");
}

#[tokio::test]
async fn a_worker_hears_that_its_running_job_was_cancelled() {
    let app = App::start().await;
    let jobs = claimed(&app, "a", 2).await;
    cancel(&app, &jobs[1]).await;
    let states = leases(&app, &naming(&jobs)).await;
    assert_eq!(states[0]["held"], true);
    let expected = json!({"jobId": jobs[1]["id"], "leaseId": jobs[1]["lease_id"], "held": false,
                          "code": "cancelled", "message": "the job was cancelled"});
    assert_eq!(states[1], expected);

    let report = |job: &Value| json!({"jobId": job["id"], "type": "t", "ok": true, "leaseId": job["lease_id"], "workerId": "a"});
    let refused = app.api.result(report(&jobs[1])).await;
    refused.assert_refused(409, "cancelled");
    app.api.result(report(&jobs[0])).await.ok();
    let after = leases(&app, &naming(&jobs)).await;
    let codes: Vec<&Value> = after.iter().map(|state| &state["code"]).collect();
    assert_eq!(codes, ["already_attempted", "cancelled"]);

    // Queued again and claimed by somebody else, it is still the old lease that was cancelled.
    let sql = "select millrace.retry(millrace.job_id($1::text::uuid))";
    app.database.one(sql, &[&jobs[1]["id"].as_str()]).await;
    let again = app.api.claim_one("e", "b").await.expect("the job");
    assert_eq!(
        leases(&app, &naming(&jobs[1..])).await[0]["code"],
        "cancelled"
    );
    assert_eq!(
        leases(&app, &naming(&[again])).await[0]["code"],
        "not_lease_owner"
    );
}

#[tokio::test]
async fn each_lost_lease_says_why() {
    let app = App::start().await;
    app.database
        .run("select millrace.configure_queue('e', backoff_base => '0')")
        .await;
    let mine = claimed(&app, "a", 1).await.remove(0);
    let others = claimed(&app, "b", 1).await.remove(0);
    let no_job =
        json!({"id": "00000000-0000-4000-8000-000000000000", "lease_id": mine["lease_id"]});
    let no_lease = json!({"id": mine["id"], "lease_id": i64::MAX});
    let mixed_up = json!({"id": others["id"], "lease_id": mine["lease_id"]});
    let told = naming(&[
        mine.clone(),
        others,
        no_job,
        no_lease,
        mixed_up,
        mine.clone(),
    ]);
    let codes = async || -> Vec<Value> {
        let states = leases(&app, &told).await;
        states
            .into_iter()
            .map(|state| state["code"].clone())
            .collect()
    };
    let lost = [
        "not_lease_owner",
        "job_not_found",
        "invalid_lease",
        "invalid_lease",
    ]
    .map(Value::from);
    let [others, no_job, no_lease, mixed_up] = lost;
    let (held, expired) = (Value::Null, json!("lease_expired"));
    let expected =
        |mine: &Value| [mine, &others, &no_job, &no_lease, &mixed_up, mine].map(Value::clone);
    assert_eq!(codes().await, expected(&held));

    app.database.set_clock_ahead(61.0).await;
    assert_eq!(codes().await[0], expired, "before anybody has noticed");
    let again = app.api.claim_one("e", "a").await.expect("the job");
    assert_eq!(again["attempt"], 2);
    let both = leases(&app, &naming(&[mine, again])).await;
    assert_eq!(
        (&both[0]["code"], &both[1]["held"]),
        (&expired, &json!(true))
    );
}

/// A cancel that waits for a concurrency key has its job's lease locked for as long as an application's transaction lasts.
#[tokio::test]
async fn a_lease_that_somebody_has_locked_keeps_no_other_from_being_extended() {
    let app = App::start().await;
    let keyed = json!({"type": "t", "executorId": "e", "concurrencyKey": "k"});
    let plain = json!({"type": "t", "executorId": "e"});
    app.api.assign(json!({"tasks": [keyed, plain]})).await.ok();
    let claim = json!({"executorId": "e", "workerId": "a", "limit": 2, "leaseSeconds": 60});
    let jobs = app.api.claim(claim).await.ok()["jobs"].take();
    let jobs = jobs.as_array().expect("jobs").clone();
    let application = app.database.connect().await;
    let hold = "begin; select millrace.enqueue('e', 't', concurrency_key => 'k')";
    application.batch_execute(hold).await.expect("the key");

    let canceller = app.database.connect().await;
    let id = jobs[0]["id"].as_str();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 1] = [&id];
    let cancel = canceller.query(
        "select millrace.cancel(millrace.job_id($1::text::uuid))",
        &parameters,
    );
    let (cancelled, ()) = tokio::join!(cancel, async {
        app.database.lock_waiters(1).await;
        app.database.set_clock_ahead(30.0).await;
        let states = leases(&app, &naming(&jobs)).await;
        assert_eq!(states[0]["code"], "try_again", "{states:?}");
        assert_eq!(states[1]["held"], true, "{states:?}");
        // Past the end that it had, the one that was locked is lost, and the other is held.
        app.database.set_clock_ahead(61.0).await;
        let states = leases(&app, &naming(&jobs)).await;
        assert_eq!(states[0]["code"], "lease_expired", "{states:?}");
        assert_eq!(states[1]["held"], true, "{states:?}");
        let commit = application.batch_execute("commit").await;
        commit.expect("the application's end");
    });
    cancelled.expect("the cancel");
    let states = leases(&app, &naming(&jobs)).await;
    assert_eq!(states[0]["code"], "cancelled");
    assert_eq!(states[1]["held"], true);
}

#[tokio::test]
async fn a_hundred_leases_are_one_heartbeat() {
    let app = App::start().await;
    let mut jobs = claimed(&app, "a", 100).await;
    for job in &jobs[..50] {
        cancel(&app, job).await;
    }
    jobs.reverse();
    let states = leases(&app, &naming(&jobs)).await;
    let held = states.iter().map(|state| state["held"] == true);
    assert!(held.eq((0..100).map(|index| index < 50)), "{states:?}");

    jobs.push(jobs[0].clone());
    let answer = app.api.post(HEARTBEAT, &naming(&jobs)).await;
    answer.assert_invalid("leases");
}

#[tokio::test]
async fn a_bad_lease_is_named() {
    let app = App::start().await;
    let good = json!({"jobId": "00000000-0000-8000-8000-000000000001", "leaseId": 1});
    for (field, value) in [
        ("jobId", json!("1")),
        ("jobId", Value::Null),
        ("leaseId", json!(0)),
        ("leaseId", json!("x")),
        ("leaseId", Value::Null),
        ("workerId", json!("a")),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        let beat = with("leases", json!([good, good, good, bad]));
        let answer = app.api.post(HEARTBEAT, &beat).await;
        answer.assert_invalid(&format!("leases[3].{field}"));
    }
    for (field, value) in [
        ("leases", json!("x")),
        ("leases", good.clone()),
        ("leaseSeconds", json!(15)),
    ] {
        let answer = app.api.post(HEARTBEAT, &with(field, value)).await;
        answer.assert_invalid(field);
    }
    for seconds in [json!(14), json!(601), json!("60"), json!(15.5)] {
        let mut beat = with("leases", json!([good]));
        beat["leaseSeconds"] = seconds;
        let answer = app.api.post(HEARTBEAT, &beat).await;
        answer.assert_invalid("leaseSeconds");
    }
    assert_eq!(agents(&app, "").await, [""; 0]);
}
