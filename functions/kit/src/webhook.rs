//! What makes a POST a webhook: its signature, as Standard Webhooks has it (specification 1.0, "Webhook headers (sending metadata to
//! consumers)" and "Signature scheme").

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// How many bytes a secret has, by the specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A key that messages are signed with. No Debug: it is a secret.
pub struct Secret(Vec<u8>);

impl Secret {
    /// Reads `whsec_` and base64.
    ///
    /// # Errors
    /// Why it is none; the reason does not quote it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let encoded = text
            .strip_prefix("whsec_")
            .ok_or("does not begin with whsec_")?;
        let key = STANDARD
            .decode(encoded)
            .map_err(|_| "is not base64 after whsec_")?;
        match SECRET_BYTES.contains(&key.len()) {
            true => Ok(Self(key)),
            false => Err("has fewer than 24 or more than 64 bytes"),
        }
    }

    /// Reads several with spaces between them, or none: while one takes the place of another, each makes a signature.
    ///
    /// # Errors
    /// As [`Secret::parse`].
    pub fn parse_all(text: &str) -> Result<Vec<Self>, &'static str> {
        text.split_whitespace().map(Self::parse).collect()
    }
}

/// The value of `webhook-signature`: the signatures with all secrets, over the message's id, `webhook-timestamp` (in seconds since
/// 1970) and the body as it is sent.
pub fn signatures(secrets: &[Secret], id: &str, timestamp: u64, body: &str) -> String {
    let signature = |Secret(key): &Secret| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
        for part in [id, ".", &timestamp.to_string(), ".", body] {
            mac.update(part.as_bytes());
        }
        let code = STANDARD.encode(mac.finalize().into_bytes());
        Some(format!("v1,{code}"))
    };
    let all: Vec<String> = secrets.iter().filter_map(signature).collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn a_secret_is_whsec_and_base64_of_24_to_64_bytes() {
        assert_eq!(Secret::parse_all(GOOD).ok().unwrap().len(), 1);
        let two = format!(" {GOOD}  {GOOD} ");
        assert_eq!(Secret::parse_all(&two).ok().unwrap().len(), 2);
        assert!(Secret::parse_all("").ok().unwrap().is_empty());
        for bad in [
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_",
            "whsec_c2hvcnQ=",
            "whsec_!",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        ] {
            assert!(Secret::parse(bad).is_err(), "{bad}");
        }
    }

    /// The example of the Standard Webhooks specification's own test vectors.
    #[test]
    fn a_signature_is_that_of_the_specification() {
        let secrets = Secret::parse_all(GOOD).ok().unwrap();
        let (id, time, body) = (
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            r#"{"test": 2432232314}"#,
        );
        assert_eq!(
            signatures(&secrets, id, time, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
        assert_eq!(signatures(&[], id, time, body), "");
    }
}
