//! The bodies of `/graphql`, as GraphQL over HTTP has them. What may stand in them is the schema's matter (`GET /graphql/schema.graphql`).

use serde::{Deserialize, Serialize};

/// Any fields.
pub type Fields = serde_json::Map<String, serde_json::Value>;

/// An operation to execute.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct GraphqlRequest {
    /// The document, of at most 64 KiB.
    query: String,
    /// Which of the document's operations, if it has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation_name: Option<String>,
    /// The values of the operation's variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    variables: Option<Fields>,
    /// Nothing here looks at them.
    #[serde(skip_serializing_if = "Option::is_none")]
    extensions: Option<Fields>,
}

/// The same in a query string.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct GraphqlParameters {
    /// The document: no mutation.
    query: String,
    /// Which of the document's operations, if it has several.
    operation_name: Option<String>,
    /// The values of the operation's variables, as JSON.
    variables: Option<String>,
    /// JSON; nothing here looks at it.
    extensions: Option<String>,
}

/// What came of an operation.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GraphqlResult {
    /// What went wrong, if anything did.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Vec<GraphqlError>>,
    /// The fields that the operation selects; null where one failed that may not be null, absent where nothing was executed.
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<serde_json::Value>,
}

/// What went wrong.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GraphqlError {
    /// A sentence for a person.
    message: String,
    /// Where in the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    locations: Option<Vec<GraphqlPlace>>,
    /// Where in the result: the keys and places in lists that lead there.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Vec<serde_json::Value>>,
    extensions: GraphqlErrorExtensions,
}

/// A place in a document, both counted from 1.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GraphqlPlace {
    line: u32,
    column: u32,
}

/// What machines look at.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GraphqlErrorExtensions {
    /// `NOT_FOUND`, `BAD_USER_INPUT`, `CONFLICT`, `UNAUTHENTICATED`, `FORBIDDEN`, `BAD_REQUEST`, `GRAPHQL_PARSE_FAILED`, `GRAPHQL_VALIDATION_FAILED`,
    /// `OPERATION_RESOLUTION_FAILURE`, `QUERY_TOO_LARGE`, `QUERY_TOO_DEEP`, `QUERY_TOO_COMPLEX`, `SERVICE_UNAVAILABLE` or `INTERNAL_SERVER_ERROR`.
    code: String,
    /// The code that the other faces have for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
}
