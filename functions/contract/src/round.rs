//! `cron-enqueue`: what one round did.

use serde::{Deserialize, Serialize};

/// A round, every part of which was done.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Round {
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub ok: bool,
    pub schedules: Schedules,
    pub housekeeping: Housekeeping,
    pub alerts: Alerts,
    /// The database's time.
    pub ts: Box<str>,
}

/// What was due.
#[derive(Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Schedules {
    /// The jobs that schedules had due.
    pub enqueued: u32,
}

/// What was tidied up. Null is what another round was at meanwhile.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Housekeeping {
    /// The jobs that were forgotten, their history being no longer kept.
    jobs_retired: Option<u32>,
    /// The attempts that ended because their workers did not report in time.
    leases_expired: u32,
    partitions_dropped: Option<u32>,
    partitions_made: Option<u32>,
}

/// What somebody is told of.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Alerts {
    /// The alerts whose condition began to hold.
    pub opened: u32,
    /// Those whose condition no longer holds.
    pub resolved: u32,
    /// The messages that were made.
    pub told: u32,
    /// The messages, of earlier rounds too, that the webhook took.
    pub delivered: u32,
    /// Those that it did not take; most are tried again.
    pub failed: u32,
}
