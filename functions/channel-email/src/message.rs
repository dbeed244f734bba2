//! An email, from a job's payload: that of face 1 (`message_id, from_address, to_address, subject, html`), with or without `text` and
//! `reply_to`. Nothing in it can add a header, or a recipient, to what a provider makes of it.

use millrace_worker::Failure;
use serde::Deserialize;

use crate::mailbox::Mailbox;

/// An email that can be sent.
#[derive(Debug)]
pub struct Message {
    pub from: Mailbox,
    pub to: Mailbox,
    pub reply_to: Option<Mailbox>,
    pub subject: String,
    pub html: String,
    pub text: Option<String>,
}

#[derive(Deserialize)]
struct Payload {
    from_address: Option<String>,
    to_address: Option<String>,
    subject: Option<String>,
    html: Option<String>,
    text: Option<String>,
    reply_to: Option<String>,
    /// Why nothing is sent to `to_address` any more: the database looked when the job was claimed.
    suppressed: Option<String>,
}

impl Message {
    /// Reads a job's payload.
    ///
    /// # Errors
    /// The job is dead: `invalid_message` where it can't be sent as it is, `suppressed` where its address is not written to any more.
    pub fn parse(payload: &str) -> Result<Self, Failure> {
        let payload: Payload = serde_json::from_str(payload)
            .map_err(|_| invalid("payload", "is not an object of texts"))?;
        if let Some(reason) = payload.suppressed {
            let message = format!("nothing is sent to this address: {reason}");
            return Err(Failure::dead("suppressed", message));
        }
        let message = Self {
            from: mailbox("from_address", payload.from_address)?,
            to: mailbox("to_address", payload.to_address)?,
            reply_to: match payload.reply_to {
                None => None,
                given => Some(mailbox("reply_to", given)?),
            },
            subject: given("subject", payload.subject)?,
            html: given("html", payload.html)?,
            text: payload.text.filter(|text| !text.trim().is_empty()),
        };
        if message.subject.chars().any(char::is_control) {
            return Err(invalid("subject", "has control characters"));
        }
        if message.html.contains('\0') || message.text.as_ref().is_some_and(|it| it.contains('\0'))
        {
            return Err(invalid("html or text", "has a NUL"));
        }
        Ok(message)
    }
}

fn mailbox(field: &str, value: Option<String>) -> Result<Mailbox, Failure> {
    let value = given(field, value)?;
    Mailbox::parse(&value).map_err(|reason| invalid(field, reason))
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
        let good = [
            ("from_address", "f@example.com"),
            ("to_address", "t@example.com"),
            ("subject", "s"),
            ("html", "h"),
        ];
        for (field, bad) in [
            ("from_address", ""),
            ("from_address", "f"),
            ("from_address", "f@example.com\r\nBcc: x@example.com"),
            ("to_address", " "),
            ("to_address", "t@example.com,x@example.com"),
            ("subject", ""),
            ("subject", "s\r\nBcc: x@example.com"),
            ("subject", "s\nx"),
            ("subject", "s\u{7f}"),
            ("html", " \n"),
            ("html", "h\0"),
        ] {
            let fields = good.map(|(name, value)| (name, if name == field { bad } else { value }));
            let payload = serde_json::Value::from_iter(fields).to_string();
            let failure = Message::parse(&payload).expect_err(bad);
            assert_eq!(failure.code, "invalid_message");
            assert!(failure.message.starts_with(field), "{}", failure.message);
        }
    }

    #[test]
    fn a_suppressed_address_comes_first() {
        let failure = Message::parse(r#"{"suppressed": "hard_bounce"}"#).expect_err("suppressed");
        assert_eq!(failure.code, "suppressed");
    }
}
