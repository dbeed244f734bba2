//! How a call's outcome becomes an HTTP response with PostgREST's headers.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use millrace_kit::{Reply, log};

use crate::catalogue::{Function, Returns};
use crate::negotiation::{Format, Preferences};
use crate::refusal::Refusal;

/// The methods of a route, as `Allow` names them.
pub const METHODS: &str = "OPTIONS,POST";

/// A response that is no refusal.
pub struct Success {
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    body: Bytes,
}

impl Success {
    /// What a function answered, as its statement gives it.
    ///
    /// # Errors
    /// 500 if that is something else.
    pub fn of(
        answer: Option<String>,
        function: &Function,
        profile: &str,
        format: Format,
        preferences: &Preferences,
    ) -> Result<Self, Refusal> {
        let answer = answer.unwrap_or_default();
        let parts = answer.split_once(' ');
        let Some((Ok(rows), result)) = parts.map(|(rows, it)| (rows.parse::<u64>(), it)) else {
            let name = &function.name;
            log::line(format_args!("{name} did not answer with a result"));
            return Err(Refusal::internal());
        };
        let range = content_range(rows, preferences.counts());
        let mut headers = vec![(CONTENT_RANGE, range)];
        if let Some(applied) = preferences.applied() {
            headers.push((HeaderName::from_static("preference-applied"), applied));
        }
        if function.returns == Returns::Void {
            return Ok(Self {
                status: StatusCode::NO_CONTENT,
                headers,
                body: Bytes::new(),
            });
        }
        headers.push((CONTENT_TYPE, format.content_type().to_owned()));
        headers.push((
            HeaderName::from_static("content-profile"),
            profile.to_owned(),
        ));
        Ok(Self {
            status: StatusCode::OK,
            headers,
            body: result.to_owned().into(),
        })
    }

    /// What an `OPTIONS` gets.
    pub fn options() -> Self {
        Self {
            status: StatusCode::OK,
            headers: vec![(ALLOW, METHODS.to_owned())],
            body: Bytes::new(),
        }
    }
}

/// Which rows the answer has, and of how many if that was asked for; a value counts as one row.
fn content_range(rows: u64, counted: bool) -> String {
    let total = match counted {
        true => rows.to_string(),
        false => "*".to_owned(),
    };
    match rows.checked_sub(1) {
        Some(last) => format!("0-{last}/{total}"),
        None => format!("*/{total}"),
    }
}

/// Makes the HTTP response, always with `content-length` where there is a body (why: see the kit's).
pub fn reply(outcome: Result<Success, Refusal>) -> Reply {
    let (status, headers, body) = match outcome {
        Ok(success) => (success.status, success.headers, success.body),
        Err(refusal) => {
            let body = refusal.body_json().into();
            (refusal.status, refusal.headers(), body)
        }
    };
    let length = body.len();
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let map = response.headers_mut();
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            map.insert(name, value);
        }
    }
    if status != StatusCode::NO_CONTENT {
        map.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    map.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_tells_the_rows() {
        assert_eq!(content_range(0, false), "*/*");
        assert_eq!(content_range(0, true), "*/0");
        assert_eq!(content_range(1, false), "0-0/*");
        assert_eq!(content_range(7, true), "0-6/7");
    }
}
