//! `health`: the answer of a server that works.

use millrace_kit::field::Instant;
use serde::Serialize;

/// The database answers.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Health {
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    ok: bool,
    /// The database's time.
    timestamp: Instant,
}
