//! `/api/tasks`: create, list, get, retry and cancel tasks, read their logs, and count them.

use http::StatusCode;
use millrace_contract::gateway_task::{LogPart, NewTask, NoFields, OfTask, RetryTask, TaskFilter};
use millrace_contract::job::NoParameters;
use millrace_kit::auth::Scope;
use millrace_kit::{
    Answer, Problem, Reply, database, gateway, parse, request, trace, variable, wake,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// Serves the component's routes.
#[http_service]
async fn handle(request: Request) -> Reply {
    let path = request.uri().path().to_owned();
    let task = |suffix| request::segment(&path, "/api/tasks/", suffix);
    gateway::reply(match path.trim_end_matches('/') {
        "/api/tasks" => match request.method().as_str() {
            "GET" => list(request).await,
            "POST" => create(request).await,
            _ => Err(Problem::method_not_allowed("GET, POST")),
        },
        "/api/tasks/stats/summary" => stats(request).await,
        _ => {
            if let Some(id) = task("") {
                read::<NoParameters>(request, id, "task_get").await
            } else if let Some(id) = task("/logs") {
                read::<LogPart>(request, id, "task_logs").await
            } else if let Some(id) = task("/retry") {
                let retried = change::<RetryTask>(request, id, "task_retry").await;
                retried.inspect(|_| wake::channels())
            } else if let Some(id) = task("/cancel") {
                change::<NoFields>(request, id, "task_cancel").await
            } else {
                Err(Problem::not_found())
            }
        }
    })
}

async fn create(request: Request) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    let caller = variable::caller(&head.headers, Scope::Enqueue).await?;

    let NoParameters {} = parse::query(head.uri.query())?;
    let body = request::json_body(&head.headers, body).await?;
    let mut task: NewTask = parse::object(&body)?;
    task.default_queue(gateway::tasks_queue().await?);
    task.join(trace::of(&head.headers));

    let made = database::call_text(&caller, "task_create", &task).await?;
    wake::channels();
    created(&made)
}

/// 201 with the task, or 200 where its idempotency key stood for one that was there already.
fn created(made: &str) -> Result<Answer, Problem> {
    #[derive(Deserialize)]
    struct Made<'a> {
        #[serde(borrow)]
        task: &'a RawValue,
        created: bool,
    }
    let made: Made = serde_json::from_str(made).map_err(|_| Problem::internal())?;
    let status = match made.created {
        true => StatusCode::CREATED,
        false => StatusCode::OK,
    };
    Ok(Answer::json(made.task.get().to_owned()).with_status(status))
}

async fn list(request: Request) -> Result<Answer, Problem> {
    let caller = variable::caller(request.headers(), Scope::Read).await?;

    let filter: TaskFilter = parse::query(request.uri().query())?;

    database::call(&caller, "task_list", &filter).await
}

async fn stats(request: Request) -> Result<Answer, Problem> {
    request::only(request.method(), "GET")?;
    let caller = variable::caller(request.headers(), Scope::Read).await?;

    let none: NoParameters = parse::query(request.uri().query())?;

    database::call(&caller, "task_stats", &none).await
}

/// What `function` says of the task whose id the path has.
async fn read<Query: DeserializeOwned + Serialize>(
    request: Request,
    id: &str,
    function: &'static str,
) -> Result<Answer, Problem> {
    request::only(request.method(), "GET")?;
    let caller = variable::caller(request.headers(), Scope::Read).await?;

    let task = OfTask::<Query> {
        task_id: id.to_owned(),
        request: parse::query(request.uri().query())?,
    };

    database::call(&caller, function, &task).await
}

/// Has `function` change the task whose id the path has; answers the task with 201, as the contract has it.
async fn change<Body: DeserializeOwned + Serialize>(
    request: Request,
    id: &str,
    function: &'static str,
) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    request::only(&head.method, "POST")?;
    let caller = variable::caller(&head.headers, Scope::Operate).await?;

    let NoParameters {} = parse::query(head.uri.query())?;
    let body = request::optional_json_body(&head.headers, body).await?;
    let task = OfTask::<Body> {
        task_id: id.to_owned(),
        request: parse::object(&body)?,
    };

    let answer = database::call(&caller, function, &task).await?;
    Ok(answer.with_status(StatusCode::CREATED))
}
