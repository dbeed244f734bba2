//! How soon a job reaches the handler of its channel: jobs come over HTTP at a steady rate, whatever becomes of those before them, and no tick
//! helps. The times are the database's, so no two clocks are compared.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use millrace::database::connect;
use millrace_tests::keys::API_KEY;
use reqwest::Client;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::load::Stage;

/// Enqueues a second.
const RATES: [u64; 3] = [1, 10, 100];

/// The least jobs of a measurement: of fewer, a 99th percentile says nothing.
const LEAST: u64 = 30;

/// For how long the last jobs of a measurement may be waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What one rate came to; the durations in order.
pub struct Line {
    pub rate: u64,
    pub claimed: Vec<Duration>,
    pub ended: Vec<Duration>,
    /// How many runs of the drain there were.
    pub runs: i64,
}

/// Measures each rate for `seconds`, and for as long as it takes to have [`LEAST`] jobs.
pub async fn measure(stage: &Stage, seconds: u64) -> Result<Vec<Line>> {
    enqueue(stage, 20, 10).await?; // instances and connections are made
    wait_for_end(stage).await?;
    let mut lines = Vec::new();
    for rate in RATES {
        eprintln!("==> {rate} enqueues a second");
        let last: i64 = last_job(stage).await?;
        enqueue(stage, rate, (rate * seconds).max(LEAST)).await?;
        wait_for_end(stage).await?;
        lines.push(read(stage, rate, last).await?);
    }
    Ok(lines)
}

async fn enqueue(stage: &Stage, rate: u64, jobs: u64) -> Result<()> {
    let client = Client::new();
    let url = format!("{}/api/collab/task.assign", stage.base);
    let mut ticks = interval(Duration::from_secs(1) / u32::try_from(rate)?);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sent = Vec::new();
    for _ in 0..jobs {
        ticks.tick().await;
        let body = json!({"type": "bench", "executorId": "instant"});
        let request = client.post(&url).header("x-api-key", API_KEY).json(&body);
        sent.push(tokio::spawn(request.send()));
    }
    for answer in sent {
        let status = answer.await??.status();
        ensure!(status.is_success(), "an enqueue answered {status}");
    }
    Ok(())
}

async fn last_job(stage: &Stage) -> Result<i64> {
    let client = connect(&stage.database_url).await?;
    let row = client.query_one("select coalesce(max(id), 0) from millrace.job", &[]);
    Ok(row.await?.get(0))
}

async fn wait_for_end(stage: &Stage) -> Result<()> {
    let client = connect(&stage.database_url).await?;
    let waiting =
        "select (select count(*) from millrace.ready) + (select count(*) from millrace.lease)";
    let deadline = Instant::now() + PATIENCE;
    while client.query_one(waiting, &[]).await?.get::<_, i64>(0) > 0 {
        ensure!(
            Instant::now() < deadline,
            "jobs are left after {PATIENCE:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

async fn read(stage: &Stage, rate: u64, last: i64) -> Result<Line> {
    let client = connect(&stage.database_url).await?;
    let sql = "select extract(epoch from a.started_at - j.enqueued_at)::float8, extract(epoch from a.finished_at - j.enqueued_at)::float8
                 from millrace.job j join millrace.attempt a on a.job_id = j.id where j.id > $1";
    let rows = client.query(sql, &[&last]).await?;
    let column = |place: usize| {
        let mut times: Vec<_> = rows
            .iter()
            .map(|row| Duration::from_secs_f64(row.get::<_, f64>(place).max(0.0)))
            .collect();
        times.sort();
        times
    };
    let runs = "select count(distinct a.worker) from millrace.attempt a where a.job_id > $1";
    let runs = client.query_one(runs, &[&last]).await.context("the runs")?;
    Ok(Line {
        rate,
        claimed: column(0),
        ended: column(1),
        runs: runs.get(0),
    })
}
