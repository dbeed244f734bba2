//! What a link's URL says, decoded once.

use http::Uri;
use millrace_contract::artifact::Path;
use millrace_contract::signing::Bucket;
use millrace_kit::field::Text;
use millrace_kit::link::Link;
use percent_encoding::percent_decode_str;

/// The parts of a link as they were given, not yet believed.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    bucket: String,
    path: String,
    /// In seconds since 1970.
    pub expires: u64,
    /// Hexadecimal digits, if it is a signature at all.
    pub signature: String,
}

impl Target {
    /// Reads `/files/BUCKET/PATH?expires=…&signature=…`; `None` for whatever could not have been signed.
    pub fn of(uri: &Uri) -> Option<Self> {
        let (bucket, path) = uri.path().strip_prefix("/files/")?.split_once('/')?;
        let decoded = |text| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
        let (mut expires, mut signature) = (None, None);
        for (name, value) in form_urlencoded::parse(uri.query()?.as_bytes()) {
            let earlier = match &*name {
                "expires" => expires.replace(value),
                "signature" => signature.replace(value),
                _ => return None,
            };
            if earlier.is_some() {
                return None;
            }
        }
        let expires = expires?;
        let is_digits = !expires.is_empty() && expires.bytes().all(|byte| byte.is_ascii_digit());
        Some(Self {
            bucket: decoded(bucket)?,
            path: decoded(path)?,
            expires: is_digits.then(|| expires.parse().ok()).flatten()?,
            signature: signature?.into_owned(),
        })
    }

    /// What the signature has to be for.
    pub fn link(&self) -> Link<'_> {
        Link {
            bucket: &self.bucket,
            path: &self.path,
            expires: self.expires,
        }
    }

    /// Whether bucket and path are such as `sign-artifact` takes; it signs no others, so this guards against a key that others use.
    pub fn is_well_formed(&self) -> bool {
        let bucket = Text::try_from(self.bucket.clone()).map(Bucket::try_from);
        let path = Text::try_from(self.path.clone()).map(Path::try_from);
        matches!((bucket, path), (Ok(Ok(_)), Ok(Ok(_))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str) -> Option<Target> {
        Target::of(&uri.parse().unwrap())
    }

    #[test]
    fn a_link_is_decoded_once() {
        let read = target("/files/b/a%20b/%C3%BC%2525?expires=17&signature=ab").unwrap();
        let expected = Target {
            bucket: "b".to_owned(),
            path: "a b/ü%25".to_owned(),
            expires: 17,
            signature: "ab".to_owned(),
        };
        assert_eq!(read, expected);
        assert!(read.is_well_formed());
    }

    #[test]
    fn what_could_not_have_been_signed_is_none() {
        for uri in [
            "/files/b/a",
            "/files/b?expires=1&signature=a",
            "/files/?expires=1&signature=a",
            "/filesb/a?expires=1&signature=a",
            "/files/b/a?expires=1",
            "/files/b/a?signature=a",
            "/files/b/a?expires=&signature=a",
            "/files/b/a?expires=+1&signature=a",
            "/files/b/a?expires=-1&signature=a",
            "/files/b/a?expires=1e3&signature=a",
            "/files/b/a?expires=18446744073709551616&signature=a",
            "/files/b/a?expires=1&expires=2&signature=a",
            "/files/b/a?expires=1&signature=a&signature=b",
            "/files/b/a?expires=1&signature=a&more=1",
            "/files/b/%FF?expires=1&signature=a",
        ] {
            assert_eq!(target(uri), None, "{uri}");
        }
    }

    #[test]
    fn strange_paths_are_not_well_formed() {
        for path in [
            "b/../a",
            "b/a/..",
            "b/%2e%2e/a",
            "b//a",
            "b/",
            "b/./a",
            "../a",
            "%2e%2e/a",
            "/a",
            "b/a%5Cb",
            "b/a%00",
            "b/a%0Ab",
            "b%2Fc/a",
        ] {
            let read = target(&format!("/files/{path}?expires=1&signature=a")).unwrap();
            assert!(!read.is_well_formed(), "{path}");
        }
    }
}
