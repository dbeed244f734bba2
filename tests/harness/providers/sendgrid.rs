//! SendGrid: <https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send>.

use serde_json::json;

use super::{Documented, PLAIN, is_one_address, told};
use crate::provider::{Answer, Ledger, Seen, Service};

/// The key that it takes.
pub const API_KEY: &str = "SG.test.123";

const ERROR: &str = r#"{"errors":[{"message":"explained","field":"from.email","help":null}]}"#;

/// The errors that sending can meet.
pub const ANSWERS: &[Documented] = &[
    ("400 bad request", 400, PLAIN, ERROR),
    ("401 unauthorized", 401, PLAIN, ERROR),
    ("403 forbidden", 403, PLAIN, ERROR),
    ("404 not found", 404, PLAIN, ERROR),
    ("405 method not allowed", 405, PLAIN, ERROR),
    ("406 missing accept header", 406, PLAIN, ERROR),
    ("413 payload too large", 413, PLAIN, ERROR),
    (
        "429 until a second long gone",
        429,
        ("x-ratelimit-reset", "1"),
        ERROR,
    ),
    ("429 with a delay", 429, ("retry-after", "13"), ERROR),
    ("451 data residency", 451, PLAIN, ERROR),
    ("500 server error", 500, PLAIN, ERROR),
    ("503 service not available", 503, PLAIN, ERROR),
];

#[derive(Default)]
pub struct SendGrid;

impl Service for SendGrid {
    fn answer(&mut self, request: &Seen, ledger: &mut Ledger) -> Answer {
        let body = request.json();
        let personalization = &body["personalizations"][0];
        let address = |it: &serde_json::Value| it["email"].as_str().unwrap_or_default().to_owned();
        let (to, from) = (address(&personalization["to"][0]), address(&body["from"]));
        let types: Vec<_> = body["content"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|it| it["type"].as_str())
            .collect();
        // A bare address each; plain text comes before HTML.
        let is_bare = |text: &str| is_one_address(text) && !text.contains('<');
        let is_ordered = matches!(
            types[..],
            [Some("text/html")] | [Some("text/plain"), Some("text/html")]
        );
        match () {
            () if request.path() != "/v3/mail/send" => return told(ANSWERS, "404 not found"),
            () if request.method != "POST" => return told(ANSWERS, "405 method not allowed"),
            () if request.header("authorization") != format!("Bearer {API_KEY}") => {
                return told(ANSWERS, "401 unauthorized");
            }
            () if !is_bare(&to)
                || !is_bare(&from)
                || !is_ordered
                || !body["subject"].is_string() =>
            {
                return told(ANSWERS, "400 bad request");
            }
            () => (),
        }
        let job = personalization["custom_args"]["job_id"].as_str();
        ledger.act(job.unwrap_or_default(), to);
        Answer::empty(202).with("x-message-id", format!("sg-{}", ledger.acts()))
    }

    fn error(&mut self, status: u16) -> Answer {
        Answer::json(
            status,
            &json!({ "errors": [{ "message": "explained", "field": null }] }),
        )
    }

    fn told(&mut self, what: &str, _: &Seen, _: &mut Ledger) -> Answer {
        told(ANSWERS, what)
    }
}
