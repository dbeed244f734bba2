//! `GET /api/collab/job/:id`, its summary, `events/by-job/:id` and `artifacts/by-job/:id`: one job in every state, with its
//! history and its artifacts.

use millrace_tests::app::App;
use millrace_tests::scope::assert_scope;
use reqwest::Method;
use serde_json::{Value, json};

const NO_JOB: &str = "00000000-0000-8000-806d-696c6c726163";

/// What `GET /api/collab/job/:id` shows.
async fn shown(app: &App, id: &str) -> Value {
    let answer = app.api.get(&format!("/api/collab/job/{id}")).await.ok();
    assert_eq!(answer["job"]["id"], id);
    answer["job"].clone()
}

/// Assigns what `task` says and returns the job's id.
async fn assign(app: &App, task: Value) -> String {
    let answer = app.api.assign(task).await.ok();
    answer["jobId"].as_str().expect("an id").to_owned()
}

/// Claims a job of the queue and reports on it with these fields beside the ones that a report has anyway.
async fn work(app: &App, queue: &str, report: Value) -> Value {
    let job = app.api.claim_one(queue, "w").await.expect("a job");
    let mut outcome = json!({ "jobId": job["id"], "type": job["type"] });
    for (name, value) in report.as_object().expect("an object") {
        outcome[name] = value.clone();
    }
    app.api.result(outcome).await.ok();
    job
}

/// A queue whose retries come exactly a minute later, and whose jobs have two attempts.
async fn steady_queue(app: &App) {
    app.database
        .run("select millrace.configure_queue('q', max_attempts => 2, backoff_base => '1 minute', backoff_jitter => false)")
        .await;
}

#[tokio::test]
async fn a_job_is_shown_as_it_goes_its_way_to_the_dead_letters() {
    let app = App::start().await;
    steady_queue(&app).await;
    let id = assign(
        &app,
        json!({ "type": "t", "executorId": "q", "payload": {"n": 1.10, "nothing": null}, "priority": 7, "idempotencyKey": "i", "concurrencyKey": "c" }),
    )
    .await;
    let queued = shown(&app, &id).await;
    let created_at = queued["created_at"].clone();
    assert_eq!(
        queued,
        json!({
            "id": id, "type": "t", "status": "queued", "executor_id": "q", "worker_id": null, "payload": {"n": 1.10, "nothing": null},
            "created_at": created_at, "updated_at": created_at, "run_at": created_at, "priority": 7, "attempt": 0, "max_attempts": 2,
            "idempotency_key": "i", "concurrency_key": "c"
        })
    );

    let claimed = app.api.claim_one("q", "w1").await.expect("a job");
    let running = shown(&app, &id).await;
    assert_eq!(
        running,
        json!({
            "id": id, "type": "t", "status": "running", "executor_id": "q", "worker_id": "w1", "payload": {"n": 1.10, "nothing": null},
            "created_at": created_at, "updated_at": claimed["updated_at"], "lease_expires_at": claimed["lease_expires_at"], "priority": 7,
            "attempt": 1, "max_attempts": 2, "idempotency_key": "i", "concurrency_key": "c"
        })
    );

    let failure = json!({ "jobId": id, "type": "t", "ok": false, "error": "it broke", "errorCode": "broken" });
    app.api.result(failure.clone()).await.ok();
    let waiting = shown(&app, &id).await;
    assert_eq!(
        (
            &waiting["status"],
            &waiting["attempt"],
            &waiting["worker_id"],
            &waiting["error"],
            &waiting["error_code"]
        ),
        (
            &json!("queued"),
            &json!(1),
            &Value::Null,
            &json!("it broke"),
            &json!("broken")
        )
    );
    let minute: bool = app
        .database
        .one(
            "select $1::text::timestamptz - $2::text::timestamptz = interval '1 minute'",
            &[&waiting["run_at"].as_str(), &waiting["updated_at"].as_str()],
        )
        .await
        .get(0);
    assert!(
        minute,
        "a retry is due a minute after the report: {waiting}"
    );
    assert!(waiting.get("lease_expires_at").is_none() && waiting.get("finished_at").is_none());

    app.database.set_clock_ahead(61.0).await;
    app.api.claim_one("q", "w2").await.expect("a job");
    app.api.result(failure).await.ok();
    let dead = shown(&app, &id).await;
    assert_eq!(
        (
            &dead["status"],
            &dead["attempt"],
            &dead["worker_id"],
            &dead["error"],
            &dead["error_code"],
            &dead["finished_at"]
        ),
        (
            &json!("failed"),
            &json!(2),
            &json!("w2"),
            &json!("it broke"),
            &json!("broken"),
            &dead["updated_at"]
        )
    );
    assert!(dead.get("run_at").is_none() && dead.get("replayed_as").is_none());

    let dlq_id: i64 = app
        .database
        .one("select id from millrace.dead_letter", &[])
        .await
        .get(0);
    let replay = app
        .api
        .post("/functions/v1/dlq-retry", &json!({ "dlqId": dlq_id }))
        .await
        .ok();
    let again = shown(&app, replay["jobId"].as_str().expect("an id")).await;
    assert_eq!(shown(&app, &id).await["replayed_as"], replay["jobId"]);
    assert_eq!(
        (&again["replay_of"], &again["status"], &again["payload"]),
        (&json!(id), &json!("queued"), &queued["payload"])
    );
    assert!(again.get("idempotency_key").is_none());
}

#[tokio::test]
async fn a_job_is_shown_where_it_ended() {
    let app = App::start().await;
    steady_queue(&app).await;
    let succeeded = assign(&app, json!({ "type": "t", "executorId": "q" })).await;
    let result = json!({ "found": null, "n": [1, 2] });
    work(&app, "q", json!({ "ok": true, "result": result })).await;
    let job = shown(&app, &succeeded).await;
    assert_eq!(
        (
            &job["status"],
            &job["result"],
            &job["worker_id"],
            &job["finished_at"],
            &job["attempt"]
        ),
        (
            &json!("succeeded"),
            &result,
            &json!("w"),
            &job["updated_at"],
            &json!(1)
        )
    );
    assert!(job.get("error").is_none() && job.get("run_at").is_none());

    let cancel = async |id: &str| {
        app.database
            .one(
                "select millrace.cancel(millrace.job_id($1::text::uuid))::text",
                &[&id],
            )
            .await
    };
    let withdrawn = assign(
        &app,
        json!({ "type": "t", "executorId": "q", "delaySeconds": 9 }),
    )
    .await;
    let scheduled = shown(&app, &withdrawn).await;
    assert_ne!(scheduled["run_at"], scheduled["created_at"]);
    cancel(&withdrawn).await;
    let job = shown(&app, &withdrawn).await;
    assert_eq!(
        (&job["status"], &job["worker_id"], &job["attempt"]),
        (&json!("cancelled"), &Value::Null, &json!(0))
    );

    let stopped = assign(
        &app,
        json!({ "type": "t", "executorId": "q", "concurrencyKey": "c" }),
    )
    .await;
    let behind = assign(
        &app,
        json!({ "type": "t", "executorId": "q", "concurrencyKey": "c" }),
    )
    .await;
    app.api.claim_one("q", "w3").await.expect("a job");
    assert_eq!(
        shown(&app, &behind).await["status"],
        "queued",
        "parked behind another job"
    );
    cancel(&stopped).await;
    let job = shown(&app, &stopped).await;
    assert_eq!(
        (&job["status"], &job["worker_id"], &job["attempt"]),
        (&json!("cancelled"), &json!("w3"), &json!(1))
    );
}

#[tokio::test]
async fn a_summary_has_the_job_its_artifacts_and_its_events_in_order() {
    let app = App::start().await;
    let id = assign(&app, json!({ "type": "t", "executorId": "q" })).await;
    let artifacts = json!([
        { "name": "log", "path": "runs/1/log.txt", "size": 12, "mime": "text/plain", "sha256": "ab".repeat(32) },
        { "name": "page", "url": "https://example.com/" }
    ]);
    work(&app, "q", json!({ "ok": true, "artifacts": artifacts })).await;

    let summary = app
        .api
        .get(&format!("/api/collab/job/{id}/summary"))
        .await
        .ok();
    assert_eq!(summary["job"], shown(&app, &id).await);
    let recorded = summary["artifacts"].as_array().expect("artifacts");
    assert_eq!(recorded.len(), 2);
    for (recorded, given) in recorded
        .iter()
        .zip(artifacts.as_array().expect("artifacts"))
    {
        let mut expected = given.clone();
        expected["id"] = recorded["id"].clone();
        expected["job_id"] = json!(id);
        expected["created_at"] = recorded["created_at"].clone();
        assert_eq!(recorded, &expected);
    }
    let events = summary["events"].as_array().expect("events");
    let types: Vec<_> = events.iter().map(|e| e["event_type"].clone()).collect();
    assert_eq!(types, ["queued", "started", "succeeded"]);
    assert!(events.iter().all(|event| event["job_id"] == id));
    assert_eq!(events[1]["payload"]["worker"], "w");

    for (part, items) in [
        ("events", &summary["events"]),
        ("artifacts", &summary["artifacts"]),
    ] {
        let listed = app
            .api
            .get(&format!("/api/collab/{part}/by-job/{id}"))
            .await
            .ok();
        let count = items.as_array().map(Vec::len);
        assert_eq!(
            listed,
            json!({ "items": items, "count": count, "nextCursor": null })
        );
    }
}

/// Pages through a list from its beginning.
async fn pages(app: &App, list: &str, limit: usize) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app
            .api
            .get(&format!("{list}?limit={limit}{cursor}"))
            .await
            .ok();
        let items = page["items"].as_array().expect("items");
        assert_eq!(page["count"], items.len());
        assert!(items.len() <= limit);
        all.extend(items.iter().cloned());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

#[tokio::test]
async fn a_long_history_comes_in_parts() {
    let app = App::start().await;
    let id = assign(&app, json!({ "type": "t", "executorId": "q" })).await;
    app.database
        .run(
            "insert into millrace.job_events (job_id, event_type, created_at, payload, queue_id)
             select j.id, 'replayed', j.enqueued_at + n * interval '1 second', jsonb_build_object('n', n), j.queue_id
               from millrace.job j cross join generate_series(1, 2499) as n;
             insert into millrace.artifact (job_id, name, created_at)
             select j.id, n::text, j.enqueued_at from millrace.job j cross join generate_series(1, 2500) as n",
        )
        .await;
    let summary = app
        .api
        .get(&format!("/api/collab/job/{id}/summary"))
        .await
        .ok();
    let events = summary["events"].as_array().expect("events");
    assert_eq!(
        (events.len(), &events[999]["payload"]["n"]),
        (1000, &json!(2499))
    );
    assert_eq!(
        events[0]["payload"]["n"], 1500,
        "the latest thousand, in their order"
    );
    assert_eq!(summary["artifacts"].as_array().map(Vec::len), Some(1000));

    for (part, limits) in [("events", [1000, 999]), ("artifacts", [1000, 313])] {
        for limit in limits {
            let all = pages(&app, &format!("/api/collab/{part}/by-job/{id}"), limit).await;
            let ids: Vec<i64> = all.iter().filter_map(|item| item["id"].as_i64()).collect();
            assert_eq!(ids.len(), 2500, "{part} by {limit}");
            assert!(ids.is_sorted_by(|a, b| a < b), "{part} by {limit}");
        }
    }
    let whole = app
        .api
        .get(&format!("/api/collab/events/by-job/{id}"))
        .await
        .ok();
    assert_eq!(whole["count"], 1000, "a part has a thousand at most");
}

#[tokio::test]
async fn what_does_not_exist_is_not_found_and_what_is_malformed_is_named() {
    let app = App::start().await;
    let id = assign(&app, json!({ "type": "t", "executorId": "q" })).await;
    let routes = |id: &str| {
        [
            format!("/api/collab/job/{id}"),
            format!("/api/collab/job/{id}/summary"),
            format!("/api/collab/events/by-job/{id}"),
            format!("/api/collab/artifacts/by-job/{id}"),
        ]
    };
    for path in routes(&id) {
        assert_eq!(app.api.get(&path).await.status, 200, "{path}");
        let slash = app.api.get(&format!("{path}/")).await;
        assert_eq!(slash.status, 200, "{path}/: {}", slash.text);
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let answer = app.api.send(app.api.request(method, &path)).await;
            answer.assert_refused(405, "method_not_allowed");
            assert_eq!(answer.header("allow"), "GET");
        }
        app.api
            .get(&format!("{path}?x=1"))
            .await
            .assert_invalid("x");
    }
    // A version 4 UUID is none of ours; the other is the key 0, which no job has.
    for other in ["00000000-0000-4000-8000-000000000000", NO_JOB] {
        for path in routes(other) {
            app.api
                .get(&path)
                .await
                .assert_refused(404, "job_not_found");
        }
    }
    for malformed in [
        "7",
        "null",
        "%00",
        "00000000000080000000000000000001",
        "a%2Fb",
    ] {
        for path in routes(malformed) {
            app.api.get(&path).await.assert_invalid("jobId");
        }
    }
    for part in ["events", "artifacts"] {
        let path = format!("/api/collab/{part}/by-job/{id}");
        for (query, field) in [
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("limit=x", "limit"),
            ("limit=1&limit=1", "limit"),
            ("cursor=null", "cursor"),
            ("cursor=-1", "cursor"),
            ("cursor=", "cursor"),
            ("cursor=9999999999999999999", "cursor"),
        ] {
            app.api
                .get(&format!("{path}?{query}"))
                .await
                .assert_invalid(field);
        }
        let beyond = app
            .api
            .get(&format!("{path}?cursor=999999999999999999"))
            .await
            .ok();
        assert_eq!(
            beyond,
            json!({ "items": [], "count": 0, "nextCursor": null })
        );
    }
    for path in [
        "/api/collab/job",
        "/api/collab/job/",
        &format!("/api/collab/job/{id}/summary/x"),
        &format!("/api/collab/job/{id}/events"),
        "/api/collab/events/by-job",
    ] {
        assert_eq!(app.api.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn readers_may_look_at_jobs() {
    let app = App::start().await;
    for path in [
        "/api/collab/job/{}",
        "/api/collab/job/{}/summary",
        "/api/collab/events/by-job/{}",
        "/api/collab/artifacts/by-job/{}",
        "/api/collab/jobs/recent",
    ] {
        let path = path.replace("{}", NO_JOB);
        let tried = assert_scope(&app, "read", || app.api.bare(Method::GET, &path)).await;
        println!("{path}: {tried} kinds of callers");
    }
}
