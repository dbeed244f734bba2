//! `POST /api/collab/task.claim`: leases the next job, or up to 100, to a worker.

use millrace_contract::claim::Claim;
use millrace_kit::auth::Scope;
use millrace_kit::{Answer, Problem, Reply, database, parse, reply, request, variable};
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// Serves the component's one route.
#[http_service]
async fn handle(request: Request) -> Reply {
    reply(claim(request).await)
}

async fn claim(request: Request) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    request::only(&head.method, "POST")?;
    let caller = variable::caller(&head.headers, Scope::Work).await?;

    let body = request::json_body(&head.headers, body).await?;
    let claim: Claim = parse::object(&body)?;

    database::call(&caller, "collab_claim", &claim).await
}
