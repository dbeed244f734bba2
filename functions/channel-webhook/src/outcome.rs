//! What an answer means. Standard Webhooks 1.0, "Deliverability and reliability": 2xx is a success; 410 Gone asks to be sent nothing more;
//! 429, 502 and 504 ask for a slower pace; a redirect is a failure and is not followed; every other answer is a failure to be tried again,
//! since receivers are deployed, mend their keys and their mistakes.

use http::{HeaderMap, StatusCode};
use millrace_kit::outbound::Broken;
use millrace_worker::{Failure, retry_after};

/// What became of a message.
pub enum Outcome {
    /// It was taken.
    Delivered,
    /// The endpoint is to be sent nothing more.
    Gone,
    /// It was not taken.
    Failed(Failure),
}

/// What an answer says. A `Retry-After` counts with every answer that asks for another try.
pub fn of_answer(status: StatusCode, headers: &HeaderMap) -> Outcome {
    let code = match status.as_u16() {
        200..=299 => return Outcome::Delivered,
        410 => return Outcome::Gone,
        300..=399 => "redirected",
        429 => "rate_limited",
        500..=599 => "receiver_failed",
        _ => "refused_by_receiver",
    };
    let message = format!("the receiver answered {}", status.as_u16());
    Outcome::Failed(Failure::retry(code, message).after(retry_after(headers)))
}

/// What it means that there is no answer. The id makes it safe to send a message again, so nothing here is ambiguous.
pub fn of_broken(broken: Broken) -> Failure {
    match broken {
        Broken::Denied => Failure::dead(
            "address_forbidden",
            "the URL's host leads to an address that may not be called",
        ),
        Broken::Unreachable => Failure::retry("unreachable", "the receiver cannot be reached"),
        Broken::TooSlow => Failure::retry("timeout", "the receiver did not answer in time"),
        Broken::BrokenOff | Broken::TooLong => {
            Failure::retry("broken_off", "the receiver broke off its answer")
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::RETRY_AFTER;
    use millrace_worker::Verdict;

    use super::*;

    fn verdict(status: u16, headers: &HeaderMap) -> Option<(String, Option<u64>)> {
        match of_answer(StatusCode::from_u16(status).unwrap(), headers) {
            Outcome::Failed(failure) => match failure.verdict {
                Verdict::Retry(delay) => Some((failure.code, delay)),
                _ => panic!("{status} is not tried again"),
            },
            Outcome::Delivered | Outcome::Gone => None,
        }
    }

    #[test]
    fn whatever_is_no_success_is_tried_again() {
        let none = HeaderMap::new();
        let mut statuses = 0;
        for status in 100..=999 {
            let expected = match status {
                200..=299 | 410 => None,
                300..=399 => Some("redirected"),
                429 => Some("rate_limited"),
                500..=599 => Some("receiver_failed"),
                _ => Some("refused_by_receiver"),
            };
            let found = verdict(status, &none);
            assert_eq!(
                found,
                expected.map(|code| (code.to_owned(), None)),
                "{status}"
            );
            statuses += 1;
        }
        let waiting = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        for status in [301, 400, 429, 500, 503] {
            assert_eq!(
                verdict(status, &waiting).and_then(|(_, delay)| delay),
                Some(7000),
                "{status}"
            );
        }
        println!("{statuses} statuses");
    }
}
