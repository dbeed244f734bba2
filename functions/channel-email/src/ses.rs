//! Amazon SES, version 2 of its API: <https://docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html>, with the errors of that page and of
//! <https://docs.aws.amazon.com/ses/latest/APIReference-V2/CommonErrors.html>. It has no idempotency keys; the job's id is a tag of the message, which
//! its events repeat. It takes messages to addresses of the account's suppression list and drops them afterwards, so nothing about
//! those is learnt here.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SigningInstructions, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use millrace_delivery::configuration::{optional, required, wrong};
use millrace_delivery::request::{post, with_json, without_nulls};
use millrace_delivery::{Impossible, Outcome, Provider, Ruling, by_status, json};
use millrace_worker::{Misconfiguration, retry_after};
use serde_json::Value;

use crate::message::Message;

pub struct Ses {
    url: String,
    region: String,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    configuration_set: Option<String>,
}

impl Ses {
    pub async fn configured() -> Result<Self, Misconfiguration> {
        let region = required("aws_region").await?;
        // It becomes a part of the host's name.
        if !region
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        {
            return Err(wrong("aws_region", "is not the name of a region"));
        }
        Ok(Self {
            url: crate::provider_url(&format!("https://email.{region}.amazonaws.com")).await?,
            region,
            access_key_id: required("aws_access_key_id").await?,
            secret_access_key: required("aws_secret_access_key").await?,
            session_token: optional("aws_session_token").await?,
            configuration_set: optional("ses_configuration_set").await?,
        })
    }

    /// The headers that sign a POST of `body` at this time.
    fn signature(
        &self,
        url: &str,
        body: &[u8],
        now: SystemTime,
    ) -> Result<SigningInstructions, Impossible> {
        let (id, secret) = (&self.access_key_id, &self.secret_access_key);
        let token = self.session_token.clone();
        let identity = Credentials::new(id, secret, token, None, "variables").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("ses")
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|_| Impossible)?;
        let headers = [("content-type", "application/json")];
        let body = SignableBody::Bytes(body);
        let request = SignableRequest::new("POST", url, headers.into_iter(), body);
        let signed = sign(request.map_err(|_| Impossible)?, &parameters.into());
        Ok(signed.map_err(|_| Impossible)?.into_parts().0)
    }
}

impl Provider<Message> for Ses {
    fn name(&self) -> &'static str {
        "Amazon SES"
    }

    fn request(&self, message: &Message, job_id: &str) -> Result<Request<Full<Bytes>>, Impossible> {
        let url = format!("{}/v2/email/outbound-emails", self.url);
        let body = body(message, job_id, self.configuration_set.as_deref());
        let signature = self.signature(&url, body.to_string().as_bytes(), SystemTime::now())?;
        let mut request = with_json(post(&url), &body)?;
        signature.apply_to_request_http1x(&mut request);
        Ok(request)
    }

    fn ruling(&self, answer: &Response<Vec<u8>>) -> Ruling {
        let (status, headers, body) = (answer.status(), answer.headers(), json(answer));
        let code = error_type(headers, &body);
        let outcome = match (status.as_u16(), code.as_str()) {
            (200, _) if body["MessageId"].is_string() => {
                Outcome::Sent(body["MessageId"].as_str().map(str::to_owned))
            }
            (500.., _) => by_status(status, headers),
            (_, "TooManyRequestsException" | "ThrottlingException" | "Throttling") => {
                Outcome::rate_limited(retry_after(headers))
            }
            (_, "LimitExceededException") => Outcome::quota(headers),
            (_, "MailFromDomainNotVerifiedException") => Outcome::Dead {
                code: "sender_refused",
            },
            // The account may not send; or its credentials, its clock or its configuration set are not right.
            (
                _,
                "AccountSuspendedException"
                | "SendingPausedException"
                | "NotFoundException"
                | "AccessDeniedException"
                | "ExpiredTokenException"
                | "IncompleteSignature"
                | "InvalidClientTokenId"
                | "InvalidSignatureException"
                | "MissingAuthenticationTokenException"
                | "NotAuthorized"
                | "OptInRequired"
                | "RequestExpired"
                | "SignatureDoesNotMatch"
                | "UnrecognizedClientException",
            ) => Outcome::account(),
            _ => by_status(status, headers),
        };
        outcome.of(status, &code)
    }
}

fn body(message: &Message, job_id: &str, configuration_set: Option<&str>) -> Value {
    let utf8 = |text: &str| serde_json::json!({ "Data": text, "Charset": "UTF-8" });
    without_nulls(serde_json::json!({
        "FromEmailAddress": message.from.ascii_header(),
        "Destination": { "ToAddresses": [message.to.ascii_header()] },
        "ReplyToAddresses": message.reply_to.as_ref().map(|it| [it.ascii_header()]),
        "Content": { "Simple": {
            "Subject": utf8(&message.subject),
            "Body": without_nulls(serde_json::json!({
                "Html": utf8(&message.html),
                "Text": message.text.as_deref().map(utf8),
            })),
        } },
        "EmailTags": [{ "Name": "job_id", "Value": job_id }],
        "ConfigurationSetName": configuration_set,
    }))
}

/// The error's name, from `x-amzn-errortype: NAME:http://…` or `{"__type": "…#NAME"}`.
fn error_type(headers: &HeaderMap, body: &Value) -> String {
    let header = headers
        .get("x-amzn-errortype")
        .and_then(|it| it.to_str().ok());
    let name = header.or(body["__type"].as_str()).unwrap_or_default();
    let name = name.split(':').next().unwrap_or_default();
    name.rsplit('#').next().unwrap_or_default().to_owned()
}
