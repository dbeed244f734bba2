//! Vonage, its SMS API: <https://developer.vonage.com/en/api/sms>, errors as of <https://developer.vonage.com/en/api-errors/sms>. Every answer is a
//! 200; what came of the message is its `status`. It has no idempotency keys; the job's id is `client-ref`, which its reports repeat.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use millrace_delivery::configuration::required;
use millrace_delivery::request::{post, with_form};
use millrace_delivery::{Impossible, Outcome, Provider, Ruling, by_status, json};
use millrace_worker::{Misconfiguration, retry_after};
use serde_json::Value;

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
        ruling(answer)
    }
}

/// A long text is several messages, each with its own status; a text is sent when all are taken, and not sent when none was.
fn ruling(answer: &Response<Vec<u8>>) -> Ruling {
    let (status, headers, body) = (answer.status(), answer.headers(), json(answer));
    let parts = match body["messages"].as_array() {
        Some(parts) if status == StatusCode::OK && !parts.is_empty() => parts,
        _ => return by_status(status, headers).of(status, ""),
    };
    let rulings: Vec<_> = parts.iter().map(|part| of_part(part, headers)).collect();
    let is_sent = |ruling: &&Ruling| matches!(ruling.outcome, Outcome::Sent(_));
    let is_unknown = |ruling: &&Ruling| matches!(ruling.outcome, Outcome::Ambiguous { .. });
    let fault = rulings
        .iter()
        .find(is_unknown)
        .or_else(|| rulings.iter().find(|ruling| !is_sent(ruling)));
    match (fault, rulings.iter().find(is_sent)) {
        (Some(fault), Some(_)) => Ruling {
            outcome: Outcome::Ambiguous { after: None },
            said: fault.said.clone(),
        },
        (Some(ruling), None) | (None, Some(ruling)) => ruling.clone(),
        (None, None) => by_status(status, headers).of(status, ""),
    }
}

/// What became of one message.
fn of_part(part: &Value, headers: &HeaderMap) -> Ruling {
    let code = part["status"].as_str().unwrap_or_default();
    let outcome = match code {
        "0" => Outcome::Sent(part["message-id"].as_str().map(str::to_owned)),
        // Throttled; too many connections.
        "1" | "10" => Outcome::rate_limited(retry_after(headers)),
        // An error while the message was processed.
        "5" => Outcome::Ambiguous { after: None },
        // The number is barred.
        "7" => Outcome::Inactive {
            reason: "number_barred",
        },
        // The number was given back by whoever had it.
        "33" => Outcome::Inactive {
            reason: "number_deactivated",
        },
        // Credentials and signature; an account that is barred, or not for this API.
        "4" | "8" | "11" | "14" | "32" => Outcome::account(),
        // No credit.
        "9" => Outcome::quota(headers),
        "12" => Outcome::Dead {
            code: "message_too_long",
        },
        "15" => Outcome::sender(),
        // No route to it; a network that there isn't; an account on trial that writes to others.
        "6" | "22" | "29" => Outcome::Dead {
            code: "recipient_refused",
        },
        // Parameters that are missing or wrong, and refusals that are not documented.
        code if code.parse::<u16>().is_ok() => Outcome::refused(),
        _ => Outcome::Ambiguous { after: None },
    };
    outcome.of(StatusCode::OK, code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_sent_when_all_its_parts_are() {
        let of = |codes: &[&str]| {
            let part = |code: &&str| serde_json::json!({ "status": code, "message-id": "m" });
            let body =
                serde_json::json!({ "messages": codes.iter().map(part).collect::<Vec<_>>() });
            ruling(&Response::new(body.to_string().into_bytes())).outcome
        };
        let unknown = Outcome::Ambiguous { after: None };
        assert_eq!(of(&["0", "0"]), Outcome::Sent(Some("m".to_owned())));
        for mixed in [&["0", "1"][..], &["1", "0"], &["0", "0", "7"], &["4", "5"]] {
            assert_eq!(of(mixed), unknown, "{mixed:?}");
        }
        assert_eq!(of(&["1", "4"]), Outcome::rate_limited(None));
        assert_eq!(of(&[]), unknown);
    }
}
