//! What a run asks of the database (`sql/V26__channels.sql`).

use millrace_kit::auth::Caller;
use millrace_kit::database;
use millrace_kit::{Problem, log};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::batch::Outcome;

/// A job under a lease.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Leased {
    pub id: String,
    pub lease_id: i64,
    #[serde(rename = "type")]
    pub kind: String,
    pub attempt: u32,
    pub max_attempts: u32,
    pub payload: Box<RawValue>,
    pub traceparent: Option<String>,
    pub resumed: bool,
}

/// What a claim came to.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claimed {
    pub jobs: Vec<Leased>,
    /// The one job is to be run with no other beside it.
    pub alone: bool,
    /// When the next one is due, where there were fewer than asked for; 0 for one that is due and was not to be had.
    pub due_in_ms: Option<u64>,
}

/// What a report came to.
#[derive(Debug, Deserialize)]
pub struct Reported {
    pub refused: Vec<Refused>,
}

/// An outcome that came too late.
#[derive(Debug, Deserialize)]
pub struct Refused {
    pub id: String,
    pub code: String,
}

/// What an extension came to.
#[derive(Debug, Deserialize)]
pub struct Extended {
    /// The jobs whose leases somebody had locked, so that they were not extended.
    pub busy: Vec<String>,
}

/// A lease by its names.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LeaseName {
    pub id: String,
    pub lease_id: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Claim<'a> {
    queue: &'a str,
    worker_id: &'a str,
    limit: usize,
    lease_seconds: u64,
    detail: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'a> {
    worker_id: &'a str,
    outcomes: &'a [Outcome],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Extend<'a> {
    worker_id: &'a str,
    lease_seconds: u64,
    leases: &'a [LeaseName],
}

#[derive(Serialize)]
struct Seen<'a> {
    queue: &'a str,
    state: &'a str,
    detail: &'a str,
}

/// Takes leases on up to `limit` jobs. `detail` is what the handler says of itself.
pub async fn claim(
    queue: &str,
    worker_id: &str,
    limit: usize,
    lease_seconds: u64,
    detail: &str,
) -> Result<Claimed, Problem> {
    let request = Claim {
        queue,
        worker_id,
        limit,
        lease_seconds,
        detail,
    };
    call("channel_claim", &request).await
}

/// Reports outcomes, each of another job.
pub async fn report(worker_id: &str, outcomes: &[Outcome]) -> Result<Reported, Problem> {
    let request = Report {
        worker_id,
        outcomes,
    };
    call("channel_report", &request).await
}

/// Has leases end so many seconds from now. One that is lost stays lost: the report about it will be refused.
pub async fn extend(
    worker_id: &str,
    leases: &[LeaseName],
    lease_seconds: u64,
) -> Result<Extended, Problem> {
    let request = Extend {
        worker_id,
        lease_seconds,
        leases,
    };
    call("channel_extend", &request).await
}

/// Notes what the handler says of itself where no claim does.
pub async fn seen(queue: &str, state: &str, detail: &str) -> Result<(), Problem> {
    let request = Seen {
        queue,
        state,
        detail,
    };
    database::call_text(&Caller::anyone(), "channel_seen", &request)
        .await
        .map(drop)
}

async fn call<T: DeserializeOwned>(
    function: &'static str,
    request: &impl Serialize,
) -> Result<T, Problem> {
    let text = database::call_text(&Caller::anyone(), function, request).await?;
    serde_json::from_str(&text).map_err(|error| {
        // Its kind and place; what was read is not in it.
        log::line(format_args!(
            "{function} answered something else: {:?} at {}:{}",
            error.classify(),
            error.line(),
            error.column()
        ));
        Problem::internal()
    })
}
