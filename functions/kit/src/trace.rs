//! The trace that a request belongs to, as W3C Trace Context (level 1) writes it. It goes with the job to whoever claims
//! it and into the job's events, so that one trace shows both who asked and what came of it.

use http::HeaderMap;
use serde::{Deserialize, Serialize};

/// `00-<trace id>-<parent id>-<flags>` in lower-case hexadecimal digits, neither id all zeros (section 3.2.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Traceparent(String);

/// The length of a `traceparent` of version 00.
const LENGTH: usize = 55;

impl TryFrom<String> for Traceparent {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match is_version_00(&text) {
            true => Ok(Self(text)),
            false => Err("is not a traceparent of W3C Trace Context, version 00"),
        }
    }
}

fn is_version_00(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut hex = |length: usize| {
        parts.next().filter(|part| {
            let digits = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            part.len() == length && part.bytes().all(digits)
        })
    };
    let named = |id: Option<&str>| id.is_some_and(|id| id.bytes().any(|byte| byte != b'0'));
    let whole = hex(2) == Some("00") && named(hex(32)) && named(hex(16)) && hex(2).is_some();
    whole && parts.next().is_none()
}

/// The trace that the headers tell of. A header that is not understood is as good as none, and one of a later version is
/// read as far as version 00 goes, both as section 4.3 wants it.
pub fn of(headers: &HeaderMap) -> Option<Traceparent> {
    let mut values = headers.get_all("traceparent").iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let text = value.to_str().ok()?.trim();
    let (version, rest) = (text.get(..2)?, text.get(2..LENGTH)?);
    let known = match version {
        "ff" => false,
        "00" => text.len() == LENGTH,
        _ => text.len() == LENGTH || text.as_bytes().get(LENGTH) == Some(&b'-'),
    };
    let version_is_hex = version
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (known && version_is_hex)
        .then(|| Traceparent::try_from(format!("00{rest}")).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn read(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("traceparent", HeaderValue::from_str(value).unwrap());
        }
        of(&headers).map(|traceparent| traceparent.0)
    }

    #[test]
    fn a_header_is_read_or_ignored() {
        assert_eq!(read(&[GOOD]).as_deref(), Some(GOOD));
        assert_eq!(read(&[&format!(" {GOOD} ")]).as_deref(), Some(GOOD));
        let later = GOOD.replacen("00", "cc", 1);
        assert_eq!(read(&[&later]).as_deref(), Some(GOOD));
        assert_eq!(read(&[&format!("{later}-more")]).as_deref(), Some(GOOD));
        for bad in [
            &format!("{GOOD}-more"),
            &format!("{later}more"),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "zz", 1),
            &GOOD.to_uppercase(),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GOOD[..54],
            "",
            "é",
        ] {
            assert_eq!(read(&[bad]), None, "{bad}");
        }
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[GOOD, GOOD]), None, "two say nothing");
    }
}
