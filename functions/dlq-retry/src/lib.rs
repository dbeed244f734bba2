//! `POST /functions/v1/dlq-retry`: makes a new job of a dead letter, or of many.

use millrace_contract::dead_letter::Retry;
use millrace_kit::auth::Scope;
use millrace_kit::{Answer, Problem, Reply, cors, database, parse, request, variable, wake};
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// Serves the component's one route, to browsers too.
#[http_service]
async fn handle(request: Request) -> Reply {
    cors::edge(request, retry, "POST").await
}

async fn retry(request: Request) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    let caller = variable::caller(&head.headers, Scope::Operate).await?;

    let body = request::json_body(&head.headers, body).await?;
    let retry: Retry = parse::object(&body)?;

    let answer = database::call(&caller, "collab_dlq_retry", &retry).await?;
    wake::channels();
    Ok(answer)
}
