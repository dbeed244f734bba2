//! Plan guards of what only reads: how many pages the lists, the overview and the metrics touch at 100,000 jobs. They bound
//! buffers, never time, and what they bound does not grow with the tables.

use millrace_tests::database::Database;
use serde_json::{Value, json};
use tokio_postgres::Client;

/// Jobs of four queues and two types: most succeeded, some dead, cancelled, running, and the rest queued.
async fn fill(database: &Database, jobs: i64) {
    let sql = "do $$
               declare
                 v_queue text;
                 v_done  int;
               begin
                 for v_round in 1 .. {rounds} loop
                   v_queue := 'q' || v_round % 4;
                   perform count(*) from millrace.enqueue_many((
                     select jsonb_agg(jsonb_build_object('queue', v_queue, 'type', 't' || n % 2)) from generate_series(1, 1000) as n));
                   if v_round <= {rounds} * 8 / 10 then
                     with claimed as materialized (select * from millrace.claim(v_queue, 'w', 1000))
                     select count(*) from millrace.report_many((
                       select jsonb_agg(jsonb_build_object('job_id', c.job_id, 'lease_id', c.lease_id, 'worker', 'w',
                                                           'succeeded', c.job_id % 10 <> 0, 'permanent', true))
                         from claimed c)) into v_done;
                   end if;
                 end loop;
               end
               $$;
               select count(millrace.cancel(job_id)) from (select job_id from millrace.ready where job_id % 50 = 0) as r;
               select count(*) from millrace.claim('q1', 'w', 500, lease => '1 day');
               analyze";
    let sql = sql.replace("{rounds}", &(jobs / 1000).to_string());
    database.run(&sql).await;
}

/// The pages that a call touches, the least of three.
async fn least(client: &Client, function: &str, request: &Value) -> i64 {
    let sql = format!(
        "explain (analyze, buffers, timing off, format json) select millrace_api.{function}('{request}')"
    );
    let mut least = i64::MAX;
    for _ in 0..3 {
        let plan: Value = client.query_one(&sql, &[]).await.expect(&sql).get(0);
        let pages = |name: &str| plan[0]["Plan"][name].as_i64().expect("a count of pages");
        least = least.min(pages("Shared Hit Blocks") + pages("Shared Read Blocks"));
    }
    least
}

#[tokio::test]
async fn lists_and_counts_touch_few_pages_at_any_size() {
    let database = Database::fresh().await;
    let calls = [
        ("collab_recent", json!({}), 600),
        ("collab_recent", json!({ "limit": 100 }), 3000),
        ("collab_recent", json!({ "executorId": "q0" }), 700),
        ("collab_recent", json!({ "limit": 100, "type": "t1" }), 3500),
        ("collab_recent", json!({ "status": "queued" }), 700),
        ("collab_recent", json!({ "status": "running" }), 700),
        ("collab_recent", json!({ "status": "succeeded" }), 700),
        ("collab_recent", json!({ "status": "failed" }), 700),
        ("collab_recent", json!({ "status": "cancelled" }), 700),
        (
            "collab_recent",
            json!({ "status": "succeeded", "executorId": "q2" }),
            25_000,
        ),
        (
            "collab_recent",
            json!({ "status": "failed", "type": "t0" }),
            1500,
        ),
        // Nothing fits: as much as a page ever looks at.
        (
            "collab_recent",
            json!({ "status": "failed", "type": "none" }),
            100,
        ),
        (
            "collab_recent",
            json!({ "status": "failed", "type": "t1" }),
            60_000,
        ),
        (
            "collab_recent",
            json!({ "status": "running", "executorId": "q0" }),
            60_000,
        ),
        (
            "collab_recent",
            json!({ "cursor": "2020-01-01T00:00:00Z" }),
            500,
        ),
        ("collab_overview", json!({}), 400),
        ("collab_metrics", json!({}), 2500),
        ("collab_dlq_list", json!({}), 500),
        (
            "collab_dlq_list",
            json!({ "executorId": "q0", "retried": false }),
            500,
        ),
        ("collab_dlq_list", json!({ "type": "none" }), 60_000),
        (
            "collab_dlq_list",
            json!({ "from": "2020-01-01T00:00:00Z", "to": "2040-01-01T00:00:00Z" }),
            700,
        ),
    ];
    let mut before = Vec::new();
    for jobs in [20_000, 80_000] {
        fill(&database, jobs).await;
        let mut pages = Vec::new();
        for (function, request, most) in &calls {
            let touched = least(database.client(), function, request).await;
            assert!(
                touched <= *most,
                "{function} {request} touches {touched} pages, {most} at most"
            );
            pages.push(touched);
        }
        if !before.is_empty() {
            for (((function, request, _), few), many) in calls.iter().zip(&before).zip(&pages) {
                println!(
                    "plans: {function} {request} touches {few} pages at 20,000 jobs, {many} at 100,000"
                );
            }
        }
        before = pages;
    }
    let job: String = database
        .one(
            "select millrace.job_uuid(max(job_id))::text from millrace.finished",
            &[],
        )
        .await
        .get(0);
    for function in [
        "collab_job",
        "collab_job_summary",
        "collab_job_events",
        "collab_job_artifacts",
    ] {
        let touched = least(database.client(), function, &json!({ "jobId": job })).await;
        println!("plans: {function} touches {touched} pages at 100,000 jobs");
        assert!(touched < 150, "{function} touches {touched} pages");
    }
    for table in ["ready", "lease", "finished", "dead_letter"] {
        let sql = format!("select max(job_id)::text from millrace.{table}");
        let task: String = database.one(&sql, &[]).await.get(0);
        for function in ["task_get", "task_logs"] {
            let touched = least(database.client(), function, &json!({ "taskId": task })).await;
            println!("plans: {function} of one in {table} touches {touched} pages at 100,000 jobs");
            assert!(
                touched < 150,
                "{function} of one in {table} touches {touched} pages"
            );
        }
    }
}
