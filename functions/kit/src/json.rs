//! Arbitrary JSON that is passed on as it was written, once it is known that Postgres' jsonb can hold it.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// How deeply arrays and objects may nest. Postgres' own parser recurses, so it must not meet the
/// depth that a megabyte of brackets can have.
pub const MAX_DEPTH: usize = 128;

/// How many digits one number may have when it is written out without its exponent; jsonb's numeric
/// type ends at 16,383 digits after the point.
pub const MAX_DIGITS: usize = 16_000;

/// How many digits all numbers with an exponent may have together when they are written out: jsonb
/// answers `1e16000` as 16,001 characters, so one small request could otherwise make a huge answer.
pub const MAX_DIGITS_IN_ALL: usize = 1 << 20;

/// One JSON value as the client wrote it, digit for digit: `12345678901234567890` and `1.10` reach
/// jsonb, which keeps them exactly.
///
/// It exists only if jsonb can store it: no `\u0000`, no half of a surrogate pair, no number out of
/// range, no nesting beyond [`MAX_DEPTH`].
#[derive(Debug, Serialize)]
pub struct Json(Box<RawValue>);

impl Json {
    /// The JSON text.
    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        match check(raw.get()) {
            Ok(()) => Ok(Self(raw)),
            Err(reason) => Err(D::Error::custom(reason)),
        }
    }
}

/// For `#[serde(default, deserialize_with = "json::present")]`: an explicit `null` is a value of its
/// own here, where an `Option` alone would take it for an absent field.
pub fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// For `#[serde(default, deserialize_with = "json::not_null")]`: a field that may be left out, and must not be `null` where an
/// absent field means something wider.
///
/// # Errors
/// What `T` says to `null`, as to anything else that is none.
pub fn not_null<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Walks JSON text that is known to be well formed and looks for what jsonb refuses.
fn check(text: &str) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut digits_in_all) = (0, 0_usize, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at + 1)?,
            b'-' | b'0'..=b'9' => {
                let end = at + bytes[at..].iter().take_while(|b| in_number(**b)).count();
                digits_in_all = digits_in_all.saturating_add(written_out(&bytes[at..end])?);
                at = end;
            }
            b'[' | b'{' => {
                depth += 1;
                at += 1;
            }
            b']' | b'}' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            _ => at += 1,
        }
        if depth > MAX_DEPTH {
            return Err("is nested more than 128 levels deep");
        }
        if digits_in_all > MAX_DIGITS_IN_ALL {
            return Err("has numbers too long to write out");
        }
    }
    Ok(())
}

/// The index after the closing quote of the string whose first character is at `at`.
fn end_of_string(bytes: &[u8], mut at: usize) -> Result<usize, &'static str> {
    const HALF: &str = "holds half of a surrogate pair, which is no character";
    loop {
        match bytes.get(at) {
            None => return Ok(at),
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') if bytes.get(at + 1) == Some(&b'u') => match unit(bytes, at) {
                Some(0) => return Err("holds the NUL character, which Postgres cannot store"),
                Some(0xD800..=0xDBFF) => match unit(bytes, at + 6) {
                    Some(0xDC00..=0xDFFF) => at += 12,
                    _ => return Err(HALF),
                },
                Some(0xDC00..=0xDFFF) => return Err(HALF),
                _ => at += 6,
            },
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
        }
    }
}

/// The UTF-16 unit of the escape `\uXXXX` that starts at `at`, if one does.
fn unit(bytes: &[u8], at: usize) -> Option<u16> {
    let hex = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()
}

fn in_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

/// How many digits a number has once its exponent is written out: 0 where it has no exponent, since
/// then the request's own size bounds it.
fn written_out(number: &[u8]) -> Result<usize, &'static str> {
    const TOO_LONG: &str = "has a number of more than 16,000 digits";
    let mut parts = number.splitn(2, |byte| matches!(byte, b'e' | b'E'));
    let mantissa = parts.next().map_or(0, <[u8]>::len);
    let exponent = match parts.next() {
        None => 0,
        Some(digits) => std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse::<i32>().ok())
            .ok_or(TOO_LONG)?
            .unsigned_abs() as usize,
    };
    let digits = mantissa.saturating_add(exponent);
    match digits {
        _ if digits > MAX_DIGITS => Err(TOO_LONG),
        _ if exponent == 0 => Ok(0),
        _ => Ok(digits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Json, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn text_passes_through_unchanged() {
        for text in [
            "12345678901234567890",
            "1.10",
            "-0.0e-3",
            "null",
            r#"{"a":[1,{"b":"\\u0000 é \ud83d\ude00 \"}"}],"a":2}"#,
            "1e308",
        ] {
            assert_eq!(parse(text).unwrap().get(), text);
        }
    }

    #[test]
    fn what_jsonb_refuses_is_refused() {
        for (text, reason) in [
            (r#""\u0000""#, "NUL"),
            (r#"{"\u0000":1}"#, "NUL"),
            (r#""\\\u0000""#, "NUL"),
            (r#"["\ud800"]"#, "surrogate"),
            (r#""\ud800\u0041""#, "surrogate"),
            (r#""\udc00""#, "surrogate"),
            ("1e400000", "digits"),
            ("1e-99999999999999999999", "digits"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn nesting_is_limited_without_recursion() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(&nested(MAX_DEPTH)).is_ok());
        assert!(parse(&nested(MAX_DEPTH + 1)).is_err());
        assert!(parse(&nested(400_000)).is_err());
        assert!(parse(&"[".repeat(1_000_000)).is_err());
    }

    #[test]
    fn a_small_request_cannot_make_a_huge_answer() {
        let numbers = |count: usize| format!("[{}]", vec!["1e15000"; count].join(","));
        assert!(parse(&numbers(60)).is_ok());
        assert!(parse(&numbers(80)).is_err());
    }
}
