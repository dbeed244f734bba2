//! `POST /api/collab/task.assign`: puts one job, or up to 100, in the queue.

mod task;

use millrace_kit::parse::OneOrMany;
use millrace_kit::{Answer, Problem, Reply, database, parse, reply, request, variable};
use spin_sdk::http::Request;
use spin_sdk::http_service;

use crate::task::{Task, Tasks};

/// Serves the component's one route.
#[http_service]
async fn handle(request: Request) -> Reply {
    reply(assign(request).await)
}

async fn assign(request: Request) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    request::only(&head.method, "POST")?;
    variable::role(&head.headers).await?.may_work()?;

    let body = request::json_body(&head.headers, body).await?;
    let assign: OneOrMany<Task, Tasks> = parse::one_or_many(&body, "tasks")?;

    database::call("collab_assign", &assign).await
}
