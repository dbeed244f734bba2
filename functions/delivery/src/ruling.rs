//! What a provider's answer means for the job.

use std::time::Duration;

use http::{HeaderMap, Response, StatusCode};
use millrace_worker::retry_after;
use serde_json::Value;

/// How long jobs wait when the provider refuses our credentials or our account: time for somebody to look at it.
const ACCOUNT: Duration = Duration::from_secs(15 * 60);
/// How long they wait when a daily or monthly allowance, or the balance, is used up.
const QUOTA: Duration = Duration::from_secs(60 * 60);

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The provider took it; the name that it gave it.
    Sent(Option<String>),
    /// Nothing was sent; worth another attempt.
    Retry {
        code: &'static str,
        after: Option<Duration>,
    },
    /// Nothing was sent, and nothing will be, of this message or any other, until somebody looks after the account. It costs no attempt.
    Blocked { code: &'static str, after: Duration },
    /// Nothing was sent, and never will be.
    Dead { code: &'static str },
    /// The provider doesn't send to this address any more, and says why.
    Inactive { reason: &'static str },
    /// Nobody knows.
    Ambiguous { after: Option<Duration> },
}

/// An outcome, and which answer it was: a status and the provider's own code, never its words, since those may quote the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    pub outcome: Outcome,
    pub said: String,
}

impl Outcome {
    /// This outcome of an answer of this status with the provider's own code, empty for none. A code is made of few characters,
    /// so whatever else stands in its place is left out.
    pub fn of(self, status: StatusCode, code: &str) -> Ruling {
        let is_code = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let said = match !code.is_empty() && code.len() <= 60 && code.chars().all(is_code) {
            true => format!("{} {code}", status.as_u16()),
            false => status.as_u16().to_string(),
        };
        Ruling {
            outcome: self,
            said,
        }
    }

    /// The provider refuses the credentials, or what the account may do.
    pub fn account() -> Self {
        Self::Blocked {
            code: "credentials_refused",
            after: ACCOUNT,
        }
    }

    /// The account's allowance or balance is used up.
    pub fn quota(headers: &HeaderMap) -> Self {
        Self::Blocked {
            code: "quota_exceeded",
            after: retry_after(headers).unwrap_or(QUOTA),
        }
    }

    /// More requests in a time than the provider takes.
    pub fn rate_limited(after: Option<Duration>) -> Self {
        Self::Retry {
            code: "rate_limited",
            after,
        }
    }

    /// The sender that the application is configured with may not send.
    pub fn sender() -> Self {
        Self::Blocked {
            code: "sender_refused",
            after: ACCOUNT,
        }
    }

    /// What is asked is not there: the URL, the domain or the account's name in it is wrong, for every message.
    pub fn no_such_resource() -> Self {
        Self::Blocked {
            code: "no_such_resource",
            after: ACCOUNT,
        }
    }

    /// The provider understood the message and refuses it.
    pub fn refused() -> Self {
        Self::Dead {
            code: "message_refused",
        }
    }
}

/// What a status means where the provider's document says no more than HTTP does. A success is a provider's own to recognise, so one
/// that comes here is not the documented answer, and nobody knows what it says. A 5xx may come after the message went.
pub fn by_status(status: StatusCode, headers: &HeaderMap) -> Outcome {
    match status.as_u16() {
        401 | 403 => Outcome::account(),
        402 => Outcome::quota(headers),
        300..=399 | 404 | 405 => Outcome::no_such_resource(),
        413 => Outcome::Dead {
            code: "message_too_long",
        },
        429 => Outcome::rate_limited(retry_after(headers)),
        400..=407 | 409..=499 => Outcome::refused(),
        _ => Outcome::Ambiguous {
            after: retry_after(headers),
        },
    }
}

/// The JSON of an answer; null where it is none.
pub fn json(answer: &Response<Vec<u8>>) -> Value {
    serde_json::from_slice(answer.body()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_code_is_repeated() {
        let said = |code| Outcome::refused().of(StatusCode::BAD_REQUEST, code).said;
        assert_eq!(said("validation_error"), "400 validation_error");
        assert_eq!(said("406"), "400 406");
        assert_eq!(said(""), "400");
        assert_eq!(said("to@example.com"), "400");
        assert_eq!(said(&"a".repeat(61)), "400");
    }

    #[test]
    fn every_status_means_something() {
        let of = |status: u16| {
            let status = StatusCode::from_u16(status).expect("a status");
            by_status(status, &HeaderMap::new())
        };
        for status in [200, 204, 408, 500, 502, 503, 504, 599] {
            assert_eq!(of(status), Outcome::Ambiguous { after: None }, "{status}");
        }
        for status in [400, 406, 409, 415, 422, 451] {
            assert_eq!(of(status), Outcome::refused(), "{status}");
        }
        for status in [401, 403] {
            assert_eq!(of(status), Outcome::account(), "{status}");
        }
        for status in [301, 302, 307, 308, 404, 405] {
            assert_eq!(of(status), Outcome::no_such_resource(), "{status}");
        }
        assert_eq!(of(429), Outcome::rate_limited(None));
    }
}
