//! How many jobs there are, and what the Prometheus text is rendered from.

use millrace_kit::field::{Instant, Int};
use serde::{Deserialize, Serialize};

use crate::job::JobHead;

/// The whole installation at a glance.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Overview {
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    ok: bool,
    counts: Counts,
    /// The newest job, without what it carries; null if there is none.
    latest: Option<JobHead>,
    /// The database's time.
    ts: Instant,
}

/// How many jobs there are of each status.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Counts {
    queued: Int<0, { i64::MAX }>,
    running: Int<0, { i64::MAX }>,
    succeeded: Int<0, { i64::MAX }>,
    failed: Int<0, { i64::MAX }>,
    cancelled: Int<0, { i64::MAX }>,
}

/// What the database measures, queue by queue.
#[derive(Debug, Deserialize)]
pub struct Metrics {
    /// The upper bounds of the histograms' buckets, in seconds.
    pub bounds: Vec<f64>,
    pub queues: Vec<QueueMetrics>,
}

/// What the channels' providers came to: beside [`Metrics`] in the same answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct ChannelMetrics {
    pub breakers: Vec<BreakerMetrics>,
    pub calendar: Vec<CalendarMetrics>,
}

/// A circuit breaker, or all of those below one (`google/*`) together.
#[derive(Debug, Deserialize)]
pub struct BreakerMetrics {
    pub breaker: String,
    /// How many of them nobody passes now.
    pub open: i64,
    pub failures: i64,
    pub opened: i64,
    pub probes: i64,
}

/// How often an operation of the calendar outbox came to an outcome.
#[derive(Debug, Deserialize)]
pub struct CalendarMetrics {
    pub operation: String,
    pub outcome: String,
    pub n: i64,
}

/// One queue.
#[derive(Debug, Deserialize)]
pub struct QueueMetrics {
    pub queue: String,
    pub paused: bool,
    /// How many jobs may run at once, if that is limited.
    pub concurrency_limit: Option<i64>,
    /// How many may start in an interval, if that is limited, and how many may now.
    pub rate_limit: Option<i64>,
    pub tokens: Option<i64>,
    /// Nothing of it starts for now.
    pub held: bool,
    pub queued: i64,
    pub running: i64,
    pub succeeded: i64,
    pub cancelled: i64,
    pub dead: i64,
    /// Dead letters that were not retried.
    pub waiting: i64,
    /// For how long the oldest job that is due has been, in seconds.
    pub oldest_ready_age: f64,
    /// Seen within the last 20 seconds.
    pub workers: i64,
    pub totals: Totals,
    /// From the enqueue to the first start.
    pub wait: Histogram,
    /// From a claim to the end of its attempt.
    pub run: Histogram,
}

/// How often each thing has happened since the queue was made.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Totals {
    pub queued: i64,
    pub started: i64,
    pub succeeded: i64,
    pub retry_scheduled: i64,
    pub dead_lettered: i64,
    pub lease_expired: i64,
    pub postponed: i64,
    pub cancelled: i64,
    pub retried: i64,
    pub replayed: i64,
}

/// Times, counted by how long they took.
#[derive(Debug, Deserialize)]
pub struct Histogram {
    /// For each bound, how many took at most so long.
    pub buckets: Vec<i64>,
    pub count: i64,
    /// In seconds.
    pub sum: f64,
}
