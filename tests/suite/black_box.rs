//! What anybody can check of a running instance with a URL, a database URL and keys: the flow that the collab guide
//! describes. Nothing here knows which host serves.

use std::collections::HashSet;

use millrace_tests::api::{Answer, Api};
use millrace_tests::app::BlackBox;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

const ASSIGN: &str = "/api/collab/task.assign";
const CLAIM: &str = "/api/collab/task.claim";
const RESULT: &str = "/api/collab/task.result";

/// Posts with the bearer token and nothing else.
async fn post(instance: &BlackBox, path: &str, body: Value) -> Answer {
    let request = instance
        .api
        .bare(Method::POST, path)
        .bearer_auth(&instance.token);
    instance.api.send(request.json(&body)).await
}

/// Lets failed jobs of the queue be due again at once.
async fn retry_at_once(instance: &BlackBox, queue: &str, max_attempts: i32) {
    let sql =
        "select millrace.configure_queue(queue => $1, max_attempts => $2, backoff_base => '0')";
    instance.database.one(sql, &[&queue, &max_attempts]).await;
}

#[tokio::test]
async fn the_guides_sequence_works_with_a_token() {
    let instance = BlackBox::reach().await;
    let queue = instance.queue();

    let health = instance
        .api
        .send(instance.api.bare(Method::GET, "/api/collab/health"))
        .await
        .ok();
    assert_eq!(health["ok"], true);

    let payload = json!({"url": "https://supabase.com"});
    let task = json!({"type": "browser.run", "executorId": queue, "payload": payload});
    let assigned = post(&instance, ASSIGN, task).await.ok();
    assert_eq!(assigned["queued"], true);

    let claim = json!({"executorId": queue, "workerId": "worker-01", "leaseSeconds": 60, "typePrefix": "browser."});
    let job = &post(&instance, CLAIM, claim).await.ok()["job"];
    let expected = json!({
        "id": assigned["jobId"], "type": "browser.run", "status": "running", "executor_id": queue,
        "worker_id": "worker-01", "payload": payload, "attempt": 1
    });
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&job[field], value, "{field}");
    }
    for time in ["created_at", "updated_at", "lease_expires_at"] {
        assert!(
            job[time].as_str().is_some_and(|text| text.contains('T')),
            "{time}: {job}"
        );
    }
    assert!(
        job["lease_id"].is_u64() && job["max_attempts"].is_u64(),
        "{job}"
    );

    let artifact =
        json!({"name": "page.png", "path": "runs/1/page.png", "size": 4096, "mime": "image/png"});
    let result =
        json!({"jobId": job["id"], "type": "browser.run", "ok": true, "artifacts": [artifact]});
    assert_eq!(
        post(&instance, RESULT, result).await.ok(),
        json!({"ok": true})
    );
    assert_eq!(
        state(&instance, job["id"].as_str().expect("an id")).await,
        "succeeded"
    );
}

#[tokio::test]
async fn a_job_that_always_fails_is_retried_and_ends_among_the_dead_letters() {
    let instance = BlackBox::reach().await;
    let queue = instance.queue();
    retry_at_once(&instance, &queue, 3).await;
    let id = instance.api.assign_one(&queue, "browser.run").await;
    for attempt in 1..=3 {
        let job = instance
            .api
            .claim_one(&queue, "worker-01")
            .await
            .expect("a job");
        assert_eq!((&job["id"], &job["attempt"]), (&json!(id), &json!(attempt)));
        let failure =
            json!({"jobId": id, "type": "browser.run", "ok": false, "error": "simulated-fail"});
        assert_eq!(
            post(&instance, RESULT, failure).await.ok(),
            json!({"ok": true})
        );
    }
    assert_eq!(instance.api.claim_one(&queue, "worker-01").await, None);
    let sql = "select attempts, reason, error from millrace.dead_letter where job_id = millrace.job_id($1::text::uuid)";
    let dead = instance.database.one(sql, &[&id]).await;
    assert_eq!(
        (
            dead.get::<_, i16>(0),
            dead.get::<_, &str>(1),
            dead.get::<_, &str>(2)
        ),
        (3, "failed", "simulated-fail")
    );
}

async fn state(instance: &BlackBox, id: &str) -> String {
    let sql = "select millrace.job_state(millrace.job_id($1::text::uuid))";
    instance.database.one(sql, &[&id]).await.get(0)
}

#[tokio::test]
async fn an_idempotency_key_stands_for_one_job() {
    let instance = BlackBox::reach().await;
    let (queue, other) = (instance.queue(), instance.queue());
    let task = |queue: &str| json!({"type": "t", "executorId": queue, "idempotencyKey": "once"});
    let first = post(&instance, ASSIGN, task(&queue)).await.ok();
    let second = post(&instance, ASSIGN, task(&queue)).await.ok();
    assert_eq!(first["queued"], true);
    assert_eq!(second, json!({"jobId": first["jobId"], "queued": false}));
    let elsewhere = post(&instance, ASSIGN, task(&other)).await.ok();
    assert_ne!(
        elsewhere["jobId"], first["jobId"],
        "a key belongs to its executor"
    );

    let claim = json!({"executorId": queue, "workerId": "w", "limit": 100});
    assert_eq!(
        post(&instance, CLAIM, claim).await.ok()["jobs"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn a_claim_answers_null_or_an_empty_list_where_there_is_nothing() {
    let instance = BlackBox::reach().await;
    let claim = json!({"executorId": instance.queue(), "workerId": "w"});
    assert_eq!(
        post(&instance, CLAIM, claim.clone()).await.ok(),
        json!({"job": null})
    );
    let mut several = claim;
    several["limit"] = json!(10);
    assert_eq!(
        post(&instance, CLAIM, several).await.ok(),
        json!({"jobs": []})
    );
}

#[tokio::test]
async fn a_claim_takes_no_more_than_its_limit_of_its_own_executors() {
    let instance = BlackBox::reach().await;
    let (queue, other) = (instance.queue(), instance.queue());
    instance.api.assign_one(&other, "t").await;
    let tasks: Vec<_> = (0..5)
        .map(|_| json!({"type": "t", "executorId": queue}))
        .collect();
    post(&instance, ASSIGN, json!({"tasks": tasks})).await.ok();
    for (limit, expected) in [(1, 1), (3, 3), (100, 1), (100, 0)] {
        let claim = json!({"executorId": queue, "workerId": "w", "limit": limit});
        let jobs = post(&instance, CLAIM, claim).await.ok();
        assert_eq!(
            jobs["jobs"].as_array().map(Vec::len),
            Some(expected),
            "limit {limit}"
        );
    }
}

#[tokio::test]
async fn bulk_results_count_or_are_refused_each_by_itself() {
    let instance = BlackBox::reach().await;
    let queue = instance.queue();
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(instance.api.assign_one(&queue, "t").await);
    }
    let claim = json!({"executorId": queue, "workerId": "w", "limit": 4});
    let jobs = post(&instance, CLAIM, claim).await.ok();
    let lease = |index: usize| jobs["jobs"][index]["lease_id"].as_u64().expect("a lease");
    let results = json!([
        {"jobId": ids[0], "type": "t", "ok": true, "leaseId": lease(0), "workerId": "w"},
        {"jobId": ids[1], "type": "t", "ok": true, "workerId": "another"},
        {"jobId": ids[2], "type": "another", "ok": true},
        {"jobId": ids[3], "type": "t", "ok": true, "leaseId": lease(3) + 1_000_000},
        {"jobId": ids[4], "type": "t", "ok": true},
        {"jobId": Uuid::new_v4().to_string(), "type": "t", "ok": true},
    ]);
    let answer = post(&instance, RESULT, json!({"results": results}))
        .await
        .ok();
    let codes: Vec<_> = answer["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|result| result["code"].clone())
        .collect();
    let expected = [
        Value::Null,
        json!("not_lease_owner"),
        json!("type_mismatch"),
        json!("invalid_lease"),
        json!("not_leased"),
        json!("job_not_found"),
    ];
    assert_eq!(codes, expected, "{answer}");
    assert_eq!(answer["results"][0], json!({"jobId": ids[0], "ok": true}));
    assert_eq!(answer["results"][1]["jobId"], ids[1]);

    // The same report again: its attempt has ended.
    let again = post(&instance, RESULT, json!({"results": [results[0]]}))
        .await
        .ok();
    assert_eq!(again["results"][0]["code"], "already_attempted");
}

#[tokio::test]
async fn a_heartbeat_makes_a_worker_active() {
    let instance = BlackBox::reach().await;
    let (queue, agent) = (instance.queue(), format!("agent-{}", Uuid::new_v4()));
    let beat = json!({"agentId": agent, "executorId": queue, "status": "busy", "running": 2, "capacity": 4, "version": "1.2.3"});
    assert_eq!(
        post(&instance, "/api/collab/workers/heartbeat", beat)
            .await
            .ok(),
        json!({"ok": true})
    );
    let active = instance
        .api
        .get(&format!("/api/collab/workers/active?executorId={queue}"))
        .await
        .ok();
    assert_eq!(active["count"], 1);
    assert!(active["ts"].is_string());
    let worker = &active["items"][0];
    assert!(worker["last_seen_at"].is_string(), "{worker}");
    let expected = json!({"agent_id": agent, "executor_id": queue, "status": "busy", "running": 2, "capacity": 4, "version": "1.2.3"});
    for (field, value) in expected.as_object().expect("an object") {
        assert_eq!(&worker[field], value, "{field}");
    }
}

#[tokio::test]
async fn who_has_no_good_credentials_is_refused() {
    let instance = BlackBox::reach().await;
    let body = json!({"type": "t", "executorId": instance.queue()});
    let bare = || instance.api.bare(Method::POST, ASSIGN).json(&body);
    let missing = instance.api.send(bare()).await;
    missing.assert_refused(401, "missing_credentials");
    assert_eq!(missing.header("www-authenticate"), "Bearer");
    instance
        .api
        .send(bare().bearer_auth("not.a.token"))
        .await
        .assert_refused(401, "invalid_token");
    instance
        .api
        .send(bare().header("x-api-key", "not the key"))
        .await
        .assert_refused(401, "invalid_api_key");
    let tampered = format!("{}x", instance.token);
    instance
        .api
        .send(bare().bearer_auth(tampered))
        .await
        .assert_refused(401, "invalid_token");
}

#[tokio::test]
async fn malformed_requests_are_refused_by_name() {
    let instance = BlackBox::reach().await;
    post(&instance, ASSIGN, json!({"type": "t"}))
        .await
        .assert_invalid("executorId");
    post(
        &instance,
        CLAIM,
        json!({"executorId": "e", "workerId": "w", "leaseSeconds": 5}),
    )
    .await
    .assert_invalid("leaseSeconds");
    post(
        &instance,
        RESULT,
        json!({"jobId": "7", "type": "t", "ok": true}),
    )
    .await
    .assert_invalid("jobId");
    instance
        .api
        .post_text(ASSIGN, "{")
        .await
        .assert_refused(400, "invalid_json");
    instance
        .api
        .get(CLAIM)
        .await
        .assert_refused(405, "method_not_allowed");
}

#[tokio::test]
async fn sixteen_claimers_take_every_job_exactly_once() {
    const CLAIMERS: usize = 16;
    const JOBS: usize = 500;
    let instance = BlackBox::reach().await;
    let queue = instance.queue();
    for _ in 0..JOBS / 100 {
        let tasks = vec![json!({"type": "t", "executorId": queue}); 100];
        instance.api.assign(json!({"tasks": tasks})).await.ok();
    }
    let mut claimers = tokio::task::JoinSet::new();
    for claimer in 0..CLAIMERS {
        claimers.spawn(work_off(
            instance.api.clone(),
            queue.clone(),
            format!("worker-{claimer}"),
        ));
    }
    let taken: Vec<String> = claimers.join_all().await.into_iter().flatten().collect();
    let distinct: HashSet<_> = taken.iter().collect();
    assert_eq!(
        (taken.len(), distinct.len()),
        (JOBS, JOBS),
        "claimed, and how many of those were different jobs"
    );

    let sql = "select count(*), coalesce(max(f.attempts), 0::int2) from millrace.finished f \
               where f.outcome = 'succeeded' and f.job_id = any (select millrace.job_id(u::uuid) from unnest($1::text[]) as u)";
    let row = instance.database.one(sql, &[&taken]).await;
    assert_eq!(
        (row.get::<_, i64>(0), row.get::<_, i16>(1)),
        (JOBS as i64, 1),
        "finished, and the most attempts at one"
    );
    println!(
        "{CLAIMERS} claimers over HTTP: {} claimed, {} different, {} finished",
        taken.len(),
        distinct.len(),
        row.get::<_, i64>(0)
    );
}

/// Claims and finishes up to three jobs at a time until there are none, and returns what it took.
async fn work_off(api: Api, queue: String, worker: String) -> Vec<String> {
    let mut taken = Vec::new();
    loop {
        let answer = api
            .claim(json!({"executorId": queue, "workerId": worker, "limit": 3}))
            .await
            .ok();
        let jobs = answer["jobs"].as_array().expect("jobs");
        if jobs.is_empty() {
            return taken;
        }
        let results: Vec<_> = jobs
            .iter()
            .map(|job| json!({"jobId": job["id"], "type": job["type"], "ok": true, "leaseId": job["lease_id"], "workerId": worker}))
            .collect();
        let answer = api.result(json!({"results": results})).await.ok();
        for result in answer["results"].as_array().expect("results") {
            assert_eq!(result["ok"], true, "{result}");
            taken.push(result["jobId"].as_str().expect("an id").to_owned());
        }
    }
}
