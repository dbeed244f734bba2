//! Mailgun: <https://documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages>, errors as of
//! <https://documentation.mailgun.com/docs/mailgun/quickstart-guide/responses>, which are known by their status alone. It has no idempotency keys;
//! the job's id is a variable of the message, which its events repeat. It takes messages to suppressed addresses and drops them
//! afterwards, so nothing about those is learnt here. A domain of its EU region is reached by `email_url = https://api.eu.mailgun.net`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use http_body_util::Full;
use millrace_delivery::configuration::{required, wrong};
use millrace_delivery::request::{post, secret, with_form};
use millrace_delivery::{Impossible, Outcome, Provider, Ruling, by_status, json};
use millrace_worker::Misconfiguration;

use crate::message::Message;

pub struct Mailgun {
    url: String,
    domain: String,
    api_key: String,
}

impl Mailgun {
    pub async fn configured() -> Result<Self, Misconfiguration> {
        let domain = required("mailgun_domain").await?;
        // It becomes a part of the path.
        if !domain
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
        {
            return Err(wrong("mailgun_domain", "is not the name of a domain"));
        }
        Ok(Self {
            url: crate::provider_url("https://api.mailgun.net").await?,
            domain,
            api_key: required("mailgun_api_key").await?,
        })
    }
}

impl Provider<Message> for Mailgun {
    fn name(&self) -> &'static str {
        "Mailgun"
    }

    fn request(&self, message: &Message, job_id: &str) -> Result<Request<Full<Bytes>>, Impossible> {
        let (from, to) = (message.from.header(), message.to.header());
        let reply_to = message.reply_to.as_ref().map(|it| it.header());
        let fields = [
            ("from", Some(from.as_str())),
            ("to", Some(&to)),
            ("subject", Some(&message.subject)),
            ("html", Some(&message.html)),
            ("text", message.text.as_deref()),
            ("h:Reply-To", reply_to.as_deref()),
            ("v:job_id", Some(job_id)),
        ];
        let fields = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let credentials = STANDARD.encode(format!("api:{}", self.api_key));
        let head = post(&format!("{}/v3/{}/messages", self.url, self.domain))
            .header(AUTHORIZATION, secret(&format!("Basic {credentials}"))?);
        with_form(head, fields)
    }

    fn ruling(&self, answer: &Response<Vec<u8>>) -> Ruling {
        let (status, headers, body) = (answer.status(), answer.headers(), json(answer));
        let outcome = match status.as_u16() {
            200 if body["id"].is_string() => Outcome::Sent(body["id"].as_str().map(str::to_owned)),
            _ => by_status(status, headers),
        };
        outcome.of(status, "")
    }
}
