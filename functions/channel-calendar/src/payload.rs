//! What an item of the outbox asks for. Postgres has checked it before it is read here (`millrace.check_calendar_payload`).

use serde::Deserialize;

/// The three operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Operation {
    #[serde(rename = "UPSERT_EVENT")]
    Upsert,
    #[serde(rename = "CANCEL_EVENT")]
    Cancel,
    #[serde(rename = "REBUILD_ALL")]
    Rebuild,
}

/// An item's payload.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Payload {
    pub operation: Operation,
    pub workspace_id: String,
    pub calendar_id: String,
    #[serde(default)]
    pub source_type: String,
    #[serde(default)]
    pub source_id: String,
    #[serde(default)]
    pub event_type: String,
    pub event: Option<Event>,
}

/// An event as the outbox describes it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    pub title: String,
    pub description: Option<String>,
    pub start: String,
    pub end: String,
    pub is_all_day: Option<bool>,
    pub recurrence: Option<Vec<String>>,
    pub location: Option<String>,
    pub color_id: Option<String>,
}

/// Whose event it is: kept with the event at Google, and part of its id.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub kind: &'a str,
    pub id: &'a str,
    pub event_type: &'a str,
}

impl Payload {
    /// Whose event it is.
    pub fn source(&self) -> Source<'_> {
        Source {
            kind: &self.source_type,
            id: &self.source_id,
            event_type: &self.event_type,
        }
    }

    /// The workspace's id as it is written everywhere: in lower case.
    pub fn workspace(&self) -> String {
        self.workspace_id.to_ascii_lowercase()
    }
}
