//! `GET /api/collab/health`: says whether the database answers. Anybody may ask.

use millrace_kit::auth::Caller;
use millrace_kit::database::Nothing;
use millrace_kit::{Answer, Problem, Reply, database, reply, request};
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// Serves the component's one route.
#[http_service]
async fn handle(request: Request) -> Reply {
    reply(health(request).await)
}

async fn health(request: Request) -> Result<Answer, Problem> {
    request::only(request.method(), "GET")?;
    database::call(&Caller::anyone(), "collab_health", &Nothing {}).await
}
