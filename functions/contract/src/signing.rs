//! `sign-artifact`: which file a link is wanted to, and the link.

use millrace_kit::field::{Int, Text};
use serde::{Deserialize, Serialize};

use crate::artifact::Path;

/// A file, and for how long the link to it shall be good.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The bucket that it lies in: one of those that the server allows. `artifacts` if it is absent.
    bucket: Option<Bucket>,
    /// Where it lies in its bucket: relative, without `.`, `..` or empty parts.
    path: Path,
    /// How long the link shall be good, in seconds: at most a week, which is the most that S3 allows. An hour if it is absent.
    expires: Option<Lifetime>,
}

/// In seconds.
type Lifetime = Int<1, 604_800>;

impl Wanted {
    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        match &self.bucket {
            Some(bucket) => bucket.as_str(),
            None => "artifacts",
        }
    }

    /// The file's path in its bucket.
    pub fn path(&self) -> &str {
        self.path.as_str()
    }

    /// The link's lifetime in seconds, from 1 to 604,800.
    pub fn expires(&self) -> u32 {
        let asked = self.expires.map(Lifetime::get);
        asked
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(3600)
    }
}

/// A bucket's name: letters, digits, `-`, `_` and `.`, beginning with a letter or a digit, at most 63 characters. So it is one part
/// of a path, and can be a part of a host's name.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "Text<63>")]
pub struct Bucket(Text<63>);

impl Bucket {
    /// The name itself.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<Text<63>> for Bucket {
    type Error = &'static str;

    fn try_from(text: Text<63>) -> Result<Self, Self::Error> {
        let name = text.as_str();
        let is_plain = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        match is_plain && name.starts_with(|first: char| first.is_ascii_alphanumeric()) {
            true => Ok(Self(text)),
            false => Err("is not a bucket's name"),
        }
    }
}

/// The link.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SignedUrl<'a> {
    /// Where the file can be had without any credentials until the link expires.
    #[cfg_attr(feature = "schema", schemars(extend("format" = "uri")))]
    pub url: String,
    pub bucket: &'a str,
    pub path: &'a str,
    /// How long the link is good, in seconds.
    pub expires: u32,
}

#[cfg(test)]
mod tests {
    use millrace_kit::parse;

    use super::*;

    fn parse(query: &str) -> Result<(String, String, u32), String> {
        match parse::query::<Wanted>(Some(query)) {
            Ok(wanted) => Ok((
                wanted.bucket().to_owned(),
                wanted.path().to_owned(),
                wanted.expires(),
            )),
            Err(problem) => Err(problem.error().to_owned()),
        }
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        for (query, bucket, path, expires) in [
            ("path=a", "artifacts", "a", 3600),
            ("bucket=b.2-c_d&path=a/b&expires=1", "b.2-c_d", "a/b", 1),
            (
                "path=a+b%2F%C3%BC%25&expires=604800",
                "artifacts",
                "a b/ü%",
                604_800,
            ),
        ] {
            let expected = (bucket.to_owned(), path.to_owned(), expires);
            assert_eq!(parse(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = format!("path={}", "x".repeat(1001));
        for (query, field) in [
            ("", "path"),
            ("path=", "path"),
            ("path=/a", "path"),
            ("path=a/../b", "path"),
            ("path=%2E%2e", "path"),
            ("path=a%5Cb", "path"),
            ("path=a%00b", "path"),
            ("path=a%0Ab", "path"),
            ("path=%FF", "path"),
            (long.as_str(), "path"),
            ("path=a&bucket=", "bucket"),
            ("path=a&bucket=..", "bucket"),
            ("path=a&bucket=a/b", "bucket"),
            ("path=a&bucket=.hidden", "bucket"),
            ("path=a&bucket=b%C3%BC", "bucket"),
            ("path=a&expires=0", "expires"),
            ("path=a&expires=604801", "expires"),
            ("path=a&expires=-1", "expires"),
            ("path=a&expires=1.5", "expires"),
            ("path=a&expires=1e3", "expires"),
            ("path=a&expires=", "expires"),
            ("path=a&path=b", "path"),
            ("path=a&download=1", "download"),
        ] {
            let error = parse(query).unwrap_err();
            assert!(error.starts_with(&format!("{field}: ")), "{query}: {error}");
        }
    }
}
