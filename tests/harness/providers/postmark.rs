//! Postmark: <https://postmarkapp.com/developer/api/email-api>, <https://postmarkapp.com/developer/api/overview#error-codes>.

use serde_json::json;

use super::{Documented, PLAIN, is_one_address, told};
use crate::provider::{Answer, Ledger, Seen, Service};

/// The server token that it takes.
pub const TOKEN: &str = "2d1c6c2e-test";

/// The errors that sending can meet.
pub const ANSWERS: &[Documented] = &[
    (
        "10 bad token",
        401,
        PLAIN,
        r#"{"ErrorCode":10,"Message":"The Server Token you provided in the X-Postmark-Server-Token request header was invalid."}"#,
    ),
    (
        "100 maintenance",
        503,
        PLAIN,
        r#"{"ErrorCode":100,"Message":"The Postmark API is offline for maintenance."}"#,
    ),
    (
        "300 invalid email request",
        422,
        PLAIN,
        r#"{"ErrorCode":300,"Message":"Invalid 'To' address: 'x'."}"#,
    ),
    (
        "400 sender signature not found",
        422,
        PLAIN,
        r#"{"ErrorCode":400,"Message":"The 'From' address you supplied is not a Sender Signature on your account."}"#,
    ),
    (
        "401 sender signature not confirmed",
        422,
        PLAIN,
        r#"{"ErrorCode":401,"Message":"The Sender Signature is not confirmed."}"#,
    ),
    (
        "402 invalid JSON",
        422,
        PLAIN,
        r#"{"ErrorCode":402,"Message":"The JSON input you provided is syntactically incorrect."}"#,
    ),
    (
        "403 incompatible JSON",
        422,
        PLAIN,
        r#"{"ErrorCode":403,"Message":"The JSON input you provided is syntactically correct, but isn't the one we expect."}"#,
    ),
    (
        "405 not allowed to send",
        422,
        PLAIN,
        r#"{"ErrorCode":405,"Message":"You ran out of credits."}"#,
    ),
    (
        "406 inactive recipient",
        422,
        PLAIN,
        r#"{"ErrorCode":406,"Message":"You tried to send to a recipient that has been marked as inactive. Found inactive addresses: x@example.com."}"#,
    ),
    (
        "409 JSON required",
        422,
        PLAIN,
        r#"{"ErrorCode":409,"Message":"Your HTTP request doesn't have the Accept and Content-Type headers set to application/json."}"#,
    ),
    (
        "412 account is pending",
        422,
        PLAIN,
        r#"{"ErrorCode":412,"Message":"Your account is pending approval."}"#,
    ),
    (
        "413 account may not send",
        422,
        PLAIN,
        r#"{"ErrorCode":413,"Message":"Your account is not allowed to send."}"#,
    ),
    ("413 payload too large", 413, PLAIN, ""),
    ("415 media type", 415, PLAIN, ""),
    (
        "429 rate limit",
        429,
        ("retry-after", "9"),
        r#"{"ErrorCode":429,"Message":"Rate limit exceeded."}"#,
    ),
    (
        "403 of the network",
        403,
        PLAIN,
        "<html><body><h1>403 Forbidden</h1></body></html>",
    ),
    ("500", 500, PLAIN, ""),
    ("503", 503, PLAIN, ""),
];

#[derive(Default)]
pub struct Postmark;

impl Service for Postmark {
    fn answer(&mut self, request: &Seen, ledger: &mut Ledger) -> Answer {
        let body = request.json();
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        let is_json = |header: &str| request.header(header) == "application/json";
        let metadata = body["Metadata"]["job_id"].as_str().unwrap_or_default();
        match () {
            () if request.path() != "/email" || request.method != "POST" => {
                return Answer::empty(404);
            }
            () if request.header("x-postmark-server-token") != TOKEN => {
                return told(ANSWERS, "10 bad token");
            }
            () if !is_json("accept") || !is_json("content-type") => {
                return told(ANSWERS, "409 JSON required");
            }
            () if !body.is_object() => return told(ANSWERS, "402 invalid JSON"),
            // Field names have at most 20 characters, values 80.
            () if !is_one_address(&text("To"))
                || !is_one_address(&text("From"))
                || text("HtmlBody").is_empty()
                || metadata.len() > 80 =>
            {
                return told(ANSWERS, "300 invalid email request");
            }
            () => (),
        }
        ledger.act(metadata, text("To"));
        Answer::json(
            200,
            &json!({
                "To": text("To"), "SubmittedAt": "2026-11-22T12:00:00Z", "MessageID": format!("pm-{}", ledger.acts()),
                "ErrorCode": 0, "Message": "OK",
            }),
        )
    }

    fn error(&mut self, status: u16) -> Answer {
        match status {
            429 => Answer::json(
                429,
                &json!({ "ErrorCode": 429, "Message": "Rate limit exceeded." }),
            ),
            status => Answer::empty(status),
        }
    }

    fn told(&mut self, what: &str, _: &Seen, _: &mut Ledger) -> Answer {
        told(ANSWERS, what)
    }
}
