//! /graphql: tasks and jobs as a GraphQL schema, with an explorer page and a subscription.

use millrace_kit::{Problem, Reply, reply};
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// Serves the component's routes.
#[http_service]
async fn handle(_: Request) -> Reply {
    reply(Err(Problem::not_found()))
}
