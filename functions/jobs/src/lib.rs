//! `GET /api/collab/job/:id`, `/job/:id/summary`, `/events/by-job/:id`, `/artifacts/by-job/:id` and `/jobs/recent`: what
//! became of the jobs.

use millrace_contract::job::{NoParameters, OfJob, Part, Recent};
use millrace_kit::auth::Scope;
use millrace_kit::field::JobId;
use millrace_kit::{Answer, Problem, Reply, database, parse, reply, request, variable};
use serde::Serialize;
use serde::de::DeserializeOwned;
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// Serves the component's five routes.
#[http_service]
async fn handle(request: Request) -> Reply {
    let path = request.uri().path().to_owned();
    let between = |prefix, suffix| request::segment(&path, prefix, suffix);
    reply(if path.trim_end_matches('/') == "/api/collab/jobs/recent" {
        recent(request).await
    } else if let Some(id) = between("/api/collab/job/", "/summary") {
        of_job::<NoParameters>(request, id, "collab_job_summary").await
    } else if let Some(id) = between("/api/collab/job/", "") {
        of_job::<NoParameters>(request, id, "collab_job").await
    } else if let Some(id) = between("/api/collab/events/by-job/", "") {
        of_job::<Part>(request, id, "collab_job_events").await
    } else if let Some(id) = between("/api/collab/artifacts/by-job/", "") {
        of_job::<Part>(request, id, "collab_job_artifacts").await
    } else {
        Err(Problem::not_found())
    })
}

async fn recent(request: Request) -> Result<Answer, Problem> {
    request::only(request.method(), "GET")?;
    let caller = variable::caller(request.headers(), Scope::Read).await?;

    let recent: Recent = parse::query(request.uri().query())?;

    database::call(&caller, "collab_recent", &recent).await
}

/// What `function` says of the job whose id the path has.
async fn of_job<Query: DeserializeOwned + Serialize>(
    request: Request,
    id: &str,
    function: &'static str,
) -> Result<Answer, Problem> {
    request::only(request.method(), "GET")?;
    let caller = variable::caller(request.headers(), Scope::Read).await?;

    let job_id = JobId::try_from(id.to_owned()).map_err(|why| Problem::invalid("jobId", why))?;
    let query: Query = parse::query(request.uri().query())?;

    database::call(&caller, function, &OfJob { job_id, query }).await
}
