//! JSON in and out with every digit of its numbers. The library's values hold a number as 64 bits; a number that these would change travels as
//! `Binary` instead, its text in the bytes, and so does JSON that comes from the database.

use std::fmt::Write as _;

use async_graphql::{Number, Value, Variables};
use millrace_kit::json::Json;
use serde::ser::{Error as _, SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// A value that is written as JSON, what is `Binary` in it as the JSON text that it is.
pub struct Exact<'a>(pub &'a Value);

impl Serialize for Exact<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Binary(bytes) => {
                let raw: &RawValue = serde_json::from_slice(bytes).map_err(S::Error::custom)?;
                raw.serialize(serializer)
            }
            Value::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&Exact(item))?;
                }
                list.end()
            }
            Value::Object(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (name, value) in fields {
                    map.serialize_entry(name.as_str(), &Exact(value))?;
                }
                map.end()
            }
            plain => plain.serialize(serializer),
        }
    }
}

/// The variables of a request, from the JSON text of an object.
///
/// # Errors
/// Why they are none, for a client.
pub fn variables(text: &str) -> Result<Variables, String> {
    // Postgres could not store a NUL anyway, so that one can mark the numbers here.
    let Json { .. } = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let marked = with_numbers_marked(text);
    let mut value: Value = serde_json::from_str(&marked).map_err(|error| error.to_string())?;
    unmark(&mut value);
    match value {
        Value::Null => Ok(Variables::default()),
        Value::Object(fields) => Ok(Variables::from_value(Value::Object(fields))),
        _ => Err("is no object".to_owned()),
    }
}

/// JSON text in which each number that 64 bits would change is a string instead, of a NUL and its digits.
fn with_numbers_marked(text: &str) -> String {
    let mut marked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c == '"' || c == '-' || c.is_ascii_digit()) {
        marked.push_str(&rest[..start]);
        rest = &rest[start..];
        let length = match rest.starts_with('"') {
            true => string_length(rest),
            false => number_length(rest),
        };
        let (token, behind) = rest.split_at(length);
        match token.starts_with('"') || is_kept(token) {
            true => marked.push_str(token),
            false => _ = write!(marked, "\"\\u0000{token}\""),
        }
        rest = behind;
    }
    marked + rest
}

/// How long the string is that JSON text begins with, its quotes included.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn number_length(text: &str) -> usize {
    let in_number = |b: &u8| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E');
    text.bytes().take_while(in_number).count()
}

/// Whether a number is the same text once it was read.
pub fn is_kept(number: &str) -> bool {
    number
        .parse::<Number>()
        .is_ok_and(|read| read.to_string() == number)
}

/// How long a value is as JSON text, or about that.
pub fn length(value: &Value) -> usize {
    match value {
        Value::Null | Value::Boolean(_) => 5,
        Value::Number(_) => 20,
        Value::String(text) => text.len() + 2,
        Value::Enum(name) => name.len(),
        Value::Binary(bytes) => bytes.len(),
        Value::List(items) => items.iter().map(|item| length(item) + 1).sum::<usize>() + 2,
        Value::Object(fields) => {
            let fields = fields.iter();
            let lengths = fields.map(|(name, value)| name.len() + length(value) + 4);
            lengths.sum::<usize>() + 2
        }
    }
}

/// How much of the memory a value takes, or about that: of many small ones far more than their text.
pub fn weight(value: &Value) -> usize {
    /// Room for four fields is the least that a map has.
    const MAP: usize = 500;
    let own = size_of::<Value>();
    match value {
        Value::List(items) => own + items.iter().map(weight).sum::<usize>(),
        Value::Object(fields) => {
            let fields = fields.iter();
            let weights = fields.map(|(name, value)| 2 * own + name.len() + weight(value));
            own + MAP + weights.sum::<usize>()
        }
        plain => own + length(plain),
    }
}

/// Makes the numbers again of the strings that stand for them.
fn unmark(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(number) = text.strip_prefix('\0') {
                *value = Value::Binary(number.to_owned().into());
            }
        }
        Value::List(items) => items.iter_mut().for_each(unmark),
        Value::Object(fields) => fields.values_mut().for_each(unmark),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use async_graphql::Name;

    use super::*;

    fn there_and_back(text: &str) -> String {
        let variables = variables(&format!(r#"{{"v": {text}}}"#)).unwrap();
        serde_json::to_string(&Exact(&variables[&Name::new("v")])).unwrap()
    }

    #[test]
    fn every_digit_comes_back() {
        for text in [
            "12345678901234567890",
            "123456789012345678901234567890",
            "1.10",
            "-0.0",
            "1e3",
            "1E-7",
            "0.1",
            "9007199254740993",
            r#"[1.10,{"a":2.50,"1.10":"1.10"},"\"1.10"]"#,
            r#""a \\\" 1.0""#,
            "null",
        ] {
            assert_eq!(there_and_back(text), text);
        }
    }

    #[test]
    fn a_number_is_no_text() {
        let variables = variables(r#"{"v": 1.10}"#).unwrap();
        assert!(matches!(variables[&Name::new("v")], Value::Binary(_)));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[]", "1.10", "\"\"", "", "{", r#"{"a": "\u0000"}"#] {
            assert!(variables(text).is_err(), "{text}");
        }
        assert!(variables("null").unwrap().is_empty());
        let deep = format!(r#"{{"v": {}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
        assert!(variables(&deep).is_err());
    }
}
