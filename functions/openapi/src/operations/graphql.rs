//! `/graphql`.

use millrace_contract::graphql::{GraphqlParameters, GraphqlRequest, GraphqlResult};
use serde_json::json;

use super::GRAPHQL;
use crate::operation::{Operation, Scope};

const RESPONSE: &str = "application/graphql-response+json";

pub fn operations() -> Vec<Operation> {
    vec![post(), get(), definition()]
}

fn graphql(operation: Operation) -> Operation {
    operation
        .tag(GRAPHQL)
        .scope(Scope::Read)
        .database()
        .graphql()
        .answers::<GraphqlResult>(
            "The result. Where nothing was executed it is so with `Accept: application/json` only.",
        )
        .answers_as::<GraphqlResult>(RESPONSE)
        .answers_text(
            "text/event-stream",
            "The results of a subscription, as they come.",
        )
        .refuses(&[(400, &["invalid_request"]), (406, &["not_acceptable"])])
}

fn post() -> Operation {
    graphql(Operation::post("/graphql", "graphql", "A query, a mutation or a subscription"))
        .description(
            "A query needs the scope `read`, `createTask` needs `enqueue`, and the other mutations `operate`; a field that is not allowed is an error of that field. \
             A subscription is answered as server-sent events (`Accept: text/event-stream`), as the GraphQL-SSE protocol has them.",
        )
        .body::<GraphqlRequest>()
        .example("tasks", json!({ "query": "{ tasks { tasks { id type status createdAt } total } }" }))
        .example(
            "create",
            json!({ "query": "mutation ($input: CreateTaskInput!) { createTask(input: $input) { id type status } }",
                    "variables": { "input": { "type": "email", "payload": {}, "priority": "NORMAL" } } }),
        )
}

fn get() -> Operation {
    graphql(Operation::get(
        "/graphql",
        "graphqlQuery",
        "A query or a subscription",
    ))
    .description("A browser (`Accept: text/html`) that brings no query gets a page to write some, if that is not switched off.")
    .refuses(&[(404, &["not_found"])])
    .query::<GraphqlParameters>()
    .with("query", "{ jobs { id name schedule status nextRun } }")
    .answers_text("text/html", "The page.")
}

fn definition() -> Operation {
    Operation::get(
        "/graphql/schema.graphql",
        "graphqlSchema",
        "The schema, in its own language",
    )
    .tag(GRAPHQL)
    .scope(Scope::Read)
    .database()
    .graphql()
    .answers_text("text/plain", "The schema.")
    .refuses(&[(404, &["not_found"])])
}
