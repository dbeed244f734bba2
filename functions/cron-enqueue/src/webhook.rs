//! The webhook: one POST, signed as Standard Webhooks has it, and what its answer means.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use chrono::DateTime;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::Full;
use millrace_kit::log;
use millrace_kit::outbound::{Bounds, Broken, ask};
use millrace_kit::webhook::{Secret, signatures};

use crate::message::{Format, Message};

/// What a POST may take. Nothing of an answer but its status matters, but a connection is read to its end.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(10),
    length: 1024 * 1024,
};

/// The longest wait that a webhook may ask for, in seconds: an hour.
const LONGEST_WAIT: i64 = 3600;

/// Where messages go. No Debug: its URL may be a secret.
pub struct Webhook {
    pub uri: Uri,
    pub format: Format,
    pub secrets: Vec<Secret>,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// The component may not call that host.
    Denied,
    /// Not taken, for this reason; to be tried again, after so many seconds if the webhook says so.
    Again(String, Option<u32>),
    /// Not taken, and it will not be.
    Refused(String),
}

impl Webhook {
    /// Sends a message. Its id stays the same however often it is sent; the signature is of this time.
    pub async fn send(&self, message: &Message) -> Outcome {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map(|since| since.as_secs()).unwrap_or_default();
        let body = message.body(self.format);
        let mut request = Request::post(&self.uri)
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, body.len())
            .header(USER_AGENT, "millrace")
            .header("webhook-id", &*message.id)
            .header("webhook-timestamp", now);
        if !self.secrets.is_empty() {
            request = request.header(
                "webhook-signature",
                signatures(&self.secrets, &message.id, now, &body),
            );
        }
        let Ok(request) = request.body(Full::new(Bytes::from(body))) else {
            return Outcome::Refused("the message can't be sent".to_owned());
        };
        let outcome = match ask(request, BOUNDS).await {
            Ok(response) => meaning(response.status(), response.headers(), now),
            Err(Broken::Denied) => Outcome::Denied,
            Err(Broken::Unreachable) => again("cannot be reached"),
            Err(Broken::TooSlow) => again("did not answer within 10 s"),
            Err(Broken::BrokenOff) => again("broke off its answer"),
            Err(Broken::TooLong) => again("answered more than 1 MiB"),
        };
        if let Outcome::Again(why, _) | Outcome::Refused(why) = &outcome {
            log::line(format_args!("an alert was not delivered: {why}"));
        }
        outcome
    }
}

fn again(why: &str) -> Outcome {
    Outcome::Again(format!("the webhook {why}"), None)
}

/// 2xx is taken. A status that finds fault with the message itself is a refusal for good; whatever else may pass, such as a 404 while the
/// receiver is deployed anew or a 401 until a key is put right, and its Retry-After counts.
fn meaning(status: StatusCode, headers: &HeaderMap, now: u64) -> Outcome {
    let why = format!("the webhook answered {}", status.as_u16());
    match status.as_u16() {
        200..=299 => Outcome::Delivered,
        400 | 411 | 413 | 414 | 415 | 422 | 431 => Outcome::Refused(why),
        _ => Outcome::Again(why, retry_after(headers, now)),
    }
}

/// In seconds from now: `Retry-After` says it so, or as a time (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap, now: u64) -> Option<u32> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let seconds = match text.parse::<i64>() {
        Ok(seconds) => seconds,
        Err(_) => DateTime::parse_from_rfc2822(text).ok()?.timestamp() - i64::try_from(now).ok()?,
    };
    u32::try_from(seconds.clamp(0, LONGEST_WAIT)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(value: &'static str) -> Option<u32> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, http::HeaderValue::from_static(value))]);
        retry_after(&headers, 1_445_412_420)
    }

    #[test]
    fn what_may_pass_is_tried_again() {
        let outcome = |status| meaning(StatusCode::from_u16(status).unwrap(), &HeaderMap::new(), 0);
        for status in [200, 202, 204] {
            assert_eq!(outcome(status), Outcome::Delivered, "{status}");
        }
        for status in [301, 308, 401, 403, 404, 408, 410, 425, 429, 500, 503, 599] {
            assert!(
                matches!(outcome(status), Outcome::Again(_, None)),
                "{status}"
            );
        }
        for status in [400, 413, 415, 422] {
            assert!(matches!(outcome(status), Outcome::Refused(_)), "{status}");
        }
    }

    #[test]
    fn a_wait_is_seconds_or_a_time() {
        assert_eq!(after("120"), Some(120));
        assert_eq!(after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(60));
        assert_eq!(after("Wed, 21 Oct 2009 07:28:00 GMT"), Some(0));
        assert_eq!(after("86400"), Some(3600));
        assert_eq!(after("soon"), None);
    }
}
