//! `POST /api/collab/task.result`: takes the outcome of one leased job, or of up to 100.

use millrace_contract::outcome::{Outcome, Outcomes};
use millrace_kit::auth::Scope;
use millrace_kit::parse::OneOrMany;
use millrace_kit::{Answer, Problem, Reply, database, parse, reply, request, variable};
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// Serves the component's one route.
#[http_service]
async fn handle(request: Request) -> Reply {
    reply(result(request).await)
}

async fn result(request: Request) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    request::only(&head.method, "POST")?;
    let caller = variable::caller(&head.headers, Scope::Work).await?;

    let body = request::json_body(&head.headers, body).await?;
    let result: OneOrMany<Outcome, Outcomes> = parse::one_or_many(&body, "results")?;
    if let OneOrMany::Many(outcomes) = &result {
        outcomes.are_distinct()?;
    }

    database::call(&caller, "collab_result", &result).await
}
