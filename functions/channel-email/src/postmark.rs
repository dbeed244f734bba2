//! Postmark: <https://postmarkapp.com/developer/api/email-api#send-a-single-email>, errors as of
//! <https://postmarkapp.com/developer/api/overview#error-codes>. It has no idempotency keys; the job's id is in the message's metadata.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use millrace_delivery::configuration::{optional, required};
use millrace_delivery::request::{post, secret, with_json, without_nulls};
use millrace_delivery::{Impossible, Outcome, Provider, Ruling, by_status, json};
use millrace_worker::{Misconfiguration, retry_after};

use crate::message::Message;

pub struct Postmark {
    url: String,
    server_token: String,
    message_stream: Option<String>,
}

impl Postmark {
    pub async fn configured() -> Result<Self, Misconfiguration> {
        Ok(Self {
            url: crate::provider_url("https://api.postmarkapp.com").await?,
            server_token: required("postmark_server_token").await?,
            message_stream: optional("postmark_message_stream").await?,
        })
    }
}

impl Provider<Message> for Postmark {
    fn name(&self) -> &'static str {
        "Postmark"
    }

    fn request(&self, message: &Message, job_id: &str) -> Result<Request<Full<Bytes>>, Impossible> {
        let body = without_nulls(serde_json::json!({
            "From": message.from.header(),
            "To": message.to.header(),
            "ReplyTo": message.reply_to.as_ref().map(|it| it.header()),
            "Subject": message.subject,
            "HtmlBody": message.html,
            "TextBody": message.text,
            "MessageStream": self.message_stream,
            "Metadata": { "job_id": job_id },
        }));
        let head = post(&format!("{}/email", self.url))
            .header("x-postmark-server-token", secret(&self.server_token)?);
        with_json(head, &body)
    }

    fn ruling(&self, answer: &Response<Vec<u8>>) -> Ruling {
        let (status, headers, body) = (answer.status(), answer.headers(), json(answer));
        let code = body["ErrorCode"].as_u64();
        let outcome = match (status.as_u16(), code) {
            (200, Some(0)) => Outcome::Sent(body["MessageID"].as_str().map(str::to_owned)),
            // Offline for maintenance.
            (_, Some(100)) => Outcome::Retry {
                code: "provider_down",
                after: retry_after(headers),
            },
            // No such token; or the account is pending, or may not send.
            (_, Some(10 | 412 | 413)) => Outcome::account(),
            // Out of credits.
            (_, Some(405)) => Outcome::quota(headers),
            // There is no such sender signature, or it isn't confirmed.
            (_, Some(400 | 401)) => Outcome::Dead {
                code: "sender_refused",
            },
            // It bounced, complained, or was switched off by hand.
            (_, Some(406)) => Outcome::Inactive {
                reason: "inactive_recipient",
            },
            (_, Some(429)) => Outcome::rate_limited(retry_after(headers)),
            // What a 200 says is in its code; this one said that it took nothing.
            (200, Some(_)) => Outcome::refused(),
            _ => by_status(status, headers),
        };
        let code = code.map(|code| code.to_string()).unwrap_or_default();
        outcome.of(status, &code)
    }
}
