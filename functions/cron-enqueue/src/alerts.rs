//! Alerts: the database says what is to be told, as jobs of the queue `alerts`; this is the queue's worker, which takes them to the
//! webhook. What becomes of one that the webhook does not take is for the queue to decide.

use std::time::{Duration, Instant};

use futures::future::join_all;
use millrace_contract::round::Alerts;
use millrace_kit::Problem;
use millrace_kit::auth::Caller;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::call;
use crate::config;
use crate::message::Message;
use crate::webhook::{Outcome, Webhook};

/// The queue of the messages, and their type.
const QUEUE: &str = "alerts";
const TYPE: &str = "alert";

/// How many messages are on their way at once.
const BATCH: u32 = 10;

/// Until when in a round messages are sent: one takes up to 10 s, and hosts give a request 30 s.
const LATEST: Duration = Duration::from_secs(14);

/// How long a message is this round's; another may send it after that.
const LEASE_SECONDS: u32 = 60;

#[derive(Deserialize)]
struct Raised {
    opened: u32,
    resolved: u32,
    told: u32,
    ts: Box<str>,
}

/// Raises alerts and delivers what is to be told; answers also with the database's time.
///
/// Without a webhook nothing is told, but alerts open and end all the same. With one that is configured wrongly they are told, and
/// delivered once that is put right.
///
/// # Errors
/// 500 `misconfigured` if the webhook is; else those of the database.
pub async fn round(caller: &Caller, begin: Instant) -> Result<(Alerts, Box<str>), Problem> {
    let webhook = config::webhook().await;
    let is_wanted = !matches!(webhook, Ok(None));
    let raised: Raised = call(caller, "raise_alerts", &Tell { tell: is_wanted }).await?;
    let mut alerts = Alerts {
        opened: raised.opened,
        resolved: raised.resolved,
        told: raised.told,
        delivered: 0,
        failed: 0,
    };
    if let Some(webhook) = webhook? {
        deliver(caller, &webhook, begin, &mut alerts).await?;
    }
    Ok((alerts, raised.ts))
}

#[derive(Serialize)]
struct Tell {
    tell: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Claim {
    executor_id: &'static str,
    worker_id: &'static str,
    r#type: &'static str,
    limit: u32,
    lease_seconds: u32,
}

#[derive(Deserialize)]
struct Claimed {
    jobs: Vec<Job>,
}

#[derive(Deserialize)]
struct Job {
    id: Box<str>,
    lease_id: i64,
    payload: Box<RawValue>,
}

#[derive(Serialize)]
struct Reports {
    results: Vec<Report>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    job_id: Box<str>,
    lease_id: i64,
    worker_id: &'static str,
    r#type: &'static str,
    ok: bool,
    #[serde(flatten)]
    failure: Option<Failure>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    error_code: &'static str,
    error: String,
    retry_after_seconds: Option<u32>,
    permanent: bool,
}

/// Takes messages from the queue until there are none, the webhook fails, or it is too late to begin with more.
async fn deliver(
    caller: &Caller,
    webhook: &Webhook,
    begin: Instant,
    alerts: &mut Alerts,
) -> Result<(), Problem> {
    let claim = Claim {
        executor_id: QUEUE,
        worker_id: "cron-enqueue",
        r#type: TYPE,
        limit: BATCH,
        lease_seconds: LEASE_SECONDS,
    };
    while alerts.failed == 0 && begin.elapsed() < LATEST {
        let Claimed { jobs } = call(caller, "collab_claim", &claim).await?;
        if jobs.is_empty() {
            break;
        }
        let outcomes = join_all(jobs.iter().map(|job| send(webhook, job))).await;
        let denied = outcomes
            .iter()
            .any(|outcome| matches!(outcome, Outcome::Denied));
        let results: Vec<Report> = jobs
            .into_iter()
            .zip(outcomes)
            .map(|(job, outcome)| report(job, outcome))
            .collect();
        for result in &results {
            match result.ok {
                true => alerts.delivered += 1,
                false => alerts.failed += 1,
            }
        }
        // What came too late, or of a job that somebody has cancelled, is no concern of ours.
        let _: Value = call(caller, "collab_result", &Reports { results }).await?;
        if denied {
            return Err(config::denied());
        }
    }
    Ok(())
}

async fn send(webhook: &Webhook, job: &Job) -> Outcome {
    match serde_json::from_str::<Message>(job.payload.get()) {
        Ok(message) => webhook.send(&message).await,
        Err(_) => Outcome::Refused("the job is no alert".to_owned()),
    }
}

fn report(job: Job, outcome: Outcome) -> Report {
    let failed = |error_code, error, retry_after_seconds, permanent| {
        Some(Failure {
            error_code,
            error,
            retry_after_seconds,
            permanent,
        })
    };
    let failure = match outcome {
        Outcome::Delivered => None,
        Outcome::Denied => failed(
            "webhook_denied",
            "alert_webhook_host does not allow it".to_owned(),
            None,
            false,
        ),
        Outcome::Again(error, after) => failed("webhook_failed", error, after, false),
        Outcome::Refused(error) => failed("webhook_refused", error, None, true),
    };
    Report {
        job_id: job.id,
        lease_id: job.lease_id,
        worker_id: "cron-enqueue",
        r#type: TYPE,
        ok: failure.is_none(),
        failure,
    }
}
