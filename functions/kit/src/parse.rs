//! From text to a typed request. What does not fit is a [`Problem`] that names the field and says why.

use std::fmt;

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;

use crate::answer::Problem;
use crate::field::Object;
use crate::query;
use http::StatusCode;

/// How much of a reason is shown: it may quote what the client sent, which may be long.
const REASON_LIMIT: usize = 300;

/// A body that stands for one thing, or for several under one field (`{…}` or `{"tasks": […]}`).
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum OneOrMany<One, Many> {
    /// The body is the thing itself.
    One(One),
    /// The body has the field that holds several.
    Many(Many),
}

/// Parses a body that must be one JSON object with the fields of `T`.
///
/// # Errors
/// 400 `invalid_json` if it is not JSON in UTF-8, 400 `invalid_request` if a field is unknown,
/// missing, given twice, of the wrong type or out of range.
pub fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let text = std::str::from_utf8(body).map_err(|_| invalid_json("is not UTF-8"))?;
    let mut json = serde_json::Deserializer::from_str(text);
    let Object(value) = serde_path_to_error::deserialize(&mut json).map_err(problem)?;
    json.end().map_err(|error| invalid_json(&reason(&error)))?;
    Ok(value)
}

/// Parses a body as `Many` if it has the field `many`, else as `One`.
///
/// # Errors
/// As [`object`].
pub fn one_or_many<One: DeserializeOwned, Many: DeserializeOwned>(
    body: &[u8],
    many: &str,
) -> Result<OneOrMany<One, Many>, Problem> {
    let Names(names) = object(body)?;
    match names.iter().any(|name| name == many) {
        true => object(body).map(OneOrMany::Many),
        false => object(body).map(OneOrMany::One),
    }
}

/// Parses a query string whose parameters are the fields of `T`, of the same types as in a body: an
/// integer is its decimal digits, a `bool` is `true` or `false`, an enum is one of its names.
///
/// # Errors
/// 400 `invalid_request`, naming the parameter, if one is unknown, missing, given twice, not UTF-8, of
/// the wrong type or out of range.
pub fn query<T: DeserializeOwned>(query: Option<&str>) -> Result<T, Problem> {
    let parameters = query::deserializer(query.unwrap_or_default());
    serde_path_to_error::deserialize(parameters).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { "" } else { &path };
        match invalid_field(path, &error.inner().to_string(), "parameter") {
            // No parameter is at fault alone, so the sentence must not speak of a body.
            (field, reason) if field.is_empty() => Problem::new(
                StatusCode::BAD_REQUEST,
                "invalid_request",
                format!("the query: {reason}"),
            ),
            (field, reason) => Problem::invalid(&field, &reason),
        }
    })
}

/// The names of an object's first 64 fields; the values are skipped.
struct Names(Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamesVisitor;
        impl<'de> Visitor<'de> for NamesVisitor {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some((name, IgnoredAny)) = map.next_entry()? {
                    // No request has this many fields: the rest is left to be refused as unknown.
                    if names.len() < 64 {
                        names.push(name);
                    }
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(NamesVisitor)
    }
}

/// Says which field is at fault and why, from what serde says about it.
fn problem(error: serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let path = match error.path().to_string() {
        path if path == "." => String::new(),
        path => path,
    };
    let error = error.into_inner();
    let reason = reason(&error);
    match error.classify() {
        Category::Data => {
            let (field, reason) = invalid_field(&path, &reason, "field");
            Problem::invalid(&field, &reason)
        }
        _ => invalid_json(&reason),
    }
}

/// The field at fault and the reason. serde names a field that is missing, given twice or unknown in
/// the sentence only, and the path that comes with it ends at the object, or at the field for an
/// unknown one: bring both to the field, which is called `noun` where it is unknown.
fn invalid_field(path: &str, reason: &str, noun: &str) -> (String, String) {
    let named = |start: &str| {
        let (name, rest) = reason.strip_prefix(start)?.split_once('`')?;
        Some((name.to_owned(), rest.trim_start_matches(", ").to_owned()))
    };
    let at = |name: &str| match path {
        "" => name.to_owned(),
        _ if path == name || path.ends_with(&format!(".{name}")) => path.to_owned(),
        _ => format!("{path}.{name}"),
    };
    if let Some((name, _)) = named("missing field `") {
        (at(&name), "is required".to_owned())
    } else if let Some((name, _)) = named("duplicate field `") {
        (at(&name), "is given twice".to_owned())
    } else if let Some((name, expected)) = named("unknown field `") {
        let reason = format!("is not a known {noun}, {expected}");
        (shortened(&at(&name)), reason)
    } else {
        (shortened(path), shortened(reason))
    }
}

fn invalid_json(reason: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "invalid_json",
        format!("the body is not JSON: {}", shortened(reason)),
    )
}

/// The sentence of a JSON error; where it happened is told only for broken JSON, else the field is.
fn reason(error: &serde_json::Error) -> String {
    let sentence = error.to_string();
    match error.classify() {
        Category::Data => {
            let place = format!(" at line {} column {}", error.line(), error.column());
            sentence
                .strip_suffix(&place)
                .unwrap_or(&sentence)
                .to_owned()
        }
        _ => sentence,
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(REASON_LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
