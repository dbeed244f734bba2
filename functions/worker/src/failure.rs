//! Failures in few words: a code, a sentence, and what is to become of the job.

use std::time::Duration;

use crate::{Failure, Readiness, Receipt, Verdict};

/// How many characters of a message are kept.
const MESSAGE: usize = 2000;

impl Failure {
    /// Try again, after the queue's backoff. `code` has 1 to 100 characters of a-z, 0-9 and _; `message` is one sentence, without secrets
    /// and without the payload's contents.
    pub fn retry(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::of(Verdict::Retry(None), code, message)
    }

    /// Never again: the job becomes a dead letter.
    pub fn dead(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::of(Verdict::Dead, code, message)
    }

    /// Not tried at all, and due again after `delay`; the attempt does not count.
    pub fn postpone(delay: Duration, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::of(Verdict::Postpone(milliseconds(delay)), code, message)
    }

    /// The same failure, tried again after `delay` where the handler knows better than the queue's backoff. A dead one stays dead.
    #[must_use]
    pub fn after(mut self, delay: Option<Duration>) -> Self {
        if let (Verdict::Retry(_), Some(delay)) = (&self.verdict, delay) {
            self.verdict = Verdict::Retry(Some(milliseconds(delay)));
        }
        self
    }

    fn of(verdict: Verdict, code: impl Into<String>, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if let Some((end, _)) = message.char_indices().nth(MESSAGE) {
            message.truncate(end);
        }
        Self {
            verdict,
            code: code.into(),
            message,
        }
    }
}

impl Receipt {
    /// Done, under no name of the provider's.
    pub fn done() -> Self {
        Self {
            id: None,
            details: None,
        }
    }

    /// Done, under the provider's name for it.
    pub fn of(id: impl Into<String>) -> Self {
        Self {
            id: Some(id.into()),
            details: None,
        }
    }

    /// The same with a JSON text that is kept as the job's result beside the id; at most 64 KiB.
    #[must_use]
    pub fn with_details(mut self, json: impl Into<String>) -> Self {
        self.details = Some(json.into());
        self
    }
}

impl Readiness {
    /// The variable named `variable` is set wrongly; `reason` says how, never its value.
    pub fn misconfigured(variable: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Misconfigured(crate::Misconfiguration {
            variable: variable.into(),
            reason: reason.into(),
        })
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_for_what_is_tried_again() {
        let second = Some(Duration::from_secs(1));
        let failure = Failure::retry("busy", "it is busy").after(second);
        assert!(matches!(failure.verdict, Verdict::Retry(Some(1000))));
        let failure = failure.after(None);
        assert!(matches!(failure.verdict, Verdict::Retry(Some(1000))));
        let failure = Failure::dead("gone", "it is gone").after(second);
        assert!(matches!(failure.verdict, Verdict::Dead));
        let failure = Failure::postpone(Duration::MAX, "down", "it is down").after(second);
        assert!(matches!(failure.verdict, Verdict::Postpone(u64::MAX)));
    }

    #[test]
    fn a_message_is_cut_between_characters() {
        let failure = Failure::retry("long", "é".repeat(MESSAGE + 1));
        assert_eq!(failure.message.chars().count(), MESSAGE);
    }
}
