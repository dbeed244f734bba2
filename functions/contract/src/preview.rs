//! `/preview`: what channels would have sent.

use millrace_kit::field::{Instant, Int, JobId};
use millrace_kit::json::Json;
use serde::{Deserialize, Serialize};

/// Which previews are asked for.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PreviewListing {
    /// How many at most; 50 if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Int<1, 100>>,
    /// The `nextCursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<Int<1, { i64::MAX }>>,
}

/// A page of previews, newest first.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Previews {
    items: Vec<PreviewHead>,
    count: Int<0, 100>,
    /// What `cursor` goes on from; null only at the end.
    next_cursor: Option<Int<1, { i64::MAX }>>,
    /// The database's time.
    ts: Instant,
}

/// A preview without its contents.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PreviewHead {
    job_id: JobId,
    /// Such as `email`.
    channel: String,
    /// The address, the number or the URL that it would have gone to.
    to: Option<String>,
    subject: Option<String>,
    kept_at: Instant,
}

/// What a channel would have sent.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    job_id: JobId,
    /// Such as `email`.
    channel: String,
    /// The address, the number or the URL that it would have gone to.
    to: Option<String>,
    subject: Option<String>,
    html: Option<String>,
    text: Option<String>,
    /// What else the channel would have sent, in its own words.
    request: Json,
    kept_at: Instant,
}

/// The job whose preview is asked for.
#[derive(Debug, Serialize)]
pub struct PreviewOf {
    /// The job.
    pub job_id: JobId,
}
