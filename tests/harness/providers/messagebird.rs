//! MessageBird: <https://developers.messagebird.com/api/sms-messaging/#send-outbound-sms>, <https://developers.messagebird.com/api/#api-errors>.

use serde_json::json;

use super::{Documented, PLAIN, told};
use crate::provider::{Answer, Ledger, Seen, Service};

/// The key that it takes.
pub const ACCESS_KEY: &str = "mb_test_123";

/// The errors that sending can meet.
pub const ANSWERS: &[Documented] = &[
    (
        "2 not allowed",
        401,
        PLAIN,
        r#"{"errors":[{"code":2,"description":"Request not allowed (incorrect access_key)","parameter":"access_key"}]}"#,
    ),
    (
        "9 missing body",
        422,
        PLAIN,
        r#"{"errors":[{"code":9,"description":"body is required","parameter":"body"}]}"#,
    ),
    (
        "9 no recipients",
        422,
        PLAIN,
        r#"{"errors":[{"code":9,"description":"no (correct) recipients found","parameter":"recipients"}]}"#,
    ),
    (
        "10 invalid recipient",
        422,
        PLAIN,
        r#"{"errors":[{"code":10,"description":"m","parameter":"recipient"}]}"#,
    ),
    (
        "10 invalid originator",
        422,
        PLAIN,
        r#"{"errors":[{"code":10,"description":"m","parameter":"originator"}]}"#,
    ),
    (
        "20 not found",
        404,
        PLAIN,
        r#"{"errors":[{"code":20,"description":"m","parameter":null}]}"#,
    ),
    (
        "21 bad request",
        400,
        PLAIN,
        r#"{"errors":[{"code":21,"description":"m","parameter":null}]}"#,
    ),
    (
        "25 no balance",
        402,
        PLAIN,
        r#"{"errors":[{"code":25,"description":"Not enough balance","parameter":null}]}"#,
    ),
    (
        "98 API not found",
        405,
        PLAIN,
        r#"{"errors":[{"code":98,"description":"m","parameter":null}]}"#,
    ),
    (
        "99 internal error",
        500,
        PLAIN,
        r#"{"errors":[{"code":99,"description":"m","parameter":null}]}"#,
    ),
    ("429 with a delay", 429, ("retry-after", "29"), ""),
    ("502", 502, PLAIN, ""),
];

#[derive(Default)]
pub struct MessageBird;

impl Service for MessageBird {
    fn answer(&mut self, request: &Seen, ledger: &mut Ledger) -> Answer {
        let body = request.json();
        let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
        let to = body["recipients"][0].as_str().unwrap_or_default();
        match () {
            () if request.path() != "/messages" || request.method != "POST" => {
                return told(ANSWERS, "20 not found");
            }
            () if request.header("authorization") != format!("AccessKey {ACCESS_KEY}") => {
                return told(ANSWERS, "2 not allowed");
            }
            () if text("body").is_empty() => return told(ANSWERS, "9 missing body"),
            () if text("originator").is_empty() => return told(ANSWERS, "10 invalid originator"),
            () if to.is_empty() || !to.bytes().all(|byte| byte.is_ascii_digit()) => {
                return told(ANSWERS, "9 no recipients");
            }
            () => (),
        }
        ledger.act(text("reference"), to);
        let id = format!("mb-{}", ledger.acts());
        let sent = json!({ "recipient": to, "status": "sent" });
        Answer::json(
            201,
            &json!({
                "id": id, "href": format!("https://rest.messagebird.com/messages/{id}"), "reference": text("reference"),
                "recipients": { "totalCount": 1, "totalSentCount": 1, "items": [sent] },
            }),
        )
    }

    fn error(&mut self, status: u16) -> Answer {
        Answer::json(
            status,
            &json!({ "errors": [{ "code": 99, "description": "explained", "parameter": null }] }),
        )
    }

    fn told(&mut self, what: &str, _: &Seen, _: &mut Ledger) -> Answer {
        told(ANSWERS, what)
    }
}
