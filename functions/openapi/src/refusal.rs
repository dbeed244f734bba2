//! The refusals that operations share, and how the document words each status.

use serde_json::{Value, json};

/// A status and the codes that it comes with.
pub type Refusal = (u16, &'static [&'static str]);

/// What the body of a refusal looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `{error, code, details?, hint?}`
    Collab,
    /// `{statusCode, message, error}`: of `/api/tasks`, `/api/jobs` and `/health`.
    Gateway,
    /// `{errors: [{message, extensions: {code, reason}}]}`: of `/graphql`.
    Graphql,
}

/// What a request with a JSON body may meet before it is looked at.
pub const BODY: [Refusal; 3] = [
    (400, &["invalid_json", "invalid_request"]),
    (413, &["body_too_large"]),
    (415, &["unsupported_media_type"]),
];

/// What a request with parameters may meet.
pub const PARAMETERS: [Refusal; 1] = [(400, &["invalid_request"])];

/// What a request that needs credentials may meet.
pub const CREDENTIALS: [Refusal; 3] = [
    (
        401,
        &[
            "missing_credentials",
            "invalid_api_key",
            "api_key_expired",
            "invalid_token",
            "token_expired",
        ],
    ),
    (403, &["forbidden"]),
    (503, &["auth_not_configured", "jwks_unavailable"]),
];

/// What a request that reaches the database may meet.
pub const DATABASE: [Refusal; 1] = [(503, &["database_unavailable", "try_again"])];

/// What any request may meet.
pub const ANY: [Refusal; 4] = [
    (405, &["method_not_allowed"]),
    (500, &["internal_error", "misconfigured"]),
    // The last two are the host's, when it has too many requests, and when one takes too long.
    (503, &["overloaded"]),
    (504, &["timeout"]),
];

/// What a status means here, in a sentence.
fn meaning(status: u16) -> &'static str {
    match status {
        400 => {
            "The request is not well formed, or says what it may not; `details` names the field or parameter at fault."
        }
        401 => "There are no credentials, or they are not good.",
        403 => "The credentials do not allow this.",
        404 => "There is no such thing.",
        405 => "The route answers another method; `Allow` names it.",
        409 => "It does not fit the state that things are in.",
        413 => "The body is larger than 1 MiB.",
        415 => "The body is not declared as JSON in UTF-8.",
        500 => "A fault of the server's. What it was is in its log only.",
        502 => "A server behind this one failed.",
        504 => "It took too long, and may have been carried out.",
        503 => "Not at this moment; `Retry-After` says when to try again.",
        _ => "Refused.",
    }
}

/// The response object of a refusal with `status` and one of `codes`.
pub fn response(form: Form, status: u16, codes: &[&str]) -> Value {
    let (description, schema) = match form {
        Form::Collab => collab(status, codes),
        Form::Gateway => gateway(status),
        Form::Graphql => graphql(status, codes),
    };
    let mut response = json!({
        "description": description,
        "content": { "application/json": { "schema": schema } },
    });
    if form == Form::Graphql {
        let schema = json!({ "$ref": "#/components/schemas/GraphqlResult" });
        response["content"]["application/graphql-response+json"]["schema"] = schema;
    }
    let header = match status {
        401 => Some(("WWW-Authenticate", "The challenge of RFC 6750.", "string")),
        405 => Some(("Allow", "The method that the route answers.", "string")),
        503 => Some((
            "Retry-After",
            "In how many seconds to try again.",
            "integer",
        )),
        _ => None,
    };
    if let Some((name, description, kind)) = header {
        // A 503 of settings that let nobody in has no Retry-After: nothing changes by itself.
        let required = status != 503;
        response["headers"][name] =
            json!({ "description": description, "required": required, "schema": { "type": kind } });
    }
    response
}

fn collab(status: u16, codes: &[&str]) -> (String, Value) {
    let listed: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let description = format!("{} Codes: {}.", meaning(status), listed.join(", "));
    let schema = json!({
        "allOf": [
            { "$ref": "#/components/schemas/Problem" },
            { "type": "object", "properties": { "code": { "enum": codes } } },
        ],
    });
    (description, schema)
}

/// This face's refusals have no codes. Those of the host, which knows no faces, have the other faces' body.
fn gateway(status: u16) -> (String, Value) {
    let description = match status {
        400 => {
            "The request is not well formed, or the task or job is not in a state for it; `message` begins with the field or parameter at fault."
        }
        405 => "The route answers other methods; `Allow` names them.",
        status => meaning(status),
    };
    let own = json!({ "$ref": "#/components/schemas/GatewayProblem" });
    let schema = match status {
        500 | 503 | 504 => json!({ "oneOf": [own, { "$ref": "#/components/schemas/Problem" }] }),
        _ => own,
    };
    (description.to_owned(), schema)
}

/// The codes of the other faces stand in `extensions.reason`. A refusal of the host's has the other faces' body.
fn graphql(status: u16, codes: &[&str]) -> (String, Value) {
    let listed: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let meaning = match status {
        400 => "The request is not well formed, or its operation was not executed.",
        406 => "The client takes no form that the operation is answered in.",
        status => meaning(status),
    };
    let description = format!("{meaning} Reasons: {}.", listed.join(", "));
    let own = json!({ "$ref": "#/components/schemas/GraphqlResult" });
    let schema = match status {
        500 | 503 | 504 => json!({ "oneOf": [own, { "$ref": "#/components/schemas/Problem" }] }),
        _ => own,
    };
    (description, schema)
}
