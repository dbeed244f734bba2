//! The variables that a provider is configured with. A mistake is a [`Misconfiguration`] that names the variable and never
//! has its value.

use http::{HeaderValue, Uri};
use millrace_worker::Misconfiguration;
use spin_sdk::variables;

/// A variable that is set wrongly, and how.
pub fn wrong(variable: &str, reason: impl Into<String>) -> Misconfiguration {
    Misconfiguration {
        variable: variable.to_owned(),
        reason: reason.into(),
    }
}

/// The value of a variable without the space around it; empty where it is not set.
///
/// # Errors
/// The component has no such variable, or its provider fails.
pub async fn text(variable: &'static str) -> Result<String, Misconfiguration> {
    match variables::get(variable).await {
        Ok(value) => Ok(value.trim().to_owned()),
        // The provider's own words might quote a value.
        Err(_) => Err(wrong(variable, "cannot be read")),
    }
}

/// The value of a variable that must be set.
///
/// # Errors
/// As [`text`], and where it is empty or has characters that a header can't.
pub async fn required(variable: &'static str) -> Result<String, Misconfiguration> {
    let value = text(variable).await?;
    match value.as_str() {
        "" => Err(wrong(variable, "is not set")),
        value if !fits_a_header(value) => Err(wrong(variable, "has characters that it can't have")),
        _ => Ok(value),
    }
}

/// The same for one that may be empty.
///
/// # Errors
/// As [`text`], and where it has characters that a header can't.
pub async fn optional(variable: &'static str) -> Result<Option<String>, Misconfiguration> {
    let value = text(variable).await?;
    match value.as_str() {
        "" => Ok(None),
        value if !fits_a_header(value) => Err(wrong(variable, "has characters that it can't have")),
        _ => Ok(Some(value)),
    }
}

fn fits_a_header(value: &str) -> bool {
    value.is_ascii() && !value.contains(' ') && HeaderValue::from_str(value).is_ok()
}

/// Where a provider's API is: what the variable `url` says, or else `known`, without a slash at its end. The variable `host`, which
/// `allowed_outbound_hosts` is made of, has to be its scheme, host and port, since nothing could be sent otherwise.
///
/// # Errors
/// As [`text`]; a URL that is none, or not one to send a key to; a host that is not the URL's.
pub async fn base_url(
    url: &'static str,
    host: &'static str,
    known: &str,
) -> Result<String, Misconfiguration> {
    let chosen = match text(url).await?.as_str() {
        "" => known.to_owned(),
        chosen => checked(chosen).map_err(|reason| wrong(url, reason))?,
    };
    let needed = origin(&chosen).ok_or_else(|| wrong(url, "is not a URL"))?;
    match origin(&text(host).await?) {
        Some(allowed) if allowed == needed => Ok(chosen),
        _ => Err(wrong(host, format!("is not {needed}, where requests go"))),
    }
}

/// A base URL that a key may be sent to, without a slash at its end.
fn checked(url: &str) -> Result<String, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "is not a URL")?;
    let host = uri.host().ok_or("is not a URL")?;
    let is_here = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
    match uri.scheme_str() {
        Some("https") => (),
        Some("http") if is_here => (),
        _ => return Err("is not https://"),
    }
    if uri.authority().is_some_and(|it| it.as_str().contains('@')) || uri.query().is_some() {
        return Err("has more than a scheme, a host, a port and a path");
    }
    Ok(url.trim_end_matches('/').to_owned())
}

/// Scheme, host and port of a URL, the port only where it is not the scheme's own.
fn origin(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    let (scheme, host) = (uri.scheme_str()?, uri.host()?.to_ascii_lowercase());
    Some(match (scheme, uri.port_u16()) {
        (_, None) | ("https", Some(443)) | ("http", Some(80)) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_over_tls_or_stays_on_this_machine() {
        for good in [
            "https://api.example.com",
            "https://api.example.com/v3/",
            "http://127.0.0.1:4000",
            "http://localhost:1/x",
            "http://[::1]:9",
        ] {
            assert_eq!(checked(good).as_deref(), Ok(good.trim_end_matches('/')));
        }
        for bad in [
            "",
            "api.example.com",
            "http://api.example.com",
            "ftp://api.example.com",
            "https://user:password@api.example.com",
            "https://api.example.com?key=1",
            "/path",
            "http://127.0.0.1.example.com",
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_has_the_port_that_counts() {
        for (url, expected) in [
            ("https://API.example.com/v3", "https://api.example.com"),
            ("https://api.example.com:443", "https://api.example.com"),
            ("http://127.0.0.1:80/", "http://127.0.0.1"),
            (
                "https://api.example.com:8443",
                "https://api.example.com:8443",
            ),
        ] {
            assert_eq!(origin(url).as_deref(), Some(expected));
        }
        assert_eq!(origin("api.example.com"), None);
    }
}
