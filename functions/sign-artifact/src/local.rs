//! The local store: files in the folder that is mounted at `/artifacts`, which the component `files` serves.

use http::{HeaderMap, Uri};
use millrace_contract::signing::Wanted;
use millrace_kit::link::{Key, Link};
use millrace_kit::{Problem, variable};

/// A link to a file that is there, on the server that the request came to or on `public_url`.
///
/// # Errors
/// 404 where there is no such file; 503 without a key; 500 if `public_url` is no URL.
pub async fn link(wanted: &Wanted, headers: &HeaderMap, now: u64) -> Result<String, Problem> {
    let key = Key::new(&variable::get("artifact_signing_key").await?)?;
    let public_url = variable::get("public_url").await?;
    let base = match public_url.as_str() {
        "" => own_address(headers).ok_or_else(|| {
            variable::wrong("public_url", "is empty, and the host did not tell its own")
        })?,
        url => checked(url)
            .ok_or_else(|| variable::wrong("public_url", "is not an http or https URL"))?,
    };
    let link = Link {
        bucket: wanted.bucket(),
        path: wanted.path(),
        expires: now.saturating_add(wanted.expires().into()),
    };
    let is_file = std::fs::metadata(link.file()).is_ok_and(|metadata| metadata.is_file());
    match is_file {
        true => Ok(format!("{base}{}", key.sign(&link))),
        false => Err(super::not_found()),
    }
}

/// Scheme, host and port of the URL that was asked for, as every Spin host tells it to its guests.
fn own_address(headers: &HeaderMap) -> Option<String> {
    let url = headers.get("spin-full-url")?.to_str().ok()?;
    let url: Uri = url.parse().ok()?;
    Some(format!("{}://{}", url.scheme_str()?, url.authority()?))
}

/// A URL before which `/files/…` can be put.
fn checked(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let is_web = matches!(uri.scheme_str(), Some("http" | "https"));
    let is_plain = uri.query().is_none() && !url.contains(['#', '@']);
    (is_web && is_plain && uri.host().is_some_and(|host| !host.is_empty()))
        .then(|| url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_address_is_that_of_the_request() {
        let headers = |url| {
            HeaderMap::from_iter([(
                "spin-full-url".parse().unwrap(),
                HeaderValue::from_static(url),
            )])
        };
        for (url, address) in [
            (
                "http://127.0.0.1:3000/functions/v1/sign-artifact?path=a",
                "http://127.0.0.1:3000",
            ),
            ("https://queue.example/x", "https://queue.example"),
        ] {
            assert_eq!(own_address(&headers(url)).as_deref(), Some(address));
        }
        assert_eq!(own_address(&headers("/functions/v1/sign-artifact")), None);
        assert_eq!(own_address(&HeaderMap::new()), None);
    }

    #[test]
    fn a_public_url_is_one() {
        for (url, base) in [
            ("https://queue.example", Some("https://queue.example")),
            (
                "https://queue.example:8443/below/",
                Some("https://queue.example:8443/below"),
            ),
            ("ftp://queue.example", None),
            ("queue.example", None),
            ("https://", None),
            ("https://queue.example?a=b", None),
            ("https://user:password@queue.example", None),
            ("/files", None),
        ] {
            assert_eq!(checked(url).as_deref(), base, "{url}");
        }
    }
}
