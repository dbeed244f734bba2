//! The figures of the queues, the same for everybody. Their statement costs the database some 15 ms for 300 queues. Their `timestamp`
//! says how old they are.

use millrace_kit::auth::Caller;
use millrace_kit::{Answer, Problem, Reply, database, gateway};
use serde::Serialize;

use crate::kept::Kept;

static KEPT: Kept = Kept::new();

/// What `millrace_api.health_figures` is asked.
#[derive(Serialize)]
struct Request {
    version: &'static str,
}

/// The figures as they are, or were a moment ago.
pub async fn reply() -> Reply {
    KEPT.reply(async || gateway::reply(ask().await)).await
}

async fn ask() -> Result<Answer, Problem> {
    let version = env!("CARGO_PKG_VERSION");
    database::call(&Caller::anyone(), "health_figures", &Request { version }).await
}
