//! `cargo xtask bench --reading N`: what looking at jobs costs beside N finished ones, over HTTP and in the database.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::future::try_join_all;
use millrace::database::connect;
use millrace_tests::keys::API_KEY;
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::load::Stage;

/// How often each request is sent.
const CALLS: usize = 1000;

/// How many jobs go through the queue in one statement while it is filled.
const BATCH: usize = 1000;

/// One kind of look at the jobs: its name, the function behind it, and the request for the n-th call.
struct Look {
    name: &'static str,
    function: &'static str,
    request: fn(&Shelf, usize) -> Value,
    path: fn(&Value) -> String,
}

/// What lies there to be looked at.
pub struct Shelf {
    jobs: Vec<String>,
    cursors: Vec<String>,
}

/// What one kind of look came to. Rows and pages are the most that any of ten calls read.
pub struct Line {
    pub name: &'static str,
    pub latencies: Vec<Duration>,
    pub rows: i64,
    pub pages: i64,
}

const LOOKS: [Look; 9] = [
    Look {
        name: "job/:id",
        function: "collab_job",
        request: |shelf, n| json!({ "jobId": shelf.jobs[n % shelf.jobs.len()] }),
        path: |r| format!("/api/collab/job/{}", text(&r["jobId"])),
    },
    Look {
        name: "job/:id/summary",
        function: "collab_job_summary",
        request: |shelf, n| json!({ "jobId": shelf.jobs[n % shelf.jobs.len()] }),
        path: |r| format!("/api/collab/job/{}/summary", text(&r["jobId"])),
    },
    Look {
        name: "jobs/recent",
        function: "collab_recent",
        request: |_, _| json!({ "limit": 20 }),
        path: recent,
    },
    Look {
        name: "jobs/recent, from anywhere",
        function: "collab_recent",
        request: |shelf, n| json!({ "limit": 20, "cursor": shelf.cursors[n % shelf.cursors.len()] }),
        path: recent,
    },
    Look {
        name: "jobs/recent of an executor",
        function: "collab_recent",
        request: |_, n| json!({ "limit": 20, "executorId": format!("q{}", n % 8) }),
        path: recent,
    },
    Look {
        name: "jobs/recent that failed",
        function: "collab_recent",
        request: |_, n| json!({ "limit": 20, "status": "failed", "executorId": format!("q{}", n % 8) }),
        path: recent,
    },
    Look {
        name: "metrics/overview",
        function: "collab_overview",
        request: |_, _| json!({}),
        path: |_| "/api/collab/metrics/overview".to_owned(),
    },
    Look {
        name: "/metrics",
        function: "collab_metrics",
        request: |_, _| json!({}),
        path: |_| "/metrics".to_owned(),
    },
    Look {
        name: "dlq-list",
        function: "collab_dlq_list",
        request: |_, n| json!({ "limit": 20, "executorId": format!("q{}", n % 8) }),
        path: |r| {
            format!(
                "/functions/v1/dlq-list?limit=20&executorId={}",
                text(&r["executorId"])
            )
        },
    },
];

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn recent(request: &Value) -> String {
    let parameters = request
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            format!("{name}={value}")
        });
    let parameters: Vec<_> = parameters.collect();
    format!("/api/collab/jobs/recent?{}", parameters.join("&"))
}

/// Fills the queue with `jobs` jobs that have run, one in fifty of them dead, and takes each look at them.
pub async fn measure(stage: &Stage, jobs: usize) -> Result<Vec<Line>> {
    eprintln!("==> {jobs} jobs, enqueued, claimed and reported");
    let client = connect(&stage.database_url).await?;
    fill(stage, jobs).await?;
    client.batch_execute("vacuum analyze").await?;
    let shelf = shelf(&client).await?;
    let mut lines = Vec::new();
    for look in &LOOKS {
        eprintln!("==> {}", look.name);
        lines.push(take(stage, &client, &shelf, look).await?);
    }
    Ok(lines)
}

async fn fill(stage: &Stage, jobs: usize) -> Result<()> {
    let fillers = (0..2).map(|filler| async move {
        let client = connect(&stage.database_url).await?;
        let rounds = jobs / BATCH / 2;
        let sql = format!(
            "do $$ declare v_reports jsonb; begin
               for v_round in 1 .. {rounds} loop
                 perform millrace.enqueue_many((select jsonb_agg(jsonb_build_object('queue', 'q' || ({filler} + 2 * (v_round % 4)), 'type', 't' || n % 4,
                           'payload', jsonb_build_object('padding', repeat('x', 150)))) from generate_series(1, {BATCH}) n));
                 select jsonb_agg(jsonb_build_object('job_id', c.job_id, 'lease_id', c.lease_id, 'worker', 'w', 'succeeded', c.job_id % 50 > 0, 'permanent', true))
                   into v_reports from millrace.claim('q' || ({filler} + 2 * (v_round % 4)), 'w', {BATCH}) as c;
                 perform millrace.report_many(v_reports);
                 commit;
               end loop;
             end $$"
        );
        client.batch_execute(&sql).await.context("filling the queue")
    });
    try_join_all(fillers).await?;
    Ok(())
}

/// Jobs from all over the table, and the places in the list before them.
async fn shelf(client: &Client) -> Result<Shelf> {
    let sql = "select millrace.job_uuid(j.id)::text, to_char(j.enqueued_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US') || lpad(j.id::text, 19, '0') || 'Z'
                 from generate_series(1, (select max(id) from millrace.job), greatest((select max(id) from millrace.job) / 997, 1)) as k (id)
                 join millrace.job j on j.id = k.id";
    let rows = client.query(sql, &[]).await?;
    Ok(Shelf {
        jobs: rows.iter().map(|row| row.get(0)).collect(),
        cursors: rows.iter().map(|row| row.get(1)).collect(),
    })
}

async fn take(stage: &Stage, client: &Client, shelf: &Shelf, look: &Look) -> Result<Line> {
    let http = reqwest::Client::new();
    let mut latencies = Vec::with_capacity(CALLS);
    for call in 0..CALLS {
        let path = (look.path)(&(look.request)(shelf, call));
        let started = Instant::now();
        let request = http
            .get(format!("{}{path}", stage.base))
            .header("x-api-key", API_KEY);
        request.send().await?.error_for_status()?.bytes().await?;
        latencies.push(started.elapsed());
    }
    latencies.sort_unstable();
    let (mut rows, mut pages) = (0, 0);
    for call in 0..10 {
        let request = (look.request)(shelf, call * 97);
        rows = rows.max(rows_read(client, look.function, &request).await?);
        pages = pages.max(pages_read(client, look.function, &request).await?);
    }
    Ok(Line {
        name: look.name,
        latencies,
        rows,
        pages,
    })
}

/// Rows of our own tables that one call reads, by scans and by index, as Postgres counts them for a transaction.
pub async fn rows_read(client: &Client, function: &str, request: &Value) -> Result<i64> {
    client.batch_execute("begin").await?;
    let counted = "select coalesce(sum(seq_tup_read + coalesce(idx_tup_fetch, 0)), 0)::bigint from pg_stat_xact_all_tables where schemaname = 'millrace'";
    let before: i64 = client.query_one(counted, &[]).await?.get(0);
    let call = format!("select millrace_api.{function}($1)");
    client.query_one(&call, &[request]).await?;
    let after: i64 = client.query_one(counted, &[]).await?.get(0);
    client.batch_execute("commit").await?;
    Ok(after - before)
}

/// Pages that one call touches.
pub async fn pages_read(client: &Client, function: &str, request: &Value) -> Result<i64> {
    let sql = format!(
        "explain (analyze, buffers, format json) select millrace_api.{function}('{request}')"
    );
    let plan: Value = client.query_one(&sql, &[]).await?.get(0);
    let of = |name: &str| plan[0]["Plan"][name].as_i64().unwrap_or(0);
    Ok(of("Shared Hit Blocks") + of("Shared Read Blocks"))
}
