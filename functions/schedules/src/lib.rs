//! `/api/jobs`: create, list, get, pause, resume and delete jobs, which are the core's schedules.

use http::StatusCode;
use millrace_contract::gateway_job::{JobPart, NewJob, OfSchedule};
use millrace_contract::gateway_task::NoFields;
use millrace_contract::job::NoParameters;
use millrace_kit::auth::Scope;
use millrace_kit::{Answer, Problem, Reply, database, gateway, parse, request, variable};
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// Serves the component's routes.
#[http_service]
async fn handle(request: Request) -> Reply {
    let path = request.uri().path().to_owned();
    let job = |suffix| request::segment(&path, "/api/jobs/", suffix);
    gateway::reply(if path.trim_end_matches('/') == "/api/jobs" {
        match request.method().as_str() {
            "GET" => list(request).await,
            "POST" => create(request).await,
            _ => Err(Problem::method_not_allowed("GET, POST")),
        }
    } else if let Some(id) = job("") {
        match request.method().as_str() {
            "GET" => of_job(request, id, Scope::Read, "schedule_get").await,
            "DELETE" => of_job(request, id, Scope::Operate, "schedule_delete").await,
            _ => Err(Problem::method_not_allowed("GET, DELETE")),
        }
    } else if let Some(id) = job("/pause") {
        change(request, id, "schedule_pause").await
    } else if let Some(id) = job("/resume") {
        change(request, id, "schedule_resume").await
    } else {
        Err(Problem::not_found())
    })
}

async fn create(request: Request) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    let caller = variable::caller(&head.headers, Scope::Operate).await?;

    let NoParameters {} = parse::query(head.uri.query())?;
    let body = request::json_body(&head.headers, body).await?;
    let mut job: NewJob = parse::object(&body)?;
    job.default_queue(gateway::tasks_queue().await?);

    let answer = database::call(&caller, "schedule_create", &job).await?;
    Ok(answer.with_status(StatusCode::CREATED))
}

async fn list(request: Request) -> Result<Answer, Problem> {
    let caller = variable::caller(request.headers(), Scope::Read).await?;

    let part: JobPart = parse::query(request.uri().query())?;

    database::call(&caller, "schedule_list", &part).await
}

/// What `function` says of the job whose id the path has, or did to it. A body is not read.
async fn of_job(
    request: Request,
    id: &str,
    scope: Scope,
    function: &'static str,
) -> Result<Answer, Problem> {
    let caller = variable::caller(request.headers(), scope).await?;

    let NoParameters {} = parse::query(request.uri().query())?;
    let job_id = id.to_owned();

    database::call(&caller, function, &OfSchedule { job_id }).await
}

/// Has `function` change the job whose id the path has; answers the job with 201, as the contract has it.
async fn change(request: Request, id: &str, function: &'static str) -> Result<Answer, Problem> {
    let (head, body) = request.into_parts();
    request::only(&head.method, "POST")?;
    let caller = variable::caller(&head.headers, Scope::Operate).await?;

    let NoParameters {} = parse::query(head.uri.query())?;
    let body = request::optional_json_body(&head.headers, body).await?;
    let NoFields {} = parse::object(&body)?;
    let job_id = id.to_owned();

    let answer = database::call(&caller, function, &OfSchedule { job_id }).await?;
    Ok(answer.with_status(StatusCode::CREATED))
}
