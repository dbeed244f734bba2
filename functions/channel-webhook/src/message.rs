//! What a job asks for: its payload, and the body that it becomes.

use std::borrow::Cow;

use millrace_worker::Failure;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The largest body that is sent, in bytes: 1 MiB. (Standard Webhooks advises 20 kB.)
const BODY: usize = 1 << 20;

/// A job's payload. `data` is passed on as it came, so that no number in it changes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message<'a> {
    /// The name of a registered endpoint.
    #[serde(borrow)]
    pub endpoint: Option<Cow<'a, str>>,
    /// Or any URL; such a message is not signed.
    #[serde(borrow)]
    pub url: Option<Cow<'a, str>>,
    /// What is to be told; an empty object if nothing is.
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// What is sent, in the form that Standard Webhooks recommends.
#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    timestamp: &'a str,
    data: &'a RawValue,
}

impl<'a> Message<'a> {
    /// Reads a payload.
    ///
    /// # Errors
    /// `invalid_payload`, for good.
    pub fn parse(payload: &'a str) -> Result<Self, Failure> {
        let invalid = |why: &str| Failure::dead("invalid_payload", format!("the payload {why}"));
        let message: Self =
            serde_json::from_str(payload).map_err(|_| invalid("is not {endpoint or url, data}"))?;
        match (&message.endpoint, &message.url) {
            (Some(_), Some(_)) => Err(invalid("has both an endpoint and a url")),
            (None, None) => Err(invalid("has neither an endpoint nor a url")),
            _ => Ok(message),
        }
    }

    /// The body of a message about an event of this type, which happened at this time.
    ///
    /// # Errors
    /// `body_too_large`, for good.
    pub fn body(&self, event: &str, timestamp: &str) -> Result<String, Failure> {
        let body = Body {
            r#type: event,
            timestamp,
            data: self.data.unwrap_or_else(|| empty_object()),
        };
        let text = serde_json::to_string(&body).map_err(|_| {
            Failure::dead("invalid_payload", "the message cannot be written as JSON")
        })?;
        match text.len() <= BODY {
            true => Ok(text),
            false => Err(Failure::dead(
                "body_too_large",
                "the message has more than 1 MiB",
            )),
        }
    }
}

/// `{}`, as JSON text.
pub fn empty_object() -> &'static RawValue {
    serde_json::from_str("{}").unwrap_or(RawValue::NULL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(payload: &str) -> Result<String, Failure> {
        Message::parse(payload)?.body("invoice.paid", "2026-01-01T00:00:00+00:00")
    }

    #[test]
    fn data_is_passed_on_as_it_came() {
        let data = r#"{"amount":10000000000000000000000.10,"é":"\u00e9"}"#;
        let payload = format!(r#"{{"endpoint":"acme","data":{data}}}"#);
        let expected = format!(
            r#"{{"type":"invoice.paid","timestamp":"2026-01-01T00:00:00+00:00","data":{data}}}"#
        );
        assert_eq!(body(&payload).unwrap(), expected);
        assert!(
            body(r#"{"url":"https://a.example/"}"#)
                .unwrap()
                .ends_with(r#""data":{}}"#)
        );
    }

    #[test]
    fn what_is_no_message_is_dead() {
        for payload in [
            "{}",
            "[]",
            r#""x""#,
            r#"{"data":1}"#,
            r#"{"endpoint":1}"#,
            r#"{"endpoint":"a","url":"https://a.example/"}"#,
            r#"{"endpoint":"a","headers":{}}"#,
        ] {
            let failure = body(payload).unwrap_err();
            assert_eq!(failure.code, "invalid_payload", "{payload}");
            assert!(matches!(failure.verdict, millrace_worker::Verdict::Dead));
        }
        let large = format!(r#"{{"endpoint":"a","data":"{}"}}"#, "x".repeat(BODY));
        assert_eq!(body(&large).unwrap_err().code, "body_too_large");
    }
}
