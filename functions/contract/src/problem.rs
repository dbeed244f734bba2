//! The bodies of refusals.

use serde::Serialize;

/// Why a request was refused.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Problem {
    /// A sentence for a person.
    error: String,
    /// For machines; it does not change.
    code: String,
    /// More about this case; for `invalid_request` the path of the field at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<String>,
    /// What can be done about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Why a call of a function was not made, or came to nothing, in PostgREST's words.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RpcRefusal {
    /// A code of PostgREST's (`PGRST202`), or a SQLSTATE: `P0001` and `PTnnn` are what functions raise.
    code: String,
    /// A sentence for a person.
    message: String,
    /// More about this case.
    details: Option<String>,
    /// What may have been meant; where a function says no, its code for machines, such as `lease_expired`.
    hint: Option<String>,
}

/// Why a request to `/api/tasks` or `/api/jobs` was refused.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct GatewayProblem {
    status_code: u16,
    /// A sentence for a person, which begins with the field or parameter at fault if one is.
    message: String,
    /// The name of the status, such as `Bad Request`.
    error: String,
}
