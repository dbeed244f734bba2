//! The arguments of a call: the fields of the body's one object, or the body as a whole.

use std::fmt;

use millrace_kit::json::{Json, MAX_DEPTH};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::catalogue::{Function, Parameter};
use crate::refusal::Refusal;

/// A body that is JSON; its digits are kept as they were written.
pub struct Arguments(Box<RawValue>);

/// Arguments that fit a function.
pub enum Given<'a> {
    /// The one argument, as JSON text.
    Whole(String),
    /// The parameters that are given, and an object, as JSON text, that has them as fields.
    Named(Vec<&'a Parameter>, String),
}

/// Why arguments don't fit a function.
pub enum Mismatch {
    /// These are not the names of its parameters.
    Keys(Vec<String>),
    /// They are no arguments at all.
    Refused(Refusal),
}

impl Arguments {
    /// Those of a body; an empty one has none.
    ///
    /// # Errors
    /// 400 `PGRST102` if it isn't JSON.
    pub fn of_body(body: &[u8]) -> Result<Self, Refusal> {
        let body = match body {
            [] => b"{}",
            body => body,
        };
        serde_json::from_slice(body)
            .map(Self)
            .map_err(|_| no_json())
    }

    /// The names of the fields, in the alphabet's order. As with PostgREST there are none in a `null`, a text, a number, a
    /// boolean, and an empty array.
    ///
    /// # Errors
    /// 400 `PGRST102` if the body is nothing that jsonb can hold, an array of anything but objects, or has a field twice, where
    /// PostgREST takes the last one; 400 `PGRST127` for an array of objects, of which PostgREST takes one.
    pub fn keys(&self) -> Result<Vec<String>, Refusal> {
        let Fields(fields) = self.fields()?;
        let mut keys: Vec<_> = fields.into_iter().map(|(key, _)| key).collect();
        keys.sort_unstable();
        Ok(keys)
    }

    /// The arguments as the function takes them. Named ones are such as jsonb can hold. Of a whole body only the depth is
    /// bounded; what else jsonb can't hold is Postgres' to refuse.
    ///
    /// # Errors
    /// If they don't fit.
    pub fn fit<'a>(&self, function: &'a Function) -> Result<Given<'a>, Mismatch> {
        if function.takes_whole_body() {
            let body = self.0.get();
            return match is_deeper(body, WHOLE_BODY_DEPTH) {
                true => Err(Mismatch::Refused(no_json())),
                false => Ok(Given::Whole(body.to_owned())),
            };
        }
        let Fields(fields) = self.fields().map_err(Mismatch::Refused)?;
        let keys: Vec<_> = fields.iter().map(|(key, _)| key.as_str()).collect();
        if !function.takes(&keys) {
            return Err(self.keys().map_or_else(Mismatch::Refused, Mismatch::Keys));
        }
        let mut parameters = Vec::with_capacity(fields.len());
        let mut object = String::from("{");
        for (key, value) in &fields {
            let name = function.parameter_name(key);
            let Some(parameter) = function.parameters.iter().find(|it| it.name == name) else {
                continue;
            };
            if !parameters.is_empty() {
                object.push(',');
            }
            object.push_str(&serde_json::Value::from(name).to_string());
            object.push(':');
            object.push_str(value.get());
            parameters.push(parameter);
        }
        object.push('}');
        Ok(Given::Named(parameters, object))
    }

    fn fields(&self) -> Result<Fields<'_>, Refusal> {
        let text = self.0.get();
        serde_json::from_str::<Json>(text).map_err(|_| no_json())?;
        match text.as_bytes().first() {
            Some(b'{') => serde_json::from_str(text).map_err(|_| {
                let message = "A field of the body is there twice, or there are too many of them";
                Refusal::body(message.to_owned())
            }),
            Some(b'[') => no_fields_of_array(text),
            _ => Ok(Fields(Vec::new())),
        }
    }
}

/// The arguments in an array: none, if nothing is in it.
fn no_fields_of_array<'a>(text: &'a str) -> Result<Fields<'a>, Refusal> {
    let elements: Vec<&'a RawValue> = serde_json::from_str(text).map_err(|_| no_json())?;
    if elements.is_empty() {
        return Ok(Fields(Vec::new()));
    }
    match elements.iter().all(|it| it.get().starts_with('{')) {
        true => Err(Refusal::not_implemented(
            "An array of objects is not supported as arguments".to_owned(),
        )),
        false => Err(Refusal::body("All object keys must match".to_owned())),
    }
}

/// How deeply a whole body may nest: our own components put their clients' values, which have been looked at, into requests
/// that are a few levels deep themselves. It is far from where Postgres' parser, which recurses, gives up.
const WHOLE_BODY_DEPTH: usize = MAX_DEPTH + 16;

/// Whether well-formed JSON has arrays and objects nested more than `most` levels deep.
fn is_deeper(text: &str, most: usize) -> bool {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for byte in text.bytes() {
        match (in_text, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_text = !in_text,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > most {
            return true;
        }
    }
    false
}

fn no_json() -> Refusal {
    Refusal::body("Empty or invalid json".to_owned())
}

/// The fields of an object, none of them twice.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields: Vec<(String, &'de RawValue)> = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, &'de RawValue>()? {
            if fields.iter().any(|(other, _)| *other == key) {
                return Err(A::Error::custom("a field is there twice"));
            }
            fields.push((key, value));
            if fields.len() > MOST_FIELDS {
                return Err(A::Error::custom("there are too many fields"));
            }
        }
        Ok(Fields(fields))
    }
}

/// More fields than any function has parameters, since each is compared with all others.
const MOST_FIELDS: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    const TWICE: &str = "A field of the body is there twice, or there are too many of them";

    fn function() -> Function {
        let parameter = |name: &str, required| serde_json::json!({"name": name, "required": required, "column": "c", "argument": "a"});
        serde_json::from_value(serde_json::json!({
            "profile": "public", "name": "f", "call": "public.f", "scope": "work", "body": null, "returns": "one",
            "aliases": {"p_id": "id"},
            "parameters": [parameter("id", true), parameter("worker\"id", false)],
        }))
        .expect("a function")
    }

    /// The object that is passed on, or the names that don't fit, or what was refused.
    fn fit(body: &str) -> Result<String, String> {
        let arguments = Arguments::of_body(body.as_bytes()).map_err(|it| it.message)?;
        match arguments.fit(&function()) {
            Ok(Given::Named(parameters, object)) => Ok(format!("{}{object}", parameters.len())),
            Ok(Given::Whole(_)) => Err("whole".to_owned()),
            Err(Mismatch::Keys(keys)) => Err(keys.join(",")),
            Err(Mismatch::Refused(refusal)) => Err(refusal.message),
        }
    }

    #[test]
    fn arguments_are_passed_on_as_they_were_written() {
        let digits = r#"{"worker\"id":{"a":1.10},"id":12345678901234567890}"#;
        assert_eq!(fit(digits), Ok(format!("2{digits}")));
        assert_eq!(
            fit(r#" {"p_id" : null } "#),
            Ok(r#"1{"id":null}"#.to_owned())
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        assert_eq!(fit(""), Err(String::new()));
        assert_eq!(fit(r#"{"worker\"id":1}"#), Err("worker\"id".to_owned()));
        assert_eq!(fit(r#"{"z":1,"id":1}"#), Err("id,z".to_owned()));
        assert_eq!(
            fit(r#"{"p_id":1,"id":1}"#),
            Err("id,p_id".to_owned()),
            "one thing twice"
        );
        for broken in ["{", r#"{"id":"\u0000"}"#, r#"{"id":1} x"#, "\u{1}"] {
            assert_eq!(
                fit(broken),
                Err("Empty or invalid json".to_owned()),
                "{broken}"
            );
        }
        let many = (0..=MOST_FIELDS).map(|n| format!("\"{n}\":1"));
        let many = format!("{{{}}}", many.collect::<Vec<_>>().join(","));
        for (other, message) in [
            ("[7]", "All object keys must match"),
            ("[{\"id\":1}, 7]", "All object keys must match"),
            ("[{\"id\":1}]", "Feature not implemented"),
            (r#"{"id":1,"id":1}"#, TWICE),
            (&many, TWICE),
        ] {
            assert_eq!(fit(other), Err(message.to_owned()), "{other}");
        }
        for nothing in ["[]", "[ ]", "7", "null", "\"id\"", "false"] {
            assert_eq!(fit(nothing), Err(String::new()), "{nothing}: no names");
        }
    }

    #[test]
    fn depth_is_of_arrays_and_objects_alone() {
        for (text, deeper) in [
            ("7", false),
            (r#"[{"a":[]}]"#, true),
            (r#"[{"a":1},{"b":2},[]]"#, false),
            (r#"["[[[\"[[", "\\", {}]"#, false),
        ] {
            assert_eq!(is_deeper(text, 2), deeper, "{text}");
        }
    }
}
