//! The body of every refusal.

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
