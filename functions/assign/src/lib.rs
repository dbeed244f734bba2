//! `POST /api/collab/task.assign`: puts one job, or up to 100, in the queue.

use millrace_contract::task::{Task, Tasks};
use millrace_kit::auth::Scope;
use millrace_kit::parse::OneOrMany;
use millrace_kit::{
    Answer, Problem, Reply, database, parse, reply, request, trace, variable, wake,
};
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// Serves the component's one route.
#[http_service]
async fn handle(request: Request) -> Reply {
    reply(assign(request).await)
}

async fn assign(request: Request) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    request::only(&head.method, "POST")?;
    let caller = variable::caller(&head.headers, Scope::Enqueue).await?;

    let body = request::json_body(&head.headers, body).await?;
    let mut assign: OneOrMany<Task, Tasks> = parse::one_or_many(&body, "tasks")?;
    match (&mut assign, trace::of(&head.headers)) {
        (OneOrMany::One(task), Some(trace)) => task.join(&trace),
        (OneOrMany::Many(tasks), Some(trace)) => tasks.join(&trace),
        (_, None) => {}
    }

    let answer = database::call(&caller, "collab_assign", &assign).await?;
    wake::channels();
    Ok(answer)
}
