//! `health` of the collab face, and `/health`, `/health/live`, `/health/ready`: what a prober is told.

use millrace_kit::field::{Instant, Int};
use serde::{Deserialize, Serialize};

/// The database answers.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Health {
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    ok: bool,
    /// The database's time.
    timestamp: Instant,
}

/// The figures of the queues.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    #[cfg_attr(feature = "schema", schemars(extend("const" = "ok")))]
    status: String,
    /// The functions' own.
    version: String,
    /// The database's time.
    timestamp: Instant,
    /// How many queues there are, but for Millrace's own.
    queue_count: Count,
    /// The first 1,000 of them by name.
    queues: Vec<QueueFigures>,
}

/// A number of things.
type Count = Int<0, { i64::MAX }>;

/// One queue: how many of its tasks have each status, and whether somebody works on them.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct QueueFigures {
    name: String,
    paused: bool,
    pending: Count,
    processing: Count,
    retrying: Count,
    completed: Count,
    failed: Count,
    cancelled: Count,
    /// For how long the oldest task that is due has been, in seconds; 0 where none is.
    oldest_pending_seconds: f64,
    /// Seen within the last 20 seconds.
    workers: Count,
}

/// The functions are served.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Live {
    #[cfg_attr(feature = "schema", schemars(extend("const" = "ok")))]
    pub status: &'static str,
}

/// Whether requests can be served, and if not, which check says so.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Readiness {
    pub status: Ready,
    pub checks: Checks,
}

/// Ready is what passes every check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    Ready,
    NotReady,
}

/// What was looked at.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Checks {
    pub database: DatabaseCheck,
    pub migrations: MigrationsCheck,
}

/// Whether the database answers, and takes writes.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DatabaseCheck {
    pub ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<DatabaseFault>,
    /// The fault in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'static str>,
}

/// Whether the database is as new as the functions.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct MigrationsCheck {
    pub ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<MigrationsFault>,
    /// The fault in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<&'static str>,
    /// The newest migration that the database has, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub applied: Option<u32>,
    /// The newest one that the functions were built with.
    pub expected: u32,
}

/// What is wrong with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DatabaseFault {
    /// It cannot be reached.
    Unavailable,
    /// It takes longer than three seconds.
    TooSlow,
    /// It takes no writes: a standby, for example.
    ReadOnly,
    /// The application is set up wrongly; its log says how.
    Misconfigured,
    /// A fault of ours; the log says what.
    Internal,
}

/// What is wrong with the migrations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum MigrationsFault {
    /// The database lacks some.
    Behind,
    /// Nobody could be asked.
    Unknown,
}

/// What `millrace_api.readiness` answers.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The number of the newest migration.
    pub applied: u32,
    /// The server takes no writes.
    pub read_only: bool,
}
