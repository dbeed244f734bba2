//! Mailgun: <https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages>.

use serde_json::json;

use super::{Documented, PLAIN, is_one_address, told};
use crate::provider::{Answer, Ledger, Seen, Service};

/// The key and the domain that it knows.
pub const API_KEY: &str = "key-test-123";
pub const DOMAIN: &str = "mg.example.com";

/// The errors that sending can meet.
pub const ANSWERS: &[Documented] = &[
    (
        "400 bad request",
        400,
        PLAIN,
        r#"{"message":"to parameter is not a valid address. please check documentation"}"#,
    ),
    (
        "401 unauthorized",
        401,
        PLAIN,
        r#"{"message":"Invalid private key"}"#,
    ),
    (
        "402 request failed",
        402,
        PLAIN,
        r#"{"message":"Request failed"}"#,
    ),
    ("403 forbidden", 403, PLAIN, r#"{"message":"Forbidden"}"#),
    (
        "404 not found",
        404,
        PLAIN,
        r#"{"message":"Domain not found: mg.example.com"}"#,
    ),
    (
        "413 too large",
        413,
        PLAIN,
        r#"{"message":"Request Entity Too Large"}"#,
    ),
    (
        "429 with a delay",
        429,
        ("retry-after", "17"),
        r#"{"message":"Too many requests"}"#,
    ),
    (
        "500 internal error",
        500,
        PLAIN,
        r#"{"message":"Internal Server Error"}"#,
    ),
];

#[derive(Default)]
pub struct Mailgun;

impl Service for Mailgun {
    fn answer(&mut self, request: &Seen, ledger: &mut Ledger) -> Answer {
        let form = request.form();
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        match () {
            () if request.path() != format!("/v3/{DOMAIN}/messages")
                || request.method != "POST" =>
            {
                return told(ANSWERS, "404 not found");
            }
            () if request.basic() != Some(("api".to_owned(), API_KEY.to_owned())) => {
                return told(ANSWERS, "401 unauthorized");
            }
            () if request.header("content-type") != "application/x-www-form-urlencoded"
                || !is_one_address(field("to"))
                || !is_one_address(field("from"))
                || field("html").is_empty() =>
            {
                return told(ANSWERS, "400 bad request");
            }
            () => (),
        }
        ledger.act(field("v:job_id"), field("to"));
        let id = format!("<{}@{DOMAIN}>", ledger.acts());
        Answer::json(200, &json!({ "id": id, "message": "Queued. Thank you." }))
    }

    fn error(&mut self, status: u16) -> Answer {
        Answer::json(status, &json!({ "message": "explained" }))
    }

    fn told(&mut self, what: &str, _: &Seen, _: &mut Ledger) -> Answer {
        told(ANSWERS, what)
    }
}
