//! The operation of `/rpc/{function}`, which speaks PostgREST's language: its refusals have other bodies than all others here.

use millrace_contract::problem::RpcRefusal;
use serde_json::{Map, Value, json};

use crate::schemas::{Schemas, shape};

/// The heading, and what is under it.
pub const TAG: (&str, &str) = (
    "Functions",
    "The database's functions, called as PostgREST's clients call them.",
);

const DESCRIPTION: &str = "\
Calls a function of the database with the body's fields as named arguments, in any order; those with a default may be left out. \
The body is as PostgREST 14 has it: a value as it is, a row as an object, a set as an array, and 204 for nothing.

Under the profile `service_api`: `fetch_next_task(worker_id, lease_seconds?, task_type?)`, `report_task_result(worker_id, job_id, \
lease_id, succeeded, error_code?, error_message?, base_delay_seconds?)`, `extend_lease(worker_id, job_id, lease_id, \
lease_seconds?)`. Under `public`, the default: `claim_next_job(worker_id, job_type?)`, `resolve_job(job_id, worker_id, success, error?)`, \
`enqueue_cron_tasks()`. Under `millrace_api`, for other applications of ours: its functions, which take the whole body.

Needs the scope `work`, for `enqueue_cron_tasks` the scope `tick`, and for `millrace_api` all of them, which a token of the \
role `worker` has not. Query parameters are refused, but for `select=*`.";

/// What each status of a refusal means.
const REFUSALS: [(u16, &str); 13] = [
    (
        400,
        "The body, an argument or a preference is not good, or the function says no: `hint` has its code.",
    ),
    (401, "There are no credentials, or they are not good."),
    (403, "The credentials do not allow this."),
    (
        404,
        "There is no function of this name and these arguments (`PGRST202`), or it knows no such thing.",
    ),
    (405, "Functions are called by `POST`."),
    (
        406,
        "The profile is unknown (`PGRST106`), the format is (`PGRST107`), or there isn't exactly one object (`PGRST116`).",
    ),
    (409, "It does not fit the state that things are in."),
    (
        413,
        "The body is larger than 1 MiB, or than 2 MiB under the profile `millrace_api`.",
    ),
    (429, "Too often; `Retry-After` says when to try again."),
    (
        500,
        "A fault of the server's. What it was is in its log only.",
    ),
    (502, "A server behind this one failed."),
    (
        503,
        "Not at this moment; `Retry-After` says when to try again.",
    ),
    (504, "It took too long, and may have been carried out."),
];

/// The paths of the operation, which has an `operationId` at each.
pub fn paths(schemas: &mut Schemas) -> [(&'static str, Value); 2] {
    [
        ("/rpc/{function}", "callFunction"),
        ("/rest/v1/rpc/{function}", "callFunctionAsSupabase"),
    ]
    .map(|(path, id)| (path, json!({ "post": operation(schemas, id) })))
}

fn operation(schemas: &mut Schemas, id: &str) -> Value {
    let profile = "The profile; `Accept-Profile` is looked at where this is absent.";
    json!({
        "operationId": id,
        "summary": "Call a function",
        "description": DESCRIPTION,
        "tags": [TAG.0],
        "security": [{ "bearer": [] }, { "apiKey": [] }, { "supabase": [] }],
        "parameters": [
            { "name": "function", "in": "path", "required": true, "description": "Its name.", "schema": { "type": "string" },
              "example": "fetch_next_task" },
            { "name": "Content-Profile", "in": "header", "required": false, "description": profile,
              "schema": { "type": "string", "enum": ["public", "service_api", "millrace_api"] }, "example": "service_api" },
            { "name": "select", "in": "query", "required": false, "description": "All of the result; clients add it.",
              "schema": { "type": "string", "enum": ["*"] } },
            { "name": "Prefer", "in": "header", "required": false, "description": "`count=exact`, `handling=strict` (RFC 7240).",
              "schema": { "type": "string" } },
        ],
        "requestBody": {
            "required": false,
            "content": { "application/json": {
                "schema": { "type": "object" },
                "examples": { "email": { "value": { "worker_id": "service:host:pid", "lease_seconds": 60, "task_type": "email" } } },
            } },
        },
        "responses": responses(schemas),
    })
}

fn responses(schemas: &mut Schemas) -> Map<String, Value> {
    let any = json!({ "schema": { "description": "What the function returns." } });
    let content =
        json!({ "application/json": any, "application/vnd.pgrst.object+json": any.clone() });
    let range = json!({ "description": "Which rows of how many.", "schema": { "type": "string" } });
    let mut responses = Map::new();
    responses.insert(
        "200".to_owned(),
        json!({ "description": "What the function returned.", "content": content, "headers": { "Content-Range": range } }),
    );
    responses.insert(
        "204".to_owned(),
        json!({ "description": "The function returns nothing." }),
    );
    let refusal = schemas.answer(shape::<RpcRefusal>());
    for (status, meaning) in REFUSALS {
        // The host's own refusals have the body of the other routes.
        let schema = match status {
            502..=504 => {
                json!({ "anyOf": [refusal, { "$ref": "#/components/schemas/Problem" }] })
            }
            _ => refusal.clone(),
        };
        let response = json!({ "description": meaning, "content": { "application/json": { "schema": schema } } });
        responses.insert(status.to_string(), response);
    }
    responses
}
