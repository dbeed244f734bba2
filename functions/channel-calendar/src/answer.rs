//! What an answer of Google's means, by its status and its `reason`, never by the words of a message
//! (<https://developers.google.com/workspace/calendar/api/guides/errors>):
//!
//! | status | reason | meaning |
//! | --- | --- | --- |
//! | 2xx | | done |
//! | 401 | any | the access token is not good: refreshed once, then the consent is gone |
//! | 403 | `invalid_grant`, `authError` | the consent is gone |
//! | 403 | `rateLimitExceeded`, `userRateLimitExceeded`, `quotaExceeded`, `dailyLimitExceeded` | later, when Google says or after the backoff |
//! | 429 | any | the same |
//! | 404, 410 | any | not there |
//! | 409 | any | there already |
//! | 5xx, 408, or no answer | any | Google is at fault: counts against its circuit breaker |
//! | anything else | any | refused: tried again after the backoff, dead after the last attempt |

use std::time::Duration;

use http::HeaderMap;
use millrace_kit::outbound::Broken;
use millrace_worker::retry_after;
use serde::Deserialize;

/// The reasons with which 403 is about limits, not about rights.
const LIMITS: [&str; 4] = [
    "rateLimitExceeded",
    "userRateLimitExceeded",
    "quotaExceeded",
    "dailyLimitExceeded",
];
/// The reasons with which 403 is about the consent.
const CONSENT: [&str; 2] = ["invalid_grant", "authError"];

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Done,
    /// The access token is not taken.
    Unauthorized,
    /// The workspace's consent is gone: somebody must connect again. The text says by which word of Google's.
    NoConsent(&'static str),
    /// Too much was asked: again after so long, or after the queue's backoff.
    Limited(Option<Duration>),
    /// What was to be changed is not there (404 or 410).
    Missing(u16),
    /// What was to be made is there already.
    Exists,
    /// Google is at fault, or out of reach; what was asked may have been done. The text is a code.
    Down(&'static str),
    /// We are at fault: a setting keeps all jobs from being done.
    Ours(&'static str),
    /// Refused for another reason.
    Refused(u16),
}

/// Google's errors: `{error: {errors: [{reason}], status}}`, and in the words of OAuth `{error: "invalid_grant"}`.
#[derive(Deserialize)]
struct Failed {
    error: Fault,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Fault {
    Word(String),
    Reasons {
        #[serde(default)]
        errors: Vec<Reason>,
    },
}

#[derive(Deserialize)]
struct Reason {
    #[serde(default)]
    reason: String,
}

/// The reason of an error, as far as it is told.
pub fn reason(body: &[u8]) -> String {
    match serde_json::from_slice(body) {
        Ok(Failed {
            error: Fault::Word(word),
        }) => word,
        Ok(Failed {
            error: Fault::Reasons { errors },
        }) => {
            let first = errors.into_iter().next();
            first.map(|first| first.reason).unwrap_or_default()
        }
        Err(_) => String::new(),
    }
}

impl Answer {
    /// The meaning of an answer of the Calendar API.
    pub fn of(status: u16, headers: &HeaderMap, body: &[u8]) -> Self {
        match status {
            200..=299 => Self::Done,
            401 => Self::Unauthorized,
            403 => {
                let reason = reason(body);
                if LIMITS.contains(&reason.as_str()) {
                    Self::Limited(retry_after(headers))
                } else if CONSENT.contains(&reason.as_str()) {
                    Self::NoConsent("invalid_grant")
                } else {
                    Self::Refused(status)
                }
            }
            404 | 410 => Self::Missing(status),
            409 => Self::Exists,
            429 => Self::Limited(retry_after(headers)),
            408 | 500..=599 => Self::Down("google_failed"),
            _ => Self::Refused(status),
        }
    }

    /// The meaning of there being no answer.
    pub fn none(broken: Broken) -> Self {
        match broken {
            Broken::Denied => Self::Ours("host_not_allowed"),
            Broken::Unreachable => Self::Down("unreachable"),
            Broken::TooSlow => Self::Down("timeout"),
            Broken::BrokenOff | Broken::TooLong => Self::Down("connection_lost"),
        }
    }

    /// A deletion of what is not there has what it wants.
    pub fn of_deletion(self) -> Self {
        match self {
            Self::Missing(_) => Self::Done,
            other => other,
        }
    }

    /// Whether there is no point in asking Google for anything else in this attempt.
    pub fn ends_the_attempt(&self) -> bool {
        matches!(
            self,
            Self::Unauthorized
                | Self::NoConsent(_)
                | Self::Limited(_)
                | Self::Down(_)
                | Self::Ours(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn error(reason: &str) -> String {
        format!(
            r#"{{"error": {{"errors": [{{"domain": "usageLimits", "reason": "{reason}", "message": "Rate Limit"}}], "code": 403, "message": "Rate Limit"}}}}"#
        )
    }

    #[test]
    fn the_reason_decides_and_not_the_words() {
        let none = HeaderMap::new();
        for (status, reason, meaning) in [
            (200, "", Answer::Done),
            (204, "", Answer::Done),
            (400, "timeRangeEmpty", Answer::Refused(400)),
            (401, "authError", Answer::Unauthorized),
            (403, "rateLimitExceeded", Answer::Limited(None)),
            (403, "userRateLimitExceeded", Answer::Limited(None)),
            (403, "quotaExceeded", Answer::Limited(None)),
            (403, "forbiddenForNonOrganizer", Answer::Refused(403)),
            (403, "forbidden", Answer::Refused(403)),
            (404, "notFound", Answer::Missing(404)),
            (410, "deleted", Answer::Missing(410)),
            (409, "duplicate", Answer::Exists),
            (412, "conditionNotMet", Answer::Refused(412)),
            (429, "rateLimitExceeded", Answer::Limited(None)),
            (500, "backendError", Answer::Down("google_failed")),
            (503, "", Answer::Down("google_failed")),
            (302, "", Answer::Refused(302)),
        ] {
            assert_eq!(Answer::of(status, &none, error(reason).as_bytes()), meaning);
        }
        let word = br#"{"error": "invalid_grant", "error_description": "Token has been expired or revoked."}"#;
        assert_eq!(
            Answer::of(403, &none, word),
            Answer::NoConsent("invalid_grant")
        );
        assert_eq!(
            Answer::of(403, &none, b"rateLimitExceeded"),
            Answer::Refused(403)
        );
    }

    #[test]
    fn what_google_asks_for_is_granted_up_to_an_hour() {
        let mut headers = HeaderMap::new();
        for (value, seconds) in [("7", 7), ("7200", 3600)] {
            headers.insert("retry-after", HeaderValue::from_static(value));
            let later = Answer::Limited(Some(Duration::from_secs(seconds)));
            assert_eq!(Answer::of(429, &headers, b""), later);
        }
    }
}
