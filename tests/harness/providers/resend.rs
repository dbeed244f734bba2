//! Resend: <https://resend.com/docs/api-reference/emails/send-email>, <https://resend.com/docs/api-reference/errors>.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Documented, PLAIN, is_one_address, told};
use crate::provider::{Answer, Idempotency, Key, Ledger, Seen, Service};

/// What it takes as a key.
pub const API_KEY: &str = "re_test_123";

/// The errors that sending can meet.
pub const ANSWERS: &[Documented] = &[
    (
        "invalid_idempotency_key",
        400,
        PLAIN,
        r#"{"statusCode":400,"name":"invalid_idempotency_key","message":"The key must be between 1-256 chars."}"#,
    ),
    (
        "validation_error",
        400,
        PLAIN,
        r#"{"statusCode":400,"name":"validation_error","message":"We found an error with one or more fields in the request."}"#,
    ),
    (
        "missing_api_key",
        401,
        PLAIN,
        r#"{"statusCode":401,"name":"missing_api_key","message":"Missing API key in the authorization header."}"#,
    ),
    (
        "restricted_api_key",
        401,
        PLAIN,
        r#"{"statusCode":401,"name":"restricted_api_key","message":"This API key is restricted to only send emails."}"#,
    ),
    (
        "invalid_api_key",
        403,
        PLAIN,
        r#"{"statusCode":403,"name":"invalid_api_key","message":"API key is invalid."}"#,
    ),
    (
        "domain not verified",
        403,
        PLAIN,
        r#"{"statusCode":403,"name":"validation_error","message":"The example.com domain is not verified. Please, add and verify your domain."}"#,
    ),
    (
        "not_found",
        404,
        PLAIN,
        r#"{"statusCode":404,"name":"not_found","message":"The requested endpoint does not exist."}"#,
    ),
    (
        "method_not_allowed",
        405,
        PLAIN,
        r#"{"statusCode":405,"name":"method_not_allowed","message":"Method is not allowed for the requested path."}"#,
    ),
    (
        "invalid_idempotent_request",
        409,
        PLAIN,
        r#"{"statusCode":409,"name":"invalid_idempotent_request","message":"Same idempotency key used with a different request payload."}"#,
    ),
    (
        "concurrent_idempotent_requests",
        409,
        PLAIN,
        r#"{"statusCode":409,"name":"concurrent_idempotent_requests","message":"Same idempotency key used while original request is still in progress."}"#,
    ),
    (
        "invalid_from_address",
        422,
        PLAIN,
        r#"{"statusCode":422,"name":"invalid_from_address","message":"Invalid from field."}"#,
    ),
    (
        "invalid_parameter",
        422,
        PLAIN,
        r#"{"statusCode":422,"name":"invalid_parameter","message":"The parameter must be a valid UUID."}"#,
    ),
    (
        "missing_required_field",
        422,
        PLAIN,
        r#"{"statusCode":422,"name":"missing_required_field","message":"The request body is missing one or more required fields."}"#,
    ),
    (
        "daily_quota_exceeded",
        429,
        PLAIN,
        r#"{"statusCode":429,"name":"daily_quota_exceeded","message":"You have reached your daily email sending quota."}"#,
    ),
    (
        "monthly_quota_exceeded",
        429,
        PLAIN,
        r#"{"statusCode":429,"name":"monthly_quota_exceeded","message":"You have reached your monthly email sending quota."}"#,
    ),
    (
        "rate_limit_exceeded",
        429,
        ("retry-after", "7"),
        r#"{"statusCode":429,"name":"rate_limit_exceeded","message":"Too many requests."}"#,
    ),
    (
        "rate limit by its own header",
        429,
        ("ratelimit-reset", "11"),
        r#"{"statusCode":429,"name":"rate_limit_exceeded","message":"Too many requests."}"#,
    ),
    (
        "security_error",
        451,
        PLAIN,
        r#"{"statusCode":451,"name":"security_error","message":"We may have found a security issue with the request."}"#,
    ),
    (
        "application_error",
        500,
        PLAIN,
        r#"{"statusCode":500,"name":"application_error","message":"An unexpected error occurred."}"#,
    ),
];

pub struct Resend {
    pub keys: Idempotency,
}

impl Resend {
    /// It knows a key for 24 hours.
    pub fn new() -> Self {
        Self {
            keys: Idempotency::new(Duration::from_secs(24 * 3600)),
        }
    }
}

impl Default for Resend {
    fn default() -> Self {
        Self::new()
    }
}

impl Service for Resend {
    fn answer(&mut self, request: &Seen, ledger: &mut Ledger) -> Answer {
        if let Some(refusal) = refusal(request) {
            return told(ANSWERS, refusal);
        }
        let key = request.header("idempotency-key");
        match self.keys.look(key, &request.body, ledger) {
            Key::Same(answer) => return answer,
            Key::Other => return told(ANSWERS, "invalid_idempotent_request"),
            Key::New => ledger.act(tag(&request.json()), request.json()["to"][0].to_string()),
        }
        let answer = Answer::json(200, &json!({ "id": format!("re-{}", ledger.acts()) }));
        self.keys.remember(key, &request.body, &answer, ledger);
        answer
    }

    fn error(&mut self, status: u16) -> Answer {
        let body = json!({ "statusCode": status, "name": "application_error", "message": "An unexpected error occurred." });
        Answer::json(status, &body)
    }

    fn told(&mut self, what: &str, _: &Seen, _: &mut Ledger) -> Answer {
        told(ANSWERS, what)
    }
}

fn tag(body: &Value) -> String {
    body["tags"][0]["value"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn refusal(request: &Seen) -> Option<&'static str> {
    let body = request.json();
    let is_text = |field: &str| body[field].as_str().is_some_and(|text| !text.is_empty());
    let addresses = [&body["from"], &body["to"][0]].map(|it| it.as_str().unwrap_or_default());
    let tag = tag(&body);
    let is_tag = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    match () {
        () if request.path() != "/emails" => Some("not_found"),
        () if request.method != "POST" => Some("method_not_allowed"),
        () if request.header("authorization").is_empty() => Some("missing_api_key"),
        () if request.header("authorization") != format!("Bearer {API_KEY}") => {
            Some("invalid_api_key")
        }
        () if request.header("user-agent").is_empty() => Some("invalid_api_key"),
        () if !(1..=256).contains(&request.header("idempotency-key").len()) => {
            Some("invalid_idempotency_key")
        }
        () if request.header("content-type") != "application/json" => Some("validation_error"),
        () if !is_text("subject") || !is_text("html") => Some("missing_required_field"),
        () if !addresses.iter().all(|it| is_one_address(it)) => Some("validation_error"),
        () if tag.is_empty() || tag.len() > 256 || !tag.chars().all(is_tag) => {
            Some("validation_error")
        }
        () => None,
    }
}
