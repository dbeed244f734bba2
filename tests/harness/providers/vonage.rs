//! Vonage's SMS API: <https://developer.vonage.com/en/api/sms>, <https://developer.vonage.com/en/api-errors/sms>.

use serde_json::json;

use super::{Documented, PLAIN, told};
use crate::provider::{Answer, Ledger, Seen, Service};

/// The account that it knows.
pub const API_KEY: &str = "abcd1234";
pub const API_SECRET: &str = "vonage-secret";

/// The errors that sending can meet: each is a 200.
pub const ANSWERS: &[Documented] = &[
    (
        "1 throttled",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"1","error-text":"Throughput Rate Exceeded"}]}"#,
    ),
    (
        "2 missing parameters",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"2","error-text":"Missing to param"}]}"#,
    ),
    (
        "3 invalid parameters",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"3","error-text":"m"}]}"#,
    ),
    (
        "4 invalid credentials",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"4","error-text":"m"}]}"#,
    ),
    (
        "5 internal error",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"5","error-text":"m"}]}"#,
    ),
    (
        "6 invalid message",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"6","error-text":"m"}]}"#,
    ),
    (
        "7 number barred",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"7","error-text":"m"}]}"#,
    ),
    (
        "8 account barred",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"8","error-text":"m"}]}"#,
    ),
    (
        "9 quota violation",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"9","error-text":"m"}]}"#,
    ),
    (
        "10 too many binds",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"10","error-text":"m"}]}"#,
    ),
    (
        "11 not for HTTP",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"11","error-text":"m"}]}"#,
    ),
    (
        "12 too long",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"12","error-text":"m"}]}"#,
    ),
    (
        "14 invalid signature",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"14","error-text":"m"}]}"#,
    ),
    (
        "15 invalid sender",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"15","error-text":"m"}]}"#,
    ),
    (
        "22 network code",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"22","error-text":"m"}]}"#,
    ),
    (
        "23 callback",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"23","error-text":"m"}]}"#,
    ),
    (
        "29 not whitelisted",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"29","error-text":"m"}]}"#,
    ),
    (
        "32 signature and secret",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"32","error-text":"m"}]}"#,
    ),
    (
        "33 deactivated",
        200,
        PLAIN,
        r#"{"message-count":"1","messages":[{"status":"33","error-text":"m"}]}"#,
    ),
    (
        "one part of two refused",
        200,
        PLAIN,
        r#"{"message-count":"2","messages":[{"status":"0","message-id":"m"},{"status":"1","error-text":"m"}]}"#,
    ),
    (
        "both parts refused",
        200,
        PLAIN,
        r#"{"message-count":"2","messages":[{"status":"12","error-text":"m"},{"status":"1","error-text":"m"}]}"#,
    ),
    ("429 with a delay", 429, ("retry-after", "23"), ""),
    ("500", 500, PLAIN, ""),
];

#[derive(Default)]
pub struct Vonage;

impl Service for Vonage {
    fn answer(&mut self, request: &Seen, ledger: &mut Ledger) -> Answer {
        let form = request.form();
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let is_number = |text: &str| {
            (7..=15).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        match () {
            () if request.path() != "/sms/json" || request.method != "POST" => {
                return Answer::empty(404);
            }
            () if field("api_key") != API_KEY || field("api_secret") != API_SECRET => {
                return told(ANSWERS, "4 invalid credentials");
            }
            () if field("from").is_empty() || field("text").is_empty() => {
                return told(ANSWERS, "2 missing parameters");
            }
            () if !is_number(field("to")) || !["text", "unicode"].contains(&field("type")) => {
                return told(ANSWERS, "3 invalid parameters");
            }
            () if field("client-ref").len() > 100 => return told(ANSWERS, "3 invalid parameters"),
            () => (),
        }
        ledger.act(field("client-ref"), field("to"));
        let message = json!({
            "to": field("to"), "message-id": format!("vo-{}", ledger.acts()), "status": "0", "remaining-balance": "3.14",
            "message-price": "0.03", "network": "12345", "client-ref": field("client-ref"),
        });
        Answer::json(200, &json!({ "message-count": "1", "messages": [message] }))
    }

    fn told(&mut self, what: &str, _: &Seen, _: &mut Ledger) -> Answer {
        told(ANSWERS, what)
    }
}
