//! A message as the database makes it, and the two forms in which it goes out.

use std::fmt::Write;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The most characters that a text has: Discord takes 2000, Slack and Mattermost more.
const TEXT_LIMIT: usize = 1900;

/// The most characters of one item's line.
const LINE_LIMIT: usize = 300;

/// The form of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `{type, timestamp, data}`, as Standard Webhooks recommends.
    Json,
    /// `{text}`, as Slack's incoming webhooks take it.
    Slack,
}

/// What somebody is to be told.
#[derive(Deserialize)]
pub struct Message {
    /// The same however often it is sent.
    pub id: Box<str>,
    /// `KIND.EVENT`
    r#type: Box<str>,
    timestamp: Box<str>,
    data: Box<RawValue>,
}

#[derive(Serialize)]
struct Event<'a> {
    r#type: &'a str,
    timestamp: &'a str,
    data: &'a RawValue,
}

#[derive(Serialize)]
struct Text {
    text: String,
}

/// What `data` holds: how many there are, which queues or schedules they are of, and the first of them.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Data {
    count: usize,
    /// There are more than were counted.
    capped: bool,
    subjects: Vec<Subject>,
    items: Vec<Item>,
}

/// A queue with dead letters to be told of.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Subject {
    queue: String,
    count: Option<u64>,
    capped: bool,
}

/// A dead letter, a queue or a schedule; each has some of these.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Item {
    id: Option<i64>,
    queue: Option<String>,
    r#type: Option<String>,
    reason: Option<String>,
    error: Option<String>,
    dead_at: Option<String>,
    waiting: Option<u64>,
    capped: bool,
    oldest_ready_seconds: Option<f64>,
    limit_seconds: Option<f64>,
    paused: bool,
    schedule: Option<String>,
    overdue: bool,
    deleted: bool,
    next_run_at: Option<String>,
    missed: Option<Missed>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Missed {
    due_at: String,
    outcome: String,
    error: Option<String>,
}

impl Message {
    /// The body of a request that tells it.
    pub fn body(&self, format: Format) -> String {
        let body = match format {
            Format::Json => serde_json::to_string(&Event {
                r#type: &self.r#type,
                timestamp: &self.timestamp,
                data: &self.data,
            }),
            Format::Slack => serde_json::to_string(&Text { text: self.text() }),
        };
        body.unwrap_or_default()
    }

    /// The message in words: a headline, then a line for each item, as many as fit.
    fn text(&self) -> String {
        let data: Data = serde_json::from_str(self.data.get()).unwrap_or_default();
        let count = format!("{}{}", data.count, plus(data.capped));
        let mut text = format!("*Millrace: {}*", self.headline(&count));
        if let Some(queues) = by_queue(&data.subjects) {
            let _ = write!(text, "\n{}", escaped(&shortened(&queues, LINE_LIMIT)));
        }
        let mut shown = 0;
        for item in &data.items {
            let line = escaped(&shortened(&self.line(item), LINE_LIMIT));
            if text.chars().count() + line.chars().count() > TEXT_LIMIT {
                break;
            }
            let _ = write!(text, "\n• {line}");
            shown += 1;
        }
        if data.count > shown {
            let _ = write!(text, "\n… and {} more", data.count - shown);
        }
        text
    }

    fn headline(&self, count: &str) -> String {
        match &*self.r#type {
            "dead_letters.opened" => {
                format!("jobs failed for good and wait for somebody ({count})")
            }
            "dead_letters.more" => format!("more jobs failed for good ({count})"),
            "dead_letters.repeated" => "jobs that failed for good still wait".to_owned(),
            "dead_letters.recovered" => "no jobs that failed for good wait any more".to_owned(),
            "queue_age.opened" => "due jobs wait too long".to_owned(),
            "queue_age.repeated" => "due jobs still wait too long".to_owned(),
            "queue_age.recovered" => "due jobs no longer wait too long".to_owned(),
            "schedule_missed.opened" => "schedules missed their time".to_owned(),
            "schedule_missed.more" => "schedules missed their time again".to_owned(),
            "schedule_missed.repeated" => "schedules are still overdue".to_owned(),
            "schedule_missed.recovered" => "schedules run in time again".to_owned(),
            other => escaped(other),
        }
    }

    fn line(&self, item: &Item) -> String {
        let is_over = self.r#type.ends_with(".recovered");
        let queue = item.queue.as_deref().unwrap_or_default();
        if let Some(schedule) = &item.schedule {
            return match (&item.missed, item.next_run_at.as_deref()) {
                _ if item.deleted => format!("{schedule}: deleted"),
                _ if item.paused => format!("{schedule}: paused"),
                (_, Some(next)) if item.overdue => {
                    format!("{schedule}: was due at {next}, and nothing was enqueued")
                }
                (_, Some(next)) if is_over => format!("{schedule}: next at {next}"),
                (Some(missed), _) => {
                    let what = match missed.outcome.as_str() {
                        "refused" => "refused",
                        "missed" => "missed",
                        _ => "late",
                    };
                    let why = missed
                        .error
                        .as_ref()
                        .map(|error| format!(": {error}"))
                        .unwrap_or_default();
                    format!("{schedule}: {what} at {}{why}", missed.due_at)
                }
                _ => schedule.clone(),
            };
        }
        if let (Some(id), Some(kind)) = (item.id, &item.r#type) {
            let reason = item.reason.as_deref().unwrap_or_default();
            let at = item.dead_at.as_deref().unwrap_or_default();
            let error = item
                .error
                .as_ref()
                .map(|error| format!(": {error}"))
                .unwrap_or_default();
            return format!("{queue} / {kind}, dead letter {id} at {at}: {reason}{error}");
        }
        match (item.oldest_ready_seconds, item.limit_seconds) {
            _ if item.paused => format!("{queue}: paused"),
            (Some(age), Some(limit)) if !is_over => {
                format!(
                    "{queue}: the oldest for {}, the limit is {}",
                    minutes(age),
                    minutes(limit)
                )
            }
            _ => match item.waiting {
                Some(waiting) if !is_over => format!("{queue}: {waiting}{}", plus(item.capped)),
                _ => queue.to_owned(),
            },
        }
    }
}

/// How many there are in each queue, if there are several.
fn by_queue(subjects: &[Subject]) -> Option<String> {
    let counted = |subject: &Subject| {
        let count = subject.count?;
        Some(format!(
            "{}: {count}{}",
            subject.queue,
            plus(subject.capped)
        ))
    };
    let queues: Vec<String> = subjects.iter().filter_map(counted).collect();
    (queues.len() > 1).then(|| queues.join(", "))
}

/// What stands after a number that is only as far as was counted.
fn plus(is_capped: bool) -> &'static str {
    match is_capped {
        true => "+",
        false => "",
    }
}

fn minutes(seconds: f64) -> String {
    match seconds < 120.0 {
        true => format!("{seconds:.0} s"),
        false => format!("{:.0} min", seconds / 60.0),
    }
}

/// One line of at most `limit` characters.
fn shortened(text: &str, limit: usize) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(limit) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// With the three characters that mean something to Slack replaced as it asks for.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> String {
        let message: Message = serde_json::from_str(json).unwrap();
        let body: serde_json::Value = serde_json::from_str(&message.body(Format::Slack)).unwrap();
        body["text"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_json_body_is_what_the_database_said_without_the_id() {
        let message = r#"{"id":"msg_1","type":"queue_age.opened","timestamp":"2026-01-01T00:00:00+00:00","data":{"count":1.0}}"#;
        let message: Message = serde_json::from_str(message).unwrap();
        assert_eq!(
            message.body(Format::Json),
            r#"{"type":"queue_age.opened","timestamp":"2026-01-01T00:00:00+00:00","data":{"count":1.0}}"#
        );
    }

    #[test]
    fn a_text_is_escaped_and_bounded() {
        let item = r#"{"id":7,"queue":"q","type":"t","reason":"failed","error":"<!channel> a & b\nc","deadAt":"now"}"#;
        let json = |count: usize, items: &str| {
            format!(
                r#"{{"id":"m","type":"dead_letters.opened","timestamp":"t","data":{{"count":{count},"items":[{items}]}}}}"#
            )
        };
        assert_eq!(
            text(&json(1, item)),
            "*Millrace: jobs failed for good and wait for somebody (1)*\n• q / t, dead letter 7 at now: failed: &lt;!channel&gt; a &amp; b c"
        );
        let long = item.replace("a & b", &"&".repeat(5000));
        let many = vec![long; 20].join(",");
        let said = text(&json(5000, &many));
        assert!(said.chars().count() < 2000, "{}", said.chars().count());
        assert!(said.ends_with(" more"), "{said}");
    }

    #[test]
    fn every_kind_has_its_words() {
        let one = |kind: &str, item: &str| {
            text(&format!(
                r#"{{"id":"m","type":"{kind}","timestamp":"t","data":{{"count":1,"items":[{item}]}}}}"#
            ))
        };
        let queue = r#"{"queue":"q","oldestReadySeconds":1200,"limitSeconds":900,"paused":false}"#;
        assert!(
            one("queue_age.opened", queue)
                .ends_with("• q: the oldest for 20 min, the limit is 15 min")
        );
        assert!(one("queue_age.recovered", queue).ends_with("• q"));
        let missed = r#"{"schedule":"s","nextRunAt":"then","missed":{"dueAt":"before","outcome":"refused","error":"full"}}"#;
        assert!(one("schedule_missed.opened", missed).ends_with("• s: refused at before: full"));
        assert!(one("schedule_missed.recovered", missed).ends_with("• s: next at then"));
        assert!(one("dead_letters.repeated", r#"{"queue":"q","waiting":3}"#).ends_with("• q: 3"));
        let many = r#"{"id":"m","type":"dead_letters.opened","timestamp":"t","data":{"count":10003,"capped":true,"subjects":[{"queue":"a&b","count":10000,"capped":true},{"queue":"c","count":3}]}}"#;
        assert_eq!(
            text(many),
            "*Millrace: jobs failed for good and wait for somebody (10003+)*\na&amp;b: 10000+, c: 3\n… and 10003 more"
        );
        assert!(one("new.kind", "{}").starts_with("*Millrace: new.kind*"));
    }
}
