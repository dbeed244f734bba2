//! The two ways a request ends, an [`Answer`] or a [`Problem`], and how either becomes an HTTP response.

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

/// The HTTP response of a function: whole in memory, so that its length is known.
pub type Reply = Response<Full<Bytes>>;

/// A success: 200, unless it says otherwise.
#[derive(Debug)]
pub struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
}

impl Answer {
    /// An answer whose body is `json`, which must be JSON text already; it is passed on unread.
    pub fn json(json: impl Into<Bytes>) -> Self {
        Self::of("application/json", json)
    }

    /// An answer of another media type; `content_type` must be fit for a header.
    pub fn of(content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self {
            status: StatusCode::OK,
            content_type,
            body: body.into(),
        }
    }

    /// The same with another status, which must be one of success.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

/// Why a request was not served: a status, a stable machine code and a sentence for a person.
///
/// Its body is `{error, code, details?, hint?}` (collab contract). Nothing secret may be put into one.
#[derive(Debug)]
pub struct Problem {
    status: StatusCode,
    // Boxed because a problem is the error of nearly every function here, and moves through all of them.
    code: Box<str>,
    error: Box<str>,
    details: Option<Box<str>>,
    hint: Option<&'static str>,
    header: Option<(HeaderName, &'static str)>,
}

impl Problem {
    /// A problem with `status`, the machine code `code` and the sentence `error`.
    pub fn new(status: StatusCode, code: impl Into<Box<str>>, error: impl Into<Box<str>>) -> Self {
        Self {
            status,
            code: code.into(),
            error: error.into(),
            details: None,
            hint: None,
            header: None,
        }
    }

    /// 400 `invalid_request`: `field` is the path of the field at fault (`tasks[3].type`), which also
    /// stands alone in `details`; an empty one means the body as a whole.
    pub fn invalid(field: &str, reason: &str) -> Self {
        let name = if field.is_empty() { "the body" } else { field };
        let mut problem = Self::new(
            StatusCode::BAD_REQUEST,
            "invalid_request",
            format!("{name}: {reason}"),
        );
        problem.details = (!field.is_empty()).then(|| field.into());
        problem
    }

    /// 401 with the challenge that RFC 6750 asks for: bare when no credentials came, with
    /// `error="invalid_token"` when they were not good.
    pub fn unauthorized(code: &'static str, error: &'static str) -> Self {
        let challenge = match code {
            "missing_credentials" => "Bearer",
            _ => "Bearer error=\"invalid_token\"",
        };
        Self::new(StatusCode::UNAUTHORIZED, code, error).with_header(WWW_AUTHENTICATE, challenge)
    }

    /// 405, naming in `Allow` the methods that the route has (`GET`, or `GET, POST`).
    pub fn method_not_allowed(allowed: &'static str) -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            format!("this route answers {allowed} only"),
        )
        .with_header(ALLOW, allowed)
    }

    /// 404 for a path that the function does not serve.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such route")
    }

    /// 500 for a fault of ours; what it was goes to the log, never into the body.
    pub fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "the request could not be served",
        )
    }

    /// 503 that asks the client to come back in a second.
    pub fn unavailable(code: &'static str, error: &'static str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, error).with_header(RETRY_AFTER, "1")
    }

    /// Adds what a person may need to know beyond the sentence.
    pub fn with_details(mut self, details: Option<String>) -> Self {
        self.details = details.map(String::into_boxed_str);
        self
    }

    /// Adds what a person can do about it.
    pub fn with_hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    /// Adds the one header that goes with the status.
    pub fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, value));
        self
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable machine code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The sentence for a person.
    pub fn error(&self) -> &str {
        &self.error
    }

    /// The details, for `invalid_request` the path of the field at fault.
    pub fn details(&self) -> Option<&str> {
        self.details.as_deref()
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        self.hint
    }

    fn body(&self) -> Bytes {
        #[derive(Serialize)]
        struct Body<'a> {
            error: &'a str,
            code: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            details: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            hint: Option<&'static str>,
        }
        let body = Body {
            error: &self.error,
            code: &self.code,
            details: self.details(),
            hint: self.hint,
        };
        serde_json::to_vec(&body).unwrap_or_default().into()
    }
}

/// Makes the HTTP response of a function from how its request ended.
pub fn reply(outcome: Result<Answer, Problem>) -> Reply {
    reply_in(Problem::body, outcome)
}

/// The same for a face whose refusals have another body, which `body_of` makes; its media type is JSON too.
///
/// Always with `content-length`: without it Spin answers about 40 ms late under keep-alive (the last
/// chunk meets Nagle and a delayed acknowledgement).
pub(crate) fn reply_in(body_of: fn(&Problem) -> Bytes, outcome: Result<Answer, Problem>) -> Reply {
    let (status, content_type, body, header) = match outcome {
        Ok(Answer {
            status,
            content_type,
            body,
        }) => (status, content_type, body, None),
        Err(problem) => (
            problem.status,
            "application/json",
            body_of(&problem),
            problem.header,
        ),
    };
    let length = body.len();
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some((name, value)) = header {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reply_has_a_type_a_length_and_may_not_be_stored() {
        let outcomes = [Ok(Answer::json("{}")), Err(Problem::not_found())];
        for response in outcomes.map(reply) {
            assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
            assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
            assert_ne!(response.headers()[CONTENT_LENGTH], "0");
        }
    }

    #[test]
    fn an_answer_has_the_type_that_it_says() {
        let response = reply(Ok(Answer::of("text/html; charset=utf-8", "<p>")));
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(response.headers()[CONTENT_LENGTH], "3");
        let created = Answer::json("{}").with_status(StatusCode::CREATED);
        assert_eq!(reply(Ok(created)).status(), StatusCode::CREATED);
    }

    #[test]
    fn a_problem_names_the_field_and_the_reason() {
        let problem = Problem::invalid("tasks[3].type", "must not be blank");
        assert_eq!(
            problem.body(),
            r#"{"error":"tasks[3].type: must not be blank","code":"invalid_request","details":"tasks[3].type"}"#
        );
    }

    #[test]
    fn a_401_carries_a_challenge_and_a_503_says_when_to_come_back() {
        let response = reply(Err(Problem::unauthorized("missing_credentials", "who?")));
        assert_eq!(response.headers()[WWW_AUTHENTICATE], "Bearer");
        let response = reply(Err(Problem::unavailable("try_again", "busy")));
        assert_eq!(response.headers()[RETRY_AFTER], "1");
    }
}
