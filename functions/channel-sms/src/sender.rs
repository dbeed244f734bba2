//! Who a text message comes from, as the variable `sms_from` says. It is the application's, never a job's, and has no character but those that
//! numbers and sender ids have.

use millrace_delivery::configuration::{text, wrong};
use millrace_worker::Misconfiguration;

use crate::number::Number;

const VARIABLE: &str = "sms_from";

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sender {
    Number(Number),
    /// 3 to 6 digits.
    ShortCode(String),
    /// 1 to 11 letters, digits and spaces, with a letter among them.
    Name(String),
    /// `MG` and 32 hexadecimal digits: one of Twilio's messaging services, which chooses a number.
    Service(String),
}

impl Sender {
    pub async fn configured() -> Result<Self, Misconfiguration> {
        let value = text(VARIABLE).await?;
        match value.as_str() {
            "" => Err(wrong(VARIABLE, "is not set")),
            value => Self::parse(value).map_err(|reason| wrong(VARIABLE, reason)),
        }
    }

    /// The same for providers that have no messaging services.
    pub async fn without_service() -> Result<Self, Misconfiguration> {
        match Self::configured().await? {
            Self::Service(_) => Err(wrong(
                VARIABLE,
                "is a messaging service, which only Twilio has",
            )),
            sender => Ok(sender),
        }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if text.starts_with('+') {
            return Number::parse(text).map(Self::Number);
        }
        if text
            .strip_prefix("MG")
            .is_some_and(|it| it.len() == 32 && is_hexadecimal(it))
        {
            return Ok(Self::Service(text.to_owned()));
        }
        if (3..=6).contains(&text.len()) && is_digits(text) {
            return Ok(Self::ShortCode(text.to_owned()));
        }
        let is_name = (1..=11).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b' ')
            && text.bytes().any(|byte| byte.is_ascii_alphabetic());
        match is_name {
            true => Ok(Self::Name(text.to_owned())),
            false => {
                Err("is neither a number as E.164 has it nor 1 to 11 letters, digits and spaces")
            }
        }
    }

    /// As providers take it that want numbers without a plus.
    pub fn without_plus(&self) -> &str {
        match self {
            Self::Number(number) => number.digits(),
            Self::ShortCode(text) | Self::Name(text) | Self::Service(text) => text,
        }
    }

    /// As providers take it that want numbers as E.164 has them.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Number(number) => number.as_str(),
            _ => self.without_plus(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_of_all_kinds() {
        let name = |text: &str| Ok(Sender::Name(text.to_owned()));
        for text in ["Millrace", "My Shop 24", "a", "ABCDEFGHIJK"] {
            assert_eq!(Sender::parse(text), name(text));
        }
        assert_eq!(
            Sender::parse("+15550100000").map(|it| it.without_plus().to_owned()),
            Ok("15550100000".to_owned())
        );
        assert_eq!(
            Sender::parse("12345"),
            Ok(Sender::ShortCode("12345".to_owned()))
        );
        let service = format!("MG{}", "0a".repeat(16));
        assert_eq!(
            Sender::parse(&service),
            Ok(Sender::Service(service.clone()))
        );
    }

    #[test]
    fn nothing_else_is_taken() {
        for text in [
            "",
            " ",
            "ABCDEFGHIJKL",
            "12",
            "1234567",
            "Shop\r\nx",
            "Shop&To=1",
            "Zoë",
            "a\0",
            "+0123",
            "Shop!",
        ] {
            assert!(Sender::parse(text).is_err(), "{text:?}");
        }
    }
}
