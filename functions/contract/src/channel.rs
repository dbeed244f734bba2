//! `/channels/…`: whether a channel can be run, and what a run came to. The drain writes it; this is its shape.

use serde::Serialize;

/// What a channel answers.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Channel {
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    pub ok: bool,
    /// The channel's queue.
    pub queue: String,
    /// Absent where a run has only been begun, or goes on already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<ChannelState>,
    /// How the handler is ready, such as its provider's name, or what there is to set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What the run came to.
    #[serde(flatten)]
    pub run: Option<Run>,
    /// The request has been taken up by a run that goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joined: Option<bool>,
}

/// Whether jobs can be run.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ChannelState {
    Ready,
    /// Nothing is configured: jobs wait in their queue.
    Idle,
}

/// The numbers of a run.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Run {
    /// Attempts that were begun.
    pub claimed: u32,
    pub done: u32,
    pub retry: u32,
    pub dead: u32,
    pub postponed: u32,
    /// Those of `retry` that ran into their deadline.
    pub late: u32,
    /// Outcomes that came too late to count.
    pub refused: u32,
    /// Outcomes that could not be reported.
    pub lost: u32,
    /// The run ended by its time, with jobs left.
    pub more: bool,
}
