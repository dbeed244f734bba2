//! The document as a whole.

use millrace_contract::problem::{GatewayProblem, Problem};
use serde_json::{Map, Value, json};

use crate::schemas::{Schemas, shape};
use crate::{operations, rpc};

const DESCRIPTION: &str = "\
A job queue that lives in Postgres. A client puts jobs in a queue (`task.assign`), workers lease them (`task.claim`) and report \
what became of them (`task.result`); what fails is tried again later, and in the end becomes a dead letter that a person can replay.

Times are RFC 3339 with an offset and come from the database's clock. In requests `null` counts as an absent field (`dlq-retry` refuses it), and unknown \
fields are refused. A refusal has the body `{error, code, details?, hint?}`; `code` is stable. That of `/rpc` is PostgREST's, and that of `/api/tasks`, `/api/jobs` and \
`/health` `{statusCode, message, error}`.";

/// The OpenAPI document.
///
/// # Panics
/// If two types have one name, or two operations one method and path: a mistake in the table.
pub fn document() -> Value {
    let mut schemas = Schemas::new();
    schemas.answer(shape::<Problem>());
    schemas.answer(shape::<GatewayProblem>());
    let mut paths = Map::new();
    for operation in operations::all() {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        let object = operation.object(&mut schemas);
        assert!(
            path.get(operation.method).is_none(),
            "{} {} is there twice",
            operation.method,
            operation.path
        );
        path[operation.method] = object;
    }
    for (path, item) in rpc::paths(&mut schemas) {
        paths.insert(path.to_owned(), item);
    }
    let tags = operations::TAGS.into_iter().chain([rpc::TAG]);
    let tags: Vec<_> = tags
        .map(|(name, description)| json!({ "name": name, "description": description }))
        .collect();
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Millrace",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "Whatever serves this document." }],
        "tags": tags,
        "paths": paths,
        "components": { "schemas": schemas.into_components(), "securitySchemes": security_schemes() },
    })
}

/// The document as it is served and checked in: indented, with a newline at its end.
pub fn text() -> String {
    format!("{:#}\n", document())
}

fn security_schemes() -> Value {
    json!({
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "A JSON Web Token, such as a Supabase service-role key, or a stored API key (`mr_…`). The token's `role` \
                            decides: `service_role` may do everything, `worker` all but call the functions of `millrace_api` at `/rpc`, `reader` may read, and others nothing.",
        },
        "apiKey": {
            "type": "apiKey",
            "in": "header",
            "name": "x-api-key",
            "description": "The application's own API key, which may do everything, or a stored one (`mr_…`) with its scopes.",
        },
        "supabase": {
            "type": "apiKey",
            "in": "header",
            "name": "apikey",
            "description": "A token or a stored API key where Supabase's clients put theirs; `Authorization` goes first.",
        },
    })
}
