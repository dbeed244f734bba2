//! `GET /api/collab/metrics/overview`: how many jobs there are; and `GET /metrics`: what a Prometheus server scrapes.

mod channels;
mod exposition;

use millrace_contract::job::NoParameters;
use millrace_contract::metrics::{ChannelMetrics, Metrics};
use millrace_kit::auth::Scope;
use millrace_kit::{Answer, Problem, Reply, database, parse, reply, request, variable};
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// Serves the component's two routes.
#[http_service]
async fn handle(request: Request) -> Reply {
    let outcome = match request.uri().path().trim_end_matches('/') {
        "/api/collab/metrics/overview" => overview(request).await,
        "/metrics" => metrics(request).await,
        _ => Err(Problem::not_found()),
    };
    reply(outcome)
}

async fn overview(request: Request) -> Result<Answer, Problem> {
    request::only(request.method(), "GET")?;
    let caller = variable::caller(request.headers(), Scope::Read).await?;

    let NoParameters {} = parse::query(request.uri().query())?;

    database::call(&caller, "collab_overview", &database::Nothing {}).await
}

/// Parameters are ignored here: a scraper may be set up to send some.
async fn metrics(request: Request) -> Result<Answer, Problem> {
    request::only(request.method(), "GET")?;
    let caller = variable::caller(request.headers(), Scope::Metrics).await?;

    let measured = database::call_text(&caller, "collab_metrics", &database::Nothing {}).await?;

    let metrics: Metrics = serde_json::from_str(&measured).map_err(|_| Problem::internal())?;
    let channels: ChannelMetrics =
        serde_json::from_str(&measured).map_err(|_| Problem::internal())?;
    Ok(Answer::of(
        exposition::CONTENT_TYPE,
        exposition::render(&metrics) + &channels::render(&channels),
    ))
}
