//! `GET /functions/v1/dlq-list`: the jobs that will not be tried again, newest first.

use millrace_contract::dead_letter::Listing;
use millrace_kit::auth::Scope;
use millrace_kit::{Answer, Problem, Reply, cors, database, parse, variable};
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// Serves the component's one route, to browsers too.
#[http_service]
async fn handle(request: Request) -> Reply {
    cors::edge(request, list, "GET").await
}

async fn list(request: Request) -> Result<Answer, Problem> {
    let caller = variable::caller(request.headers(), Scope::Read).await?;

    let listing: Listing = parse::query(request.uri().query())?;

    database::call(&caller, "collab_dlq_list", &listing).await
}
