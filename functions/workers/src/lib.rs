//! `POST /api/collab/workers/heartbeat` and `GET /api/collab/workers/active`: who is there to work.

use millrace_contract::worker::{Heartbeat, Selection};
use millrace_kit::auth::Scope;
use millrace_kit::{Answer, Problem, Reply, database, parse, reply, request, variable};
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// Serves the component's two routes.
#[http_service]
async fn handle(request: Request) -> Reply {
    // A host may match a route with or without a slash at its end.
    let outcome = match request.uri().path().trim_end_matches('/') {
        "/api/collab/workers/heartbeat" => heartbeat(request).await,
        "/api/collab/workers/active" => active(request).await,
        _ => Err(Problem::not_found()),
    };
    reply(outcome)
}

async fn heartbeat(request: Request) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    request::only(&head.method, "POST")?;
    let caller = variable::caller(&head.headers, Scope::Work).await?;

    let body = request::json_body(&head.headers, body).await?;
    let heartbeat: Heartbeat = parse::object(&body)?;
    heartbeat.is_consistent()?;

    database::call(&caller, "collab_heartbeat", &heartbeat).await
}

async fn active(request: Request) -> Result<Answer, Problem> {
    request::only(request.method(), "GET")?;
    let caller = variable::caller(request.headers(), Scope::Read).await?;

    let selection: Selection = parse::query(request.uri().query())?;

    database::call(&caller, "collab_workers_active", &selection).await
}
