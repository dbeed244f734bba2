//! A text message, from a job's payload: that of face 1 (`message_id, to_number, body`).

use millrace_worker::Failure;
use serde::Deserialize;

use crate::number::Number;

/// The longest text that any provider takes, in characters (Twilio).
const LONGEST: usize = 1600;

/// A text message that can be sent.
#[derive(Debug)]
pub struct Message {
    pub to: Number,
    pub body: String,
}

#[derive(Deserialize)]
struct Payload {
    to_number: Option<String>,
    body: Option<String>,
    /// Why nothing is sent to `to_number` any more: the database looked when the job was claimed.
    suppressed: Option<String>,
}

impl Message {
    /// Reads a job's payload.
    ///
    /// # Errors
    /// The job is dead: `invalid_message` where it can't be sent as it is, `suppressed` where its number is not written to any more.
    pub fn parse(payload: &str) -> Result<Self, Failure> {
        let payload: Payload = serde_json::from_str(payload)
            .map_err(|_| invalid("payload", "is not an object of texts"))?;
        if let Some(reason) = payload.suppressed {
            let message = format!("nothing is sent to this number: {reason}");
            return Err(Failure::dead("suppressed", message));
        }
        let number = given("to_number", payload.to_number)?;
        let to = Number::parse(&number).map_err(|reason| invalid("to_number", reason))?;
        let body = given("body", payload.body)?;
        if body.contains('\0') {
            return Err(invalid("body", "has a NUL"));
        }
        if body.chars().count() > LONGEST {
            return Err(invalid("body", "is longer than 1600 characters"));
        }
        Ok(Self { to, body })
    }
}

fn given(field: &str, value: Option<String>) -> Result<String, Failure> {
    let value = value.filter(|value| !value.trim().is_empty());
    value.ok_or_else(|| invalid(field, "is missing"))
}

fn invalid(field: &str, reason: &str) -> Failure {
    Failure::dead("invalid_message", format!("{field} {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_is_refused_by_the_name_of_its_field() {
        let long = format!(
            r#"{{"to_number": "+4915112345678", "body": "{}"}}"#,
            "a".repeat(1601)
        );
        for (payload, field) in [
            ("[]", "payload"),
            (r#"{"to_number": 5, "body": "b"}"#, "payload"),
            (r#"{"body": "b"}"#, "to_number"),
            (r#"{"to_number": "n", "body": "b"}"#, "to_number"),
            (
                r#"{"to_number": "+4915112345678,+4915112345679", "body": "b"}"#,
                "to_number",
            ),
            (r#"{"to_number": "+4915112345678", "body": " "}"#, "body"),
            (
                r#"{"to_number": "+4915112345678", "body": "a\u0000"}"#,
                "body",
            ),
            (&long, "body"),
        ] {
            let failure = Message::parse(payload).expect_err(payload);
            assert_eq!(failure.code, "invalid_message");
            assert!(failure.message.starts_with(field), "{}", failure.message);
        }
    }
}
