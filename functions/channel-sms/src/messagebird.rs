//! MessageBird: <https://developers.messagebird.com/api/sms-messaging/#send-outbound-sms>, errors as of
//! <https://developers.messagebird.com/api/#api-errors>. It has no idempotency keys; the job's id is the message's `reference`.

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body_util::Full;
use millrace_delivery::configuration::required;
use millrace_delivery::request::{post, secret, with_json};
use millrace_delivery::{Impossible, Outcome, Provider, Ruling, by_status, json};
use millrace_worker::{Misconfiguration, retry_after};

use crate::message::Message;
use crate::sender::Sender;

pub struct MessageBird {
    url: String,
    access_key: String,
    sender: Sender,
}

impl MessageBird {
    pub async fn configured() -> Result<Self, Misconfiguration> {
        Ok(Self {
            url: crate::provider_url("https://rest.messagebird.com").await?,
            access_key: required("messagebird_access_key").await?,
            sender: Sender::without_service().await?,
        })
    }
}

impl Provider<Message> for MessageBird {
    fn name(&self) -> &'static str {
        "MessageBird"
    }

    fn request(&self, message: &Message, job_id: &str) -> Result<Request<Full<Bytes>>, Impossible> {
        let body = serde_json::json!({
            "originator": self.sender.without_plus(),
            "recipients": [message.to.digits()],
            "body": message.body,
            "reference": job_id,
            "datacoding": "auto",
        });
        let authorization = secret(&format!("AccessKey {}", self.access_key))?;
        let head = post(&format!("{}/messages", self.url)).header(AUTHORIZATION, authorization);
        with_json(head, &body)
    }

    fn ruling(&self, answer: &Response<Vec<u8>>) -> Ruling {
        let (status, headers, body) = (answer.status(), answer.headers(), json(answer));
        let error = &body["errors"][0];
        let (code, parameter) = (error["code"].as_u64(), error["parameter"].as_str());
        let outcome = match (status.as_u16(), code) {
            (200..=299, _) if body["id"].is_string() => {
                Outcome::Sent(body["id"].as_str().map(str::to_owned))
            }
            (429, _) => Outcome::rate_limited(retry_after(headers)),
            // An internal error, whatever the status.
            (500.., _) | (_, Some(99)) => Outcome::Ambiguous { after: None },
            // The access key.
            (_, Some(2)) => Outcome::account(),
            // No balance.
            (_, Some(25)) => Outcome::quota(headers),
            // Parameters that are missing or wrong.
            (400..=499, Some(9 | 10)) => match parameter {
                Some("originator") => Outcome::sender(),
                Some("recipient" | "recipients") => Outcome::Dead {
                    code: "recipient_refused",
                },
                _ => Outcome::refused(),
            },
            // There is no such thing at that address, or it can't be done to it.
            (_, Some(20 | 98)) => Outcome::no_such_resource(),
            (400..=499, Some(21)) => Outcome::refused(),
            _ => by_status(status, headers),
        };
        let code = code.map(|code| code.to_string()).unwrap_or_default();
        outcome.of(status, &code)
    }
}
