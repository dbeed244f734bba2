//! The server itself: its health, its metrics and its documentation.

use std::collections::BTreeMap;

use millrace_contract::health::{Figures, Health, Live, Readiness};
use millrace_contract::job::NoParameters;
use millrace_contract::metrics::Overview;
use millrace_contract::round::Round;
use serde_json::Value;

use super::SERVER;
use crate::operation::{Operation, Scope};

pub fn operations() -> Vec<Operation> {
    vec![
        health(),
        figures("/health", "getQueueHealth"),
        figures("/api/health", "getApiQueueHealth"),
        live("/health/live", "getLiveness"),
        live("/api/health/live", "getApiLiveness"),
        ready("/health/ready", "getReadiness"),
        ready("/api/health/ready", "getApiReadiness"),
        overview(),
        metrics(),
        cron_enqueue(),
        docs_json(),
        docs(),
    ]
}

fn health() -> Operation {
    Operation::get(
        "/api/collab/health",
        "getHealth",
        "Whether the server and its database answer",
    )
    .tag(SERVER)
    .database()
    .answers::<Health>("They do.")
}

fn figures(path: &'static str, id: &'static str) -> Operation {
    Operation::get(path, id, "The figures of the queues")
        .tag(SERVER)
        .description("Open to anybody, so it tells of jobs and workers only how many there are; Millrace's own queues are left out.")
        .database()
        .gateway()
        .answers::<Figures>("The database answers, and these are its queues.")
}

fn live(path: &'static str, id: &'static str) -> Operation {
    Operation::get(path, id, "Whether the functions are served")
        .tag(SERVER)
        .description("Asks nobody: a server whose database is away lives.")
        .gateway()
        .answers::<Live>("They are.")
}

fn ready(path: &'static str, id: &'static str) -> Operation {
    Operation::get(path, id, "Whether requests can be served")
        .tag(SERVER)
        .description(
            "They can if the database answers within three seconds, takes writes, and has every migration that the functions were built with. \
             Otherwise the answer is 503, with the same body, and `checks` says which of these fails.",
        )
        .database()
        .gateway()
        .answers::<Readiness>("They can.")
        .tells::<Readiness>(503)
}

fn overview() -> Operation {
    Operation::get(
        "/api/collab/metrics/overview",
        "getOverview",
        "How many jobs there are",
    )
    .tag(SERVER)
    .description("Counted as the jobs move, so it costs the same at any number of them.")
    .scope(Scope::Read)
    .database()
    .query::<NoParameters>()
    .answers::<Overview>("The counts and the newest job.")
}

fn metrics() -> Operation {
    Operation::get("/metrics", "getMetrics", "Metrics for Prometheus")
        .tag(SERVER)
        .description("In the text exposition format 0.0.4, queue by queue. A scraper may have a stored API key of its own.")
        .scope(Scope::Metrics)
        .database()
        .answers_text("text/plain", "The metrics.")
}

fn cron_enqueue() -> Operation {
    Operation::post(
        "/functions/v1/cron-enqueue",
        "runRound",
        "One round of what is to be done regularly",
    )
    .tag(SERVER)
    .description(
        "Enqueues what schedules have due, ends expired leases, keeps the partitions and the history, and raises and delivers alerts. \
         For any scheduler to call every minute or more often: twice, late, or from many places at once does no harm. A body is not read. \
         The parts are done independently of each other; where one fails, `details` names it.",
    )
    .scope(Scope::Tick)
    .database()
    .answers::<Round>("What the round did.")
    .refuses(&[(500, &["round_incomplete"]), (503, &["round_incomplete"])])
}

fn docs_json() -> Operation {
    Operation::get("/docs.json", "getDocument", "This document")
        .tag(SERVER)
        .answers::<BTreeMap<String, Value>>("This document.")
}

fn docs() -> Operation {
    Operation::get(
        "/docs",
        "getDocumentation",
        "A page to browse this document",
    )
    .tag(SERVER)
    .answers_text("text/html", "The page.")
}
