//! A page of events as the text of a stream (WHATWG HTML section 9.2.5): fields of a line each, and a blank line behind them.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The first thing that is said: how long a client waits before it reconnects, in milliseconds.
pub const RETRY: &str = "retry: 1000\n\n";

/// The last one of a job's: a stream that merely breaks off makes clients reconnect.
pub const END: &str = "event: end\ndata: {}\n\n";

/// What `millrace_api.collab_events` answers.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    events: Vec<Placed<'a>>,
    cursor: String,
    ended: bool,
}

/// An event, and the place behind it.
#[derive(Deserialize)]
struct Placed<'a> {
    /// Passed on as it is: numbers would lose digits on the way through floating point.
    #[serde(borrow)]
    event: &'a RawValue,
    #[serde(borrow)]
    cursor: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    event_type: Cow<'a, str>,
}

/// A page, ready to be sent.
pub struct Page {
    /// Its events.
    pub text: String,
    /// How many these are.
    pub count: usize,
    /// The place behind it.
    pub cursor: String,
    /// Whether nothing will follow.
    pub ended: bool,
}

impl Page {
    /// Makes frames of the database's answer. JSON has no line breaks in its strings, and Postgres writes none between them.
    ///
    /// # Errors
    /// The answer is not of its form.
    pub fn of(answer: &str) -> serde_json::Result<Self> {
        let answer: Answer = serde_json::from_str(answer)?;
        let mut text = String::new();
        for Placed { event, cursor } in &answer.events {
            let Kind { event_type } = serde_json::from_str(event.get())?;
            text += &format!("id: {cursor}\nevent: {event_type}\ndata: {event}\n\n");
        }
        Ok(Self {
            text,
            count: answer.events.len(),
            cursor: answer.cursor,
            ended: answer.ended,
        })
    }
}

/// A sign of life. The comment is for whoever looks; the id moves the client's `Last-Event-ID`, which it does without an event
/// where there is no data.
pub fn heartbeat(cursor: &str) -> String {
    format!(": nothing new\nid: {cursor}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_its_place_its_type_and_its_json_unchanged() {
        let event = r#"{"id": 7, "payload": {"n": 12345678901234567890.10, "s": "a\nb"}, "event_type": "queued"}"#;
        let answer = format!(
            r#"{{"ended": true, "cursor": "8", "events": [{{"event": {event}, "cursor": "7"}}]}}"#
        );
        let page = Page::of(&answer).unwrap();
        assert_eq!(
            page.text,
            format!("id: 7\nevent: queued\ndata: {event}\n\n")
        );
        assert_eq!(
            (page.count, page.cursor.as_str(), page.ended),
            (1, "8", true)
        );
    }

    #[test]
    fn what_is_no_page_is_an_error() {
        for answer in [
            "",
            "{}",
            r#"{"ended": true, "cursor": "8", "events": [{}]}"#,
        ] {
            assert!(Page::of(answer).is_err(), "{answer}");
        }
    }
}
