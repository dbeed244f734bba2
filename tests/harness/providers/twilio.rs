//! Twilio: <https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource>, <https://www.twilio.com/docs/api/errors>.

use serde_json::json;

use super::{Documented, PLAIN, told};
use crate::provider::{Answer, Ledger, Seen, Service};

/// The account that it knows.
pub const ACCOUNT_SID: &str = "AC0123456789abcdef0123456789abcdef";
pub const AUTH_TOKEN: &str = "twilio-token";

/// The errors that sending can meet.
pub const ANSWERS: &[Documented] = &[
    (
        "20003 authentication",
        401,
        PLAIN,
        r#"{"code":20003,"message":"Authenticate","more_info":"https://www.twilio.com/docs/errors/20003","status":401}"#,
    ),
    (
        "20404 not found",
        404,
        PLAIN,
        r#"{"code":20404,"message":"m","status":404}"#,
    ),
    (
        "20429 too many requests",
        429,
        PLAIN,
        r#"{"code":20429,"message":"m","status":429}"#,
    ),
    (
        "21211 invalid to",
        400,
        PLAIN,
        r#"{"code":21211,"message":"m","status":400}"#,
    ),
    (
        "21212 invalid from",
        400,
        PLAIN,
        r#"{"code":21212,"message":"m","status":400}"#,
    ),
    (
        "21408 region",
        400,
        PLAIN,
        r#"{"code":21408,"message":"m","status":400}"#,
    ),
    (
        "21602 no body",
        400,
        PLAIN,
        r#"{"code":21602,"message":"m","status":400}"#,
    ),
    (
        "21603 no from",
        400,
        PLAIN,
        r#"{"code":21603,"message":"m","status":400}"#,
    ),
    (
        "21604 no to",
        400,
        PLAIN,
        r#"{"code":21604,"message":"m","status":400}"#,
    ),
    (
        "21606 from can't send",
        400,
        PLAIN,
        r#"{"code":21606,"message":"m","status":400}"#,
    ),
    (
        "21608 trial",
        400,
        PLAIN,
        r#"{"code":21608,"message":"m","status":400}"#,
    ),
    (
        "21610 unsubscribed",
        400,
        PLAIN,
        r#"{"code":21610,"message":"Attempt to send to unsubscribed recipient","status":400}"#,
    ),
    (
        "21611 queue full",
        400,
        PLAIN,
        r#"{"code":21611,"message":"m","status":400}"#,
    ),
    (
        "21612 no route",
        400,
        PLAIN,
        r#"{"code":21612,"message":"m","status":400}"#,
    ),
    (
        "21614 no mobile number",
        400,
        PLAIN,
        r#"{"code":21614,"message":"m","status":400}"#,
    ),
    (
        "21617 too long",
        400,
        PLAIN,
        r#"{"code":21617,"message":"m","status":400}"#,
    ),
    (
        "63038 daily limit",
        429,
        PLAIN,
        r#"{"code":63038,"message":"m","status":429}"#,
    ),
    (
        "429 with a delay",
        429,
        ("retry-after", "19"),
        r#"{"code":20429,"message":"m","status":429}"#,
    ),
    (
        "500",
        500,
        PLAIN,
        r#"{"code":20500,"message":"m","status":500}"#,
    ),
    ("503", 503, PLAIN, ""),
];

#[derive(Default)]
pub struct Twilio;

impl Service for Twilio {
    fn answer(&mut self, request: &Seen, ledger: &mut Ledger) -> Answer {
        let form = request.form();
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        let path = format!("/2010-04-01/Accounts/{ACCOUNT_SID}/Messages.json");
        let is_number = field("To")
            .strip_prefix('+')
            .is_some_and(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
        match () {
            () if request.path() != path || request.method != "POST" => {
                return told(ANSWERS, "20404 not found");
            }
            () if request.basic() != Some((ACCOUNT_SID.to_owned(), AUTH_TOKEN.to_owned())) => {
                return told(ANSWERS, "20003 authentication");
            }
            () if !is_number => return told(ANSWERS, "21211 invalid to"),
            () if field("From").is_empty() && field("MessagingServiceSid").is_empty() => {
                return told(ANSWERS, "21603 no from");
            }
            () if field("Body").is_empty() => return told(ANSWERS, "21602 no body"),
            () => (),
        }
        // Nothing else in the request tells one message from another.
        ledger.act(field("To"), field("Body"));
        let sid = format!("SM{:032x}", ledger.acts());
        Answer::json(
            201,
            &json!({ "sid": sid, "status": "queued", "to": field("To"), "error_code": null }),
        )
    }

    fn error(&mut self, status: u16) -> Answer {
        Answer::json(
            status,
            &json!({ "code": 20000 + u32::from(status), "message": "explained", "status": status }),
        )
    }

    fn told(&mut self, what: &str, _: &Seen, _: &mut Ledger) -> Answer {
        told(ANSWERS, what)
    }
}
