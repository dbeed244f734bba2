//! When a provider asks to be left alone: the header `Retry-After` (RFC 9110 section 10.2.3), in seconds or as a date.

use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use http::HeaderMap;
use http::header::RETRY_AFTER;

/// The longest delay that a provider is granted. A job waits no longer for one that asks for a day by mistake.
pub const LONGEST: Duration = Duration::from_secs(3600);

/// An HTTP date as it is sent today (section 5.6.7; the obsolete forms are not read).
const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";

/// The delay that `headers` ask for, at most [`LONGEST`]; none if they ask for none in a way that is understood. A date that has
/// passed is no delay at all.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    read(headers.get(RETRY_AFTER)?.to_str().ok()?, Utc::now())
}

fn read(value: &str, now: DateTime<Utc>) -> Option<Duration> {
    let value = value.trim();
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let delay = match is_number {
        // More digits than fit are long enough.
        true => Duration::from_secs(value.parse().unwrap_or(u64::MAX)),
        false => {
            let date = NaiveDateTime::parse_from_str(value, HTTP_DATE).ok()?;
            let delay = date.and_utc().signed_duration_since(now);
            delay.to_std().unwrap_or_default()
        }
    };
    Some(delay.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_dates_are_read_and_bounded() {
        let now = NaiveDateTime::parse_from_str("Sun, 06 Nov 1994 08:49:37 GMT", HTTP_DATE);
        let now = now.unwrap().and_utc();
        for (value, seconds) in [
            ("0", Some(0)),
            (" 120 ", Some(120)),
            ("3601", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("Mon, 07 Nov 1994 08:49:37 GMT", Some(3600)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Mon, 06 Nov 1994 08:50:07 GMT", None),
        ] {
            assert_eq!(
                read(value, now),
                seconds.map(Duration::from_secs),
                "{value}"
            );
        }
    }
}
