//! What a report may say about a file that the job has made.

use http::Uri;
use millrace_kit::field::{Int, Text};
use serde::{Deserialize, Serialize};

/// The description of a file; the file itself lies elsewhere.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    name: Text<200>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<Url>,
    /// Where it lies in its bucket: relative, without `.`, `..` or empty parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<Path>,
    /// In bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<Int<0, { i64::MAX }>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mime: Option<Text<200>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
}

/// An absolute `http` or `https` URL of at most 2,000 characters.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("format" = "uri")))]
#[serde(try_from = "Text<2_000>")]
struct Url(Text<2_000>);

impl TryFrom<Text<2_000>> for Url {
    type Error = &'static str;

    fn try_from(text: Text<2_000>) -> Result<Self, Self::Error> {
        let web = text.as_str().parse::<Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https"))
                && uri.host().is_some_and(|host| !host.is_empty())
        });
        match web {
            true => Ok(Self(text)),
            false => Err("is not an absolute http or https URL"),
        }
    }
}

/// An object's path in its storage: relative, without `.` or `..` or an empty part, a backslash or a
/// control character, at most 1,000 characters, so that joined to a folder or a bucket it stays inside.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "Text<1_000>")]
pub struct Path(Text<1_000>);

impl Path {
    /// The path itself.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<Text<1_000>> for Path {
    type Error = &'static str;

    fn try_from(text: Text<1_000>) -> Result<Self, Self::Error> {
        let is_named = |part: &str| {
            let strange = |character: char| character == '\\' || character.is_control();
            !matches!(part, "" | "." | "..") && !part.contains(strange)
        };
        match text.as_str().split('/').all(is_named) {
            true => Ok(Self(text)),
            false => Err("is not a relative path of named parts between slashes"),
        }
    }
}

/// A SHA-256 digest: 64 hexadecimal digits, which go on in lower case.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(extend("pattern" = "^[0-9A-Fa-f]{64}$")))]
#[serde(try_from = "String")]
struct Sha256(String);

impl TryFrom<String> for Sha256 {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => Ok(Self(text.to_ascii_lowercase())),
            false => Err("is not 64 hexadecimal digits"),
        }
    }
}

#[cfg(test)]
mod tests {
    use millrace_kit::parse;

    use super::*;

    fn parse(field: &str, value: &str) -> Result<String, String> {
        let body = format!(r#"{{"name":"n","{field}":"{value}"}}"#);
        match parse::object::<Artifact>(body.as_bytes()) {
            Ok(artifact) => serde_json::to_string(&artifact).map_err(|error| error.to_string()),
            Err(problem) => Err(problem.error().to_owned()),
        }
    }

    #[test]
    fn good_fields_are_taken() {
        for (field, value) in [
            ("url", "https://example.com/a?b=c"),
            ("url", "HTTP://example.com:8080"),
            ("path", "runs/1/screen shot..png"),
            ("mime", "image/png"),
        ] {
            assert!(parse(field, value).is_ok(), "{field} {value}");
        }
        let digest = parse("sha256", &"AB".repeat(32)).unwrap();
        assert!(digest.contains(&"ab".repeat(32)));
    }

    #[test]
    fn bad_fields_are_named() {
        for (field, value) in [
            ("url", "/a"),
            ("url", "example.com"),
            ("url", "ftp://example.com/a"),
            ("url", "javascript:alert(1)"),
            ("url", "https://"),
            ("path", "/a"),
            ("path", "a/../b"),
            ("path", ".."),
            ("path", "a\\\\b"),
            ("path", "a//b"),
            ("path", "a/"),
            ("path", "a\\nb"),
            ("path", "a\\u007fb"),
            ("sha256", "abc"),
            ("size", "1"),
            ("mime", ""),
        ] {
            let error = parse(field, value).unwrap_err();
            assert!(error.starts_with(&format!("{field}: ")), "{error}");
        }
    }
}
