//! What to do where nobody knows whether the provider has acted.
//!
//! After the bytes of a request may have left and no answer proves that it was refused (a timeout, a reset, half an answer, a 5xx that may
//! come after acting), the outcome is ambiguous. A provider that knows a request again by its key or by an id of the client's
//! choice is asked again under the same one, `job.id`, and nothing is done twice. With one that does not, somebody has to
//! choose: the channel's variable `CHANNEL_ambiguous` is `retry` (at least once) or `dead` (at most once).

use millrace_kit::outbound::Broken;
use millrace_kit::variable;

use crate::{Failure, Misconfiguration};

/// The code of an attempt that may have acted and is not tried again.
pub const AMBIGUOUS: &str = "ambiguous";

/// What becomes of a job that may have been done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It is tried again: at least once.
    Retry,
    /// It is dead, for a person to look at: at most once.
    Dead,
}

impl Policy {
    /// What the variable says; nothing set is [`Policy::Retry`].
    ///
    /// # Errors
    /// What is wrong with the variable, for [`crate::Readiness::Misconfigured`].
    pub async fn of(variable: &'static str) -> Result<Self, Misconfiguration> {
        let wrong = |reason: &str| Misconfiguration {
            variable: variable.to_owned(),
            reason: reason.to_owned(),
        };
        let value = variable::get(variable).await;
        let value = value.map_err(|_| wrong("cannot be read"))?;
        Self::read(&value).ok_or_else(|| wrong("is neither retry nor dead"))
    }

    fn read(value: &str) -> Option<Self> {
        match value.trim() {
            "retry" | "" => Some(Self::Retry),
            "dead" => Some(Self::Dead),
            _ => None,
        }
    }

    /// What becomes of an attempt that may have acted: `failure`, unless that would try again what may only be done once.
    pub fn ambiguous(self, failure: Failure) -> Failure {
        match self {
            Self::Retry => failure,
            Self::Dead => Failure::dead(AMBIGUOUS, failure.message),
        }
    }

    /// What a request without an answer comes to: what surely never left is simply tried again, the rest by this policy.
    /// `what` is who was asked, for people: "the provider".
    pub fn unanswered(self, what: &str, broken: Broken) -> Failure {
        let failure = unanswered(what, broken);
        match broken.may_have_acted() {
            true => self.ambiguous(failure),
            false => failure,
        }
    }
}

/// What a request without an answer comes to where asking again does nothing twice.
pub fn unanswered(what: &str, broken: Broken) -> Failure {
    let (code, happened) = match broken {
        Broken::Denied => ("host_not_allowed", "may not be called by this component"),
        Broken::Unreachable => ("unreachable", "cannot be reached"),
        Broken::TooSlow => ("timeout", "took too long to answer"),
        Broken::BrokenOff => ("connection_lost", "broke off before its answer was whole"),
        Broken::TooLong => ("answer_too_long", "answered with more than is read"),
    };
    Failure::retry(code, format!("{what} {happened}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict;

    #[test]
    fn what_never_left_is_tried_again_whatever_the_policy() {
        for broken in [Broken::Denied, Broken::Unreachable] {
            for policy in [Policy::Retry, Policy::Dead] {
                let failure = policy.unanswered("the provider", broken);
                assert!(matches!(failure.verdict, Verdict::Retry(None)));
            }
        }
    }

    #[test]
    fn what_may_have_acted_is_up_to_the_policy() {
        for broken in [Broken::TooSlow, Broken::BrokenOff, Broken::TooLong] {
            let failure = Policy::Retry.unanswered("the provider", broken);
            assert!(matches!(failure.verdict, Verdict::Retry(None)));
            let failure = Policy::Dead.unanswered("the provider", broken);
            assert!(matches!(failure.verdict, Verdict::Dead));
            assert_eq!(failure.code, AMBIGUOUS);
        }
    }

    #[test]
    fn the_variable_is_one_of_two_words() {
        for (value, policy) in [
            ("", Some(Policy::Retry)),
            (" retry ", Some(Policy::Retry)),
            ("dead", Some(Policy::Dead)),
            ("Dead", None),
            ("once", None),
        ] {
            assert_eq!(Policy::read(value), policy, "{value}");
        }
    }
}
