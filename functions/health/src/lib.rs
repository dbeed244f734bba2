//! `GET /health`, `/health/live` and `/health/ready`, below `/api` too, and `GET /api/collab/health`: whether this works. Anybody
//! may ask, so nothing here costs more than one cheap statement, or tells of jobs and workers more than how many there are.

mod figures;
mod kept;
mod ready;

use http::Method;
use millrace_contract::health::Live;
use millrace_kit::auth::Caller;
use millrace_kit::database::Nothing;
use millrace_kit::{Answer, Problem, Reply, database, gateway, reply};
use serde::Serialize;
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// Serves the component's routes.
#[http_service]
async fn handle(request: Request) -> Reply {
    // A host may match a route with or without a slash at its end.
    let path = request.uri().path().trim_end_matches('/');
    let only_get = only_get(request.method());
    if path == "/api/collab/health" {
        return reply(health(only_get).await);
    }
    let outcome = match (path.strip_prefix("/api").unwrap_or(path), only_get) {
        ("/health" | "/health/live" | "/health/ready", Err(problem)) => Err(problem),
        ("/health", _) => return figures::reply().await,
        ("/health/live", _) => live(),
        ("/health/ready", _) => return ready::reply().await,
        _ => Err(Problem::not_found()),
    };
    gateway::reply(outcome)
}

/// HEAD, which probes like to use, is GET whose body the host leaves out.
fn only_get(method: &Method) -> Result<(), Problem> {
    match *method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Problem::method_not_allowed("GET, HEAD")),
    }
}

async fn health(only_get: Result<(), Problem>) -> Result<Answer, Problem> {
    only_get?;
    database::call(&Caller::anyone(), "collab_health", &Nothing {}).await
}

/// Whoever asks this has reached the functions, which is all that it says: a process that lives is not restarted because
/// its database is away.
fn live() -> Result<Answer, Problem> {
    json(&Live { status: "ok" }).map(Answer::json)
}

fn json(value: &impl Serialize) -> Result<String, Problem> {
    serde_json::to_string(value).map_err(|_| Problem::internal())
}
