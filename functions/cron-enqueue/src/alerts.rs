//! Alerts: the database says what is to be told, as jobs of the queue `millrace.alerts`; this is the queue's worker, which takes them to the
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

/// The name under which messages are claimed and reported on.
const WORKER: &str = "cron-enqueue";

/// How many messages are on their way at once.
const BATCH: u32 = 10;

/// Until when in a round the first messages are sent, and until when further ones: they take up to 10 s, and hosts give a request 30 s.
const LATEST_FIRST: Duration = Duration::from_secs(17);
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

/// Raises alerts and delivers what is to be told; answers also with the database's time. What was told by earlier rounds is delivered
/// even if this one can raise none.
///
/// Without a webhook nothing is told, but alerts open and end all the same. With one that is configured wrongly they are told, and
/// delivered once that is put right.
///
/// # Errors
/// 500 `misconfigured` if the webhook is; else those of the database.
pub async fn round(caller: &Caller, begin: Instant) -> Result<(Alerts, Box<str>), Problem> {
    let webhook = config::webhook().await;
    let is_wanted = !matches!(webhook, Ok(None));
    let raised: Result<Raised, Problem> =
        call(caller, "raise_alerts", &Tell { tell: is_wanted }).await;
    let delivered = match webhook {
        Ok(Some(webhook)) => deliver(caller, &webhook, begin).await,
        Ok(None) => Ok(Delivered::default()),
        Err(wrong) => Err(wrong),
    };
    let (raised, delivered) = (raised?, delivered?);
    let alerts = Alerts {
        opened: raised.opened,
        resolved: raised.resolved,
        told: raised.told,
        delivered: delivered.taken,
        failed: delivered.failed,
    };
    Ok((alerts, raised.ts))
}

#[derive(Serialize)]
struct Tell {
    tell: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Claim {
    worker_id: &'static str,
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
    /// What the queue waits if this attempt fails.
    backoff_seconds: u32,
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

/// How many messages the webhook took, and how many it did not.
#[derive(Default)]
struct Delivered {
    taken: u32,
    failed: u32,
}

/// Takes messages from the queue until there are none, the webhook fails, or it is too late to begin with more.
async fn deliver(caller: &Caller, webhook: &Webhook, begin: Instant) -> Result<Delivered, Problem> {
    let claim = Claim {
        worker_id: WORKER,
        limit: BATCH,
        lease_seconds: LEASE_SECONDS,
    };
    let mut delivered = Delivered::default();
    let mut latest = LATEST_FIRST;
    while delivered.failed == 0 && begin.elapsed() < latest {
        latest = LATEST;
        let Claimed { jobs } = call(caller, "claim_alerts", &claim).await?;
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
                true => delivered.taken += 1,
                false => delivered.failed += 1,
            }
        }
        // What came too late, or of a job that somebody has cancelled, is no concern of ours.
        let _: Value = call(caller, "collab_result", &Reports { results }).await?;
        if denied {
            return Err(config::denied());
        }
    }
    Ok(delivered)
}

async fn send(webhook: &Webhook, job: &Job) -> Outcome {
    match serde_json::from_str::<Message>(job.payload.get()) {
        Ok(message) => webhook.send(&message).await,
        Err(_) => Outcome::Refused("the job is no alert".to_owned()),
    }
}

/// A webhook may ask for a longer wait than the queue's, not for a shorter one: it would use up the attempts.
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
        Outcome::Again(error, after) => {
            let wait = after.map(|seconds| seconds.max(job.backoff_seconds));
            failed("webhook_failed", error, wait, false)
        }
        Outcome::Refused(error) => failed("webhook_refused", error, None, true),
    };
    Report {
        job_id: job.id,
        lease_id: job.lease_id,
        worker_id: WORKER,
        ok: failure.is_none(),
        failure,
    }
}
