//! Running a channel, and what became of its jobs.

use reqwest::Method;
use serde_json::Value;

use crate::app::App;
use crate::database::Database;
use crate::queue;

/// Where a job stands after its last attempt.
#[derive(Debug, PartialEq)]
pub struct Fate {
    /// queued, running, succeeded, cancelled or dead.
    pub state: String,
    /// What the last attempt came to: succeeded, failed, postponed, lease_expired.
    pub outcome: String,
    /// Its error code and message, empty for none.
    pub code: String,
    pub message: String,
    /// For a queued one: in how many seconds after that attempt it is due.
    pub delay: Option<f64>,
    /// How many attempts there were that count.
    pub attempts: i16,
    /// What the handler's receipt left.
    pub result: Value,
}

/// Runs a channel and waits for the run to be over; its summary.
pub async fn run(app: &App, channel: &str) -> Value {
    let path = format!("/channels/{channel}");
    app.api
        .send(app.api.request(Method::POST, &path))
        .await
        .ok()
}

/// Makes retries of a queue come after exactly this many seconds, so that a run does not meet its own.
pub async fn retry_after(database: &Database, queue: &str, seconds: u32) {
    let sql = format!(
        "select millrace.configure_queue('{queue}', backoff => 'fixed', backoff_base => '{seconds} seconds', backoff_jitter => false)"
    );
    database.run(&sql).await;
}

/// What became of a job that has been tried.
pub async fn fate(database: &Database, job_id: i64) -> Fate {
    let sql = "select a.outcome, coalesce(a.error_code, ''), coalesce(a.error, ''), extract(epoch from r.run_at - a.finished_at)::float8,
                      coalesce(r.attempts, d.attempts, f.attempts), coalesce(f.result, 'null')
                 from millrace.attempt a
                 left join millrace.ready r on r.job_id = a.job_id
                 left join millrace.dead_letter d on d.job_id = a.job_id
                 left join millrace.finished f on f.job_id = a.job_id
                where a.job_id = $1 order by a.lease_id desc limit 1";
    let row = database.one(sql, &[&job_id]).await;
    Fate {
        state: queue::state(database.client(), job_id)
            .await
            .expect("the job"),
        outcome: row.get(0),
        code: row.get(1),
        message: row.get(2),
        delay: row.get(3),
        attempts: row.get(4),
        result: row.get(5),
    }
}
