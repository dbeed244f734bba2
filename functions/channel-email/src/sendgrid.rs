//! SendGrid: <https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send>, errors as of
//! <https://www.twilio.com/docs/sendgrid/api-reference/how-to-use-the-sendgrid-v3-api/errors>, which are known by their status alone. It has no
//! idempotency keys; the job's id is a custom argument, which its events repeat. It takes messages to suppressed addresses and drops
//! them afterwards, so nothing about those is learnt here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use millrace_delivery::configuration::required;
use millrace_delivery::request::{post, secret, with_json, without_nulls};
use millrace_delivery::{Impossible, Outcome, Provider, Ruling, by_status};
use millrace_worker::{Misconfiguration, retry_after};
use serde_json::{Value, json};

use crate::mailbox::Mailbox;
use crate::message::Message;

pub struct SendGrid {
    url: String,
    api_key: String,
}

impl SendGrid {
    pub async fn configured() -> Result<Self, Misconfiguration> {
        Ok(Self {
            url: crate::provider_url("https://api.sendgrid.com").await?,
            api_key: required("sendgrid_api_key").await?,
        })
    }
}

impl Provider<Message> for SendGrid {
    fn name(&self) -> &'static str {
        "SendGrid"
    }

    fn request(&self, message: &Message, job_id: &str) -> Result<Request<Full<Bytes>>, Impossible> {
        // Plain text has to stand first.
        let text = message.text.as_ref();
        let text = text.map(|text| json!({ "type": "text/plain", "value": text }));
        let html = json!({ "type": "text/html", "value": message.html });
        let content: Vec<Value> = text.into_iter().chain([html]).collect();
        let body = without_nulls(json!({
            "personalizations": [{ "to": [party(&message.to)], "custom_args": { "job_id": job_id } }],
            "from": party(&message.from),
            "reply_to": message.reply_to.as_ref().map(party),
            "subject": message.subject,
            "content": content,
        }));
        let head = post(&format!("{}/v3/mail/send", self.url))
            .header(AUTHORIZATION, secret(&format!("Bearer {}", self.api_key))?);
        with_json(head, &body)
    }

    fn ruling(&self, answer: &Response<Vec<u8>>) -> Ruling {
        let (status, headers) = (answer.status(), answer.headers());
        let outcome = match status.as_u16() {
            202 => Outcome::Sent(header(headers, "x-message-id").map(str::to_owned)),
            // Another region has to be asked; no message will do better.
            451 => Outcome::account(),
            429 => Outcome::rate_limited(retry_after(headers).or_else(|| until_reset(headers))),
            _ => by_status(status, headers),
        };
        outcome.of(status, "")
    }
}

fn party(mailbox: &Mailbox) -> Value {
    without_nulls(json!({ "email": mailbox.address(), "name": mailbox.name() }))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// `X-RateLimit-Reset` is the second since 1970 at which there is room again; within the hour, or it is not believed.
fn until_reset(headers: &HeaderMap) -> Option<Duration> {
    let second = header(headers, "x-ratelimit-reset")?.trim().parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    let left = Duration::from_secs(second).checked_sub(now)?;
    Some(left).filter(|left| *left <= Duration::from_secs(3600))
}
