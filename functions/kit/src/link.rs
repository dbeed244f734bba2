//! Links to files of the local store, which `sign-artifact` makes and `files` serves: `/files/BUCKET/PATH`, an expiry and an
//! HMAC-SHA256 (RFC 2104) over all three. Whoever has such a link may read that one file until then; nothing else is
//! asked of him, and nothing else can be made of it.

use hmac::{Hmac, Mac};
use http::StatusCode;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use crate::answer::Problem;
use crate::log;

/// The least length of the key in bytes: that of the hash (RFC 2104 section 3).
const LEAST_KEY: usize = 32;

/// Says what is signed, so that the key's signatures are good for nothing else, and a later form can be told from this one.
const LABEL: &[u8] = b"millrace file link 1\0";

/// All that is encoded in a path: everything but RFC 3986's unreserved characters, and the slashes.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

/// `text` percent-encoded (RFC 3986) as a URL's path, its slashes kept.
pub fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

/// What a link lets its bearer read, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link<'a> {
    /// The bucket's name.
    pub bucket: &'a str,
    /// The file's path in the bucket.
    pub path: &'a str,
    /// In seconds since 1970.
    pub expires: u64,
}

impl Link<'_> {
    /// Where both functions have the local store's folder mounted, and the file in it.
    pub fn file(&self) -> String {
        format!("/artifacts/{}/{}", self.bucket, self.path)
    }
}

/// The key of the links. No `Debug`: it is a secret.
pub struct Key(Hmac<Sha256>);

impl Key {
    /// The key that the variable `artifact_signing_key` holds.
    ///
    /// # Errors
    /// 503 `signing_not_configured` if it is empty or has fewer than 32 bytes; the log says which.
    pub fn new(secret: &str) -> Result<Self, Problem> {
        if secret.len() < LEAST_KEY {
            log::line(format_args!(
                "artifact_signing_key is empty or has fewer than {LEAST_KEY} bytes"
            ));
            return Err(not_configured());
        }
        let mac = Hmac::new_from_slice(secret.as_bytes()).map_err(|_| not_configured())?;
        Ok(Self(mac))
    }

    /// Everything of the link, each part with its length before it, so that no two links are the same bytes.
    fn mac(&self, link: &Link) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(LABEL);
        for part in [link.bucket, link.path] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.update(&link.expires.to_be_bytes());
        mac
    }

    /// The link's path and query string, signed.
    pub fn sign(&self, link: &Link) -> String {
        let signature = self.mac(link).finalize().into_bytes();
        let signature: String = signature.iter().map(|byte| format!("{byte:02x}")).collect();
        let (bucket, path) = (encoded(link.bucket), encoded(link.path));
        let expires = link.expires;
        format!("/files/{bucket}/{path}?expires={expires}&signature={signature}")
    }

    /// Whether `signature` is the link's, compared in constant time.
    pub fn has_signed(&self, link: &Link, signature: &str) -> bool {
        hex(signature).is_some_and(|bytes| self.mac(link).verify_slice(&bytes).is_ok())
    }
}

/// What 64 hexadecimal digits in lower case stand for.
fn hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    let is_hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 64 || !digits.iter().all(is_hex) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn not_configured() -> Problem {
    let error = "links to files can be neither made nor checked, for want of a key";
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "signing_not_configured",
        error,
    )
    .with_hint("set the variable artifact_signing_key to at least 32 random bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";
    const LINK: Link = Link {
        bucket: "artifacts",
        path: "runs/1/ü 100%.txt",
        expires: 1_790_000_000,
    };

    fn signature(url: &str) -> &str {
        url.rsplit_once("&signature=").unwrap().1
    }

    #[test]
    fn a_link_is_encoded_and_signed() {
        let url = Key::new(SECRET).unwrap().sign(&LINK);
        // Made with Python's hmac, from the definition above.
        let expected = "/files/artifacts/runs/1/%C3%BC%20100%25.txt?expires=1790000000&signature=a4b0d0efc6aacdb145034a28681d31fe2444eac85dfc38c7d939f73d3f862646";
        assert_eq!(url, expected);
    }

    #[test]
    fn a_signature_is_good_for_its_link_alone() {
        let key = Key::new(SECRET).unwrap();
        let url = key.sign(&LINK);
        let signature = signature(&url);
        assert!(key.has_signed(&LINK, signature));
        for other in [
            Link {
                bucket: "artifact",
                ..LINK
            },
            Link {
                bucket: "artifactss",
                path: "runs/1/ü 100%.tx",
                ..LINK
            },
            Link {
                bucket: "artifacts/runs",
                path: "1/ü 100%.txt",
                ..LINK
            },
            Link {
                path: "runs/1/ü 100%.txu",
                ..LINK
            },
            Link { path: "", ..LINK },
            Link {
                expires: LINK.expires + 1,
                ..LINK
            },
            Link { expires: 0, ..LINK },
        ] {
            assert!(!key.has_signed(&other, signature), "{other:?}");
        }
        let another = Key::new("0123456789abcdef0123456789abcdeF").unwrap();
        assert!(!another.has_signed(&LINK, signature));
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        let key = Key::new(SECRET).unwrap();
        let url = key.sign(&LINK);
        let good = signature(&url);
        let upper = good.to_uppercase();
        let longer = format!("{good}0");
        let spaced = format!(" {}", &good[1..]);
        let wide = format!("é{}", &good[2..]);
        for bad in [
            "",
            "0",
            &good[..63],
            &longer,
            &upper,
            &spaced,
            &wide,
            &"0".repeat(64),
            &"+1".repeat(32),
        ] {
            assert!(!key.has_signed(&LINK, bad), "{bad}");
        }
    }

    #[test]
    fn a_short_key_is_refused() {
        for short in ["", "short", &SECRET[1..]] {
            let problem = Key::new(short).err().unwrap();
            assert_eq!(problem.code(), "signing_not_configured");
            assert_eq!(problem.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}
