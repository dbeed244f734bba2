//! Resend: <https://resend.com/docs/api-reference/emails/send-email>, errors as of <https://resend.com/docs/api-reference/errors>.
//!
//! `Idempotency-Key` makes asking again safe for 24 hours (<https://resend.com/docs/dashboard/emails/idempotency-keys>), which is longer
//! than the retries of a job take with the queue's defaults.

use std::time::Duration;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use millrace_delivery::configuration::required;
use millrace_delivery::request::{post, secret, with_json, without_nulls};
use millrace_delivery::{Impossible, Outcome, Provider, Ruling, by_status, json};
use millrace_worker::{Misconfiguration, retry_after};

use crate::message::Message;

pub struct Resend {
    url: String,
    api_key: String,
}

impl Resend {
    pub async fn configured() -> Result<Self, Misconfiguration> {
        Ok(Self {
            url: crate::provider_url("https://api.resend.com").await?,
            api_key: required("resend_api_key").await?,
        })
    }
}

impl Provider<Message> for Resend {
    fn name(&self) -> &'static str {
        "Resend"
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    fn request(&self, message: &Message, job_id: &str) -> Result<Request<Full<Bytes>>, Impossible> {
        let body = without_nulls(serde_json::json!({
            "from": message.from.header(),
            "to": [message.to.header()],
            "reply_to": message.reply_to.as_ref().map(|it| it.header()),
            "subject": message.subject,
            "html": message.html,
            "text": message.text,
            "tags": [{ "name": "job_id", "value": job_id }],
        }));
        let head = post(&format!("{}/emails", self.url))
            .header(AUTHORIZATION, secret(&format!("Bearer {}", self.api_key))?)
            .header("idempotency-key", job_id);
        with_json(head, &body)
    }

    fn ruling(&self, answer: &Response<Vec<u8>>) -> Ruling {
        let (status, headers, body) = (answer.status(), answer.headers(), json(answer));
        let code = body["name"].as_str().unwrap_or_default();
        let outcome = match (status.as_u16(), code) {
            (200..=299, _) if body["id"].is_string() => {
                Outcome::Sent(body["id"].as_str().map(str::to_owned))
            }
            // The domain of the sender is not verified, or an account on trial writes to somebody else.
            (403, "validation_error") => Outcome::Dead {
                code: "sender_refused",
            },
            // The key's first request said something else, so that one is what was sent.
            (409, "invalid_idempotent_request") => Outcome::Dead {
                code: "idempotency_conflict",
            },
            // The first request under this key is still at work.
            (409, _) => Outcome::Retry {
                code: "in_progress",
                after: retry_after(headers),
            },
            (429, "daily_quota_exceeded" | "monthly_quota_exceeded") => Outcome::quota(headers),
            (429, _) => Outcome::rate_limited(until_reset(headers)),
            _ => by_status(status, headers),
        };
        outcome.of(status, code)
    }
}

/// Seconds until there is room again (<https://resend.com/docs/api-reference/rate-limit>).
fn until_reset(headers: &HeaderMap) -> Option<Duration> {
    retry_after(headers).or_else(|| {
        let seconds = headers.get("ratelimit-reset")?.to_str().ok()?;
        Some(Duration::from_secs(
            seconds.trim().parse::<u16>().ok()?.into(),
        ))
    })
}
