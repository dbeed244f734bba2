//! Outcomes on their way to the database: what a handler says, in a form that a statement takes, and batches of them.
//!
//! One word that Postgres refuses would lose those of all others in its batch, so what a handler says is checked here first.

use millrace_kit::json::Json;
use millrace_kit::log;
use millrace_worker::{Failure, Receipt, Verdict};
use serde::Serialize;

/// Bounds of what a handler may say; the first two in characters, the last in bytes.
const MESSAGE: usize = 2000;
const RECEIPT: usize = 500;
const DETAILS: usize = 64 * 1024;

/// How many outcomes go into one statement.
const BATCH: usize = 500;

/// What an attempt came to, as `millrace_api.channel_report` takes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    pub id: String,
    pub lease_id: i64,
    pub outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_ms: Option<u64>,
}

impl Outcome {
    /// What the handler said about an attempt.
    pub fn of(id: String, lease_id: i64, said: Result<Receipt, Failure>) -> Self {
        match said {
            Ok(receipt) => Self::done(id, lease_id, receipt),
            Err(failure) => Self::failed(id, lease_id, failure),
        }
    }

    fn done(id: String, lease_id: i64, receipt: Receipt) -> Self {
        Self {
            id,
            lease_id,
            outcome: "done",
            receipt: receipt.id.map(|id| text(id, RECEIPT)),
            details: receipt.details.and_then(details),
            code: None,
            message: None,
            delay_ms: None,
        }
    }

    fn failed(id: String, lease_id: i64, failure: Failure) -> Self {
        let (outcome, delay_ms) = match failure.verdict {
            Verdict::Retry(delay) => ("retry", delay),
            Verdict::Dead => ("dead", None),
            Verdict::Postpone(delay) => ("postpone", Some(delay)),
        };
        Self {
            id,
            lease_id,
            outcome,
            receipt: None,
            details: None,
            code: Some(code(failure.code)),
            message: Some(text(failure.message, MESSAGE)),
            delay_ms,
        }
    }
}

/// A text that jsonb can hold, of so many characters at most.
fn text(mut text: String, most: usize) -> String {
    if let Some((end, _)) = text.char_indices().nth(most) {
        text.truncate(end);
    }
    match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}"),
        false => text,
    }
}

fn code(code: String) -> String {
    let is_code = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    match (1..=100).contains(&code.len()) && code.bytes().all(is_code) {
        true => code,
        false => "handler_failed".to_owned(),
    }
}

/// The job is done whatever its details are: those that can't be kept are left out.
fn details(text: String) -> Option<Json> {
    let kept = match text.len() {
        0..=DETAILS => serde_json::from_str(&text).ok(),
        _ => None,
    };
    if kept.is_none() {
        log::line(format_args!(
            "a receipt's details are left out: no JSON that can be kept, or more than 64 KiB"
        ));
    }
    kept
}

/// Outcomes that wait for their statement.
#[derive(Default)]
pub struct Batches {
    waiting: Vec<Outcome>,
    /// A batch was refused or gave way: they go one by one, until none is left, so that the one at fault stands alone.
    one_by_one: bool,
    /// Those that gave way alone (somebody holds what they write to); they wait until there are no others.
    aside: Vec<Outcome>,
}

impl Batches {
    /// Adds one.
    pub fn push(&mut self, outcome: Outcome) {
        self.waiting.push(outcome);
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.aside.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next batch. A job that was claimed again after its lease ran out may be here twice, and a statement takes it once.
    pub fn take(&mut self) -> Vec<Outcome> {
        if self.waiting.is_empty() {
            let next = self.aside.len().min(1);
            return self.aside.drain(..next).collect();
        }
        let most = if self.one_by_one { 1 } else { BATCH };
        let (mut batch, mut left) = (Vec::<Outcome>::new(), Vec::new());
        let mut ids = std::collections::BTreeSet::new();
        for outcome in self.waiting.drain(..) {
            match batch.len() < most && ids.insert(outcome.id.clone()) {
                true => batch.push(outcome),
                false => left.push(outcome),
            }
        }
        self.waiting = left;
        self.one_by_one &= !self.waiting.is_empty();
        batch
    }

    /// Puts a batch back, to be tried again as a whole.
    pub fn put_back(&mut self, batch: Vec<Outcome>) {
        self.waiting.splice(0..0, batch);
    }

    /// Puts a batch back that was refused, to be tried one by one. Answers how many of it are lost: a single one is.
    pub fn refused(&mut self, batch: Vec<Outcome>) -> usize {
        match batch.len() {
            0 | 1 => batch.len(),
            _ => {
                self.put_back(batch);
                self.one_by_one = true;
                0
            }
        }
    }

    /// Puts a batch back that had to give way to another statement, to be tried one by one; a single one goes behind all others.
    pub fn gave_way(&mut self, batch: Vec<Outcome>) {
        match batch.len() {
            0 | 1 => self.aside.extend(batch),
            _ => {
                self.put_back(batch);
                self.one_by_one = true;
            }
        }
    }

    /// Drops all. Answers how many there were.
    pub fn clear(&mut self) -> usize {
        let count = self.len();
        *self = Self::default();
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(id: &str, lease_id: i64) -> Outcome {
        Outcome::of(id.to_owned(), lease_id, Ok(Receipt::done()))
    }

    fn leases(batch: &[Outcome]) -> Vec<i64> {
        batch.iter().map(|outcome| outcome.lease_id).collect()
    }

    #[test]
    fn what_a_handler_says_is_made_fit_for_jsonb() {
        let failure = Failure::retry("Not a code!", "a\0b");
        let outcome = Outcome::of("1".to_owned(), 1, Err(failure));
        assert_eq!(outcome.code.as_deref(), Some("handler_failed"));
        assert_eq!(outcome.message.as_deref(), Some("a\u{fffd}b"));
        for (details, kept) in [
            ("{\"a\":1}".to_owned(), true),
            ("{".to_owned(), false),
            ("\"\\u0000\"".to_owned(), false),
            ("[".repeat(1000) + &"]".repeat(1000), false),
            (format!("\"{}\"", "x".repeat(DETAILS)), false),
        ] {
            let receipt = Receipt::of("x".repeat(1000)).with_details(details);
            let outcome = Outcome::of("1".to_owned(), 1, Ok(receipt));
            assert_eq!(outcome.outcome, "done");
            assert_eq!(outcome.details.is_some(), kept);
            assert_eq!(outcome.receipt.map(|id| id.len()), Some(RECEIPT));
        }
    }

    #[test]
    fn a_job_is_in_a_batch_once() {
        let mut batches = Batches::default();
        for (id, lease) in [("a", 1), ("b", 2), ("a", 3)] {
            batches.push(done(id, lease));
        }
        assert_eq!(leases(&batches.take()), [1, 2]);
        assert_eq!(leases(&batches.take()), [3]);
        assert!(batches.is_empty());
    }

    #[test]
    fn a_refused_batch_is_tried_one_by_one() {
        let mut batches = Batches::default();
        batches.push(done("a", 1));
        batches.push(done("b", 2));
        let batch = batches.take();
        assert_eq!(batches.refused(batch), 0);
        let first = batches.take();
        assert_eq!(leases(&first), [1]);
        assert_eq!(batches.refused(first), 1, "a single one is lost");
        assert_eq!(leases(&batches.take()), [2]);
        batches.push(done("c", 3));
        batches.push(done("d", 4));
        assert_eq!(batches.take().len(), 2, "later ones go together again");
    }
    #[test]
    fn one_that_gives_way_holds_up_no_other() {
        let mut batches = Batches::default();
        for (id, lease) in [("a", 1), ("b", 2)] {
            batches.push(done(id, lease));
        }
        let batch = batches.take();
        batches.gave_way(batch);
        let first = batches.take();
        assert_eq!(leases(&first), [1]);
        batches.gave_way(first);
        assert_eq!(leases(&batches.take()), [2]);
        for (id, lease) in [("c", 3), ("d", 4)] {
            batches.push(done(id, lease));
        }
        assert_eq!(batches.len(), 3);
        assert_eq!(leases(&batches.take()), [3, 4], "together");
        let last = batches.take();
        assert_eq!(leases(&last), [1], "when there is no other");
        batches.gave_way(last);
        assert_eq!((batches.clear(), batches.is_empty()), (1, true));
    }
}
