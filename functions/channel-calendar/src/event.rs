//! An event in Google's form: the resource `Event` of the Calendar API v3
//! (<https://developers.google.com/workspace/calendar/api/v3/reference/events>).

use chrono::{Days, NaiveDate};
use serde::Serialize;

use crate::payload::{Event, Source};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    summary: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    color_id: Option<&'a str>,
    start: Time<'a>,
    end: Time<'a>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    recurrence: &'a [String],
    extended_properties: Extended<'a>,
}

/// A day, or an instant. A recurring event needs the time zone in which its rule is expanded; the outbox names none, so it is UTC.
#[derive(Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
enum Time<'a> {
    Day {
        date: String,
    },
    Instant {
        date_time: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        time_zone: Option<&'static str>,
    },
}

#[derive(Serialize)]
struct Extended<'a> {
    private: Private<'a>,
}

/// By which an administrator finds an event's source.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Private<'a> {
    millrace_source_type: &'a str,
    millrace_source_id: &'a str,
    millrace_event_type: &'a str,
}

/// What is done with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// Made under our id.
    Insert,
    /// Changed.
    Update,
    /// Changed, and brought back if it was deleted: what an insert does whose id is there already.
    Restore,
}

/// The body of a request that writes the event `id`.
pub fn body(write: Write, id: &str, source: Source<'_>, event: &Event) -> String {
    let recurrence = event.recurrence.as_deref().unwrap_or_default();
    let (start, end) = times(event, !recurrence.is_empty());
    let resource = Resource {
        id: (write == Write::Insert).then_some(id),
        status: (write == Write::Restore).then_some("confirmed"),
        summary: &event.title,
        description: event.description.as_deref(),
        location: event.location.as_deref(),
        color_id: event.color_id.as_deref(),
        start,
        end,
        recurrence,
        extended_properties: Extended {
            private: Private {
                millrace_source_type: source.kind,
                millrace_source_id: source.id,
                millrace_event_type: source.event_type,
            },
        },
    };
    // A resource of texts always has a JSON text.
    serde_json::to_string(&resource).unwrap_or_default()
}

/// Google's end of a whole day is the day after: where the outbox names no later day than the first, it is the next one.
fn times(event: &Event, recurs: bool) -> (Time<'_>, Time<'_>) {
    if event.is_all_day != Some(true) {
        let time_zone = recurs.then_some("UTC");
        let instant = |date_time| Time::Instant {
            date_time,
            time_zone,
        };
        return (instant(event.start.as_str()), instant(event.end.as_str()));
    }
    let (start, end) = (day(&event.start), day(&event.end));
    let end = match (start.parse::<NaiveDate>(), end.parse::<NaiveDate>()) {
        (Ok(first), Ok(last)) if last <= first => {
            let next = first.checked_add_days(Days::new(1)).unwrap_or(first);
            next.to_string()
        }
        _ => end.to_owned(),
    };
    let date = start.to_owned();
    (Time::Day { date }, Time::Day { date: end })
}

/// The day of an ISO time, as it is written there.
fn day(time: &str) -> &str {
    time.split_once('T').map_or(time, |(day, _)| day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn written(write: Write, event: Value) -> Value {
        let source = Source {
            kind: "task",
            id: "s",
            event_type: "MILESTONE",
        };
        let event: Event = serde_json::from_value(event).expect("an event");
        serde_json::from_str(&body(write, "mr00", source, &event)).expect("JSON")
    }

    #[test]
    fn an_event_is_written_in_googles_words() {
        let event = json!({"title": "Complete user interviews", "description": "P1", "location": "Here", "colorId": "7",
            "start": "2025-01-15T14:00:00Z", "end": "2025-01-15T15:00:00Z", "isAllDay": false});
        let made = written(Write::Insert, event.clone());
        assert_eq!(
            made,
            json!({"id": "mr00", "summary": "Complete user interviews", "description": "P1", "location": "Here", "colorId": "7",
                "start": {"dateTime": "2025-01-15T14:00:00Z"}, "end": {"dateTime": "2025-01-15T15:00:00Z"},
                "extendedProperties": {"private": {"millraceSourceType": "task", "millraceSourceId": "s", "millraceEventType": "MILESTONE"}}})
        );
        let changed = written(Write::Update, event.clone());
        assert!(changed.get("id").is_none() && changed.get("status").is_none());
        assert_eq!(written(Write::Restore, event)["status"], "confirmed");
    }

    #[test]
    fn a_whole_day_ends_with_the_next_one() {
        for (start, end, dates) in [
            (
                "2025-01-15T00:00:00Z",
                "2025-01-15T00:00:00Z",
                ("2025-01-15", "2025-01-16"),
            ),
            ("2025-01-31", "2025-01-31", ("2025-01-31", "2025-02-01")),
            (
                "2025-01-15T00:00:00Z",
                "2025-01-17T00:00:00Z",
                ("2025-01-15", "2025-01-17"),
            ),
        ] {
            let event = json!({"title": "t", "start": start, "end": end, "isAllDay": true});
            let made = written(Write::Insert, event);
            assert_eq!(made["start"], json!({"date": dates.0}));
            assert_eq!(made["end"], json!({"date": dates.1}));
        }
    }

    #[test]
    fn what_recurs_has_a_time_zone() {
        let made = written(
            Write::Insert,
            json!({"title": "t", "start": "2025-01-15T14:00:00Z", "end": "2025-01-15T15:00:00Z", "recurrence": ["RRULE:FREQ=DAILY"]}),
        );
        assert_eq!(made["start"]["timeZone"], "UTC");
        assert_eq!(made["recurrence"], json!(["RRULE:FREQ=DAILY"]));
    }
}
