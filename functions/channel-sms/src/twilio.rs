//! Twilio: <https://www.twilio.com/docs/messaging/api/message-resource#create-a-message-resource>, errors as of
//! <https://www.twilio.com/docs/api/errors>. A new message has no idempotency key and no reference of the client's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body_util::Full;
use millrace_delivery::configuration::{required, wrong};
use millrace_delivery::request::{post, secret, with_form};
use millrace_delivery::{Impossible, Outcome, Provider, Ruling, by_status, json};
use millrace_worker::{Misconfiguration, retry_after};

use crate::message::Message;
use crate::sender::Sender;

pub struct Twilio {
    url: String,
    account_sid: String,
    auth_token: String,
    sender: Sender,
}

impl Twilio {
    pub async fn configured() -> Result<Self, Misconfiguration> {
        let account_sid = required("twilio_account_sid").await?;
        // It becomes a part of the path.
        let digits = account_sid.strip_prefix("AC").unwrap_or_default();
        if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong(
                "twilio_account_sid",
                "is not AC and 32 hexadecimal digits",
            ));
        }
        Ok(Self {
            url: crate::provider_url("https://api.twilio.com").await?,
            account_sid,
            auth_token: required("twilio_auth_token").await?,
            sender: Sender::configured().await?,
        })
    }
}

impl Provider<Message> for Twilio {
    fn name(&self) -> &'static str {
        "Twilio"
    }

    fn request(
        &self,
        message: &Message,
        _job_id: &str,
    ) -> Result<Request<Full<Bytes>>, Impossible> {
        let account = &self.account_sid;
        let from = match self.sender {
            Sender::Service(_) => "MessagingServiceSid",
            _ => "From",
        };
        let credentials = STANDARD.encode(format!("{account}:{}", self.auth_token));
        let head = post(&format!(
            "{}/2010-04-01/Accounts/{account}/Messages.json",
            self.url
        ))
        .header(AUTHORIZATION, secret(&format!("Basic {credentials}"))?);
        let fields = [
            ("To", message.to.as_str()),
            (from, self.sender.as_str()),
            ("Body", message.body.as_str()),
        ];
        with_form(head, fields)
    }

    fn ruling(&self, answer: &Response<Vec<u8>>) -> Ruling {
        let (status, headers, body) = (answer.status(), answer.headers(), json(answer));
        let code = body["code"].as_u64();
        let outcome = match (status.as_u16(), code) {
            (200..=299, _) if body["sid"].is_string() => {
                Outcome::Sent(body["sid"].as_str().map(str::to_owned))
            }
            (500.., _) => by_status(status, headers),
            // The recipient said STOP.
            (_, Some(21610)) => Outcome::Inactive {
                reason: "unsubscribed",
            },
            // The day's allowance.
            (_, Some(63038)) => Outcome::quota(headers),
            // Too many requests, or this sender's own queue is full.
            (429, _) | (_, Some(20429 | 21611)) => Outcome::rate_limited(retry_after(headers)),
            // The credentials; an account that is suspended or not active; one on trial that writes to others.
            (_, Some(20003 | 20005 | 20008 | 10001)) => Outcome::account(),
            // The sender is no number, not the account's, or can't send texts.
            (_, Some(21212 | 21603 | 21606 | 21659 | 21660 | 21661 | 21703 | 21704)) => {
                Outcome::sender()
            }
            (_, Some(21617)) => Outcome::Dead {
                code: "message_too_long",
            },
            // The number: none, not reachable, no mobile one, a country that is not enabled, a trial's unverified one, one that the
            // sender has no way to.
            (_, Some(21211 | 21214 | 21408 | 21604 | 21608 | 21612 | 21614 | 21635)) => {
                Outcome::Dead {
                    code: "recipient_refused",
                }
            }
            _ => by_status(status, headers),
        };
        let code = code.map(|code| code.to_string()).unwrap_or_default();
        outcome.of(status, &code)
    }
}
