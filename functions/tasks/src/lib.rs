//! /api/tasks: create, list, get, retry, cancel, logs and stats of tasks.

use millrace_kit::{Problem, Reply, reply};
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// Serves the component's routes.
#[http_service]
async fn handle(_: Request) -> Reply {
    reply(Err(Problem::not_found()))
}
