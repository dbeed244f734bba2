//! Vonage, its SMS API: <https://developer.vonage.com/en/api/sms>, errors as of <https://developer.vonage.com/en/api-errors/sms>. Every answer is a
//! 200; what came of the message is its `status`. It has no idempotency keys; the job's id is `client-ref`, which its reports repeat.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use millrace_delivery::configuration::required;
use millrace_delivery::request::{post, with_form};
use millrace_delivery::{Impossible, Outcome, Provider, Ruling, by_status, json};
use millrace_worker::{Misconfiguration, retry_after};

use crate::gsm;
use crate::message::Message;
use crate::sender::Sender;

pub struct Vonage {
    url: String,
    api_key: String,
    api_secret: String,
    sender: Sender,
}

impl Vonage {
    pub async fn configured() -> Result<Self, Misconfiguration> {
        Ok(Self {
            url: crate::provider_url("https://rest.nexmo.com").await?,
            api_key: required("vonage_api_key").await?,
            api_secret: required("vonage_api_secret").await?,
            sender: Sender::without_service().await?,
        })
    }
}

impl Provider<Message> for Vonage {
    fn name(&self) -> &'static str {
        "Vonage"
    }

    fn request(&self, message: &Message, job_id: &str) -> Result<Request<Full<Bytes>>, Impossible> {
        let kind = match gsm::has(&message.body) {
            true => "text",
            false => "unicode",
        };
        let fields = [
            ("api_key", self.api_key.as_str()),
            ("api_secret", &self.api_secret),
            ("from", self.sender.without_plus()),
            ("to", message.to.digits()),
            ("text", &message.body),
            ("type", kind),
            ("client-ref", job_id),
        ];
        with_form(post(&format!("{}/sms/json", self.url)), fields)
    }

    fn ruling(&self, answer: &Response<Vec<u8>>) -> Ruling {
        let (status, headers, body) = (answer.status(), answer.headers(), json(answer));
        // A long text is several messages, which are taken or refused together.
        let message = &body["messages"][0];
        let code = message["status"].as_str().unwrap_or_default();
        let outcome = match (status.as_u16(), code) {
            (200, "0") => Outcome::Sent(message["message-id"].as_str().map(str::to_owned)),
            // Throttled; too many connections.
            (200, "1" | "10") => Outcome::rate_limited(retry_after(headers)),
            // An error while the message was processed.
            (200, "5") => Outcome::Ambiguous { after: None },
            // The number is barred.
            (200, "7") => Outcome::Inactive {
                reason: "number_barred",
            },
            // The number was given back by whoever had it.
            (200, "33") => Outcome::Inactive {
                reason: "number_deactivated",
            },
            // Credentials and signature; an account that is barred, or not for this API.
            (200, "4" | "8" | "11" | "14" | "32") => Outcome::account(),
            // No credit.
            (200, "9") => Outcome::quota(headers),
            (200, "12") => Outcome::Dead {
                code: "message_too_long",
            },
            (200, "15") => Outcome::sender(),
            // No route to it; a network that there isn't; an account on trial that writes to others.
            (200, "6" | "22" | "29") => Outcome::Dead {
                code: "recipient_refused",
            },
            // Parameters that are missing or wrong, and refusals that are not documented.
            (200, code) if code.parse::<u16>().is_ok() => Outcome::refused(),
            _ => by_status(status, headers),
        };
        outcome.of(status, code)
    }
}
