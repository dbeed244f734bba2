//! The variables that say where alerts go and in which form. An error names the variable, never its value.

use http::Uri;
use millrace_kit::webhook::Secret;
use millrace_kit::{Problem, variable};

use crate::message::Format;
use crate::webhook::Webhook;

/// The webhook that is configured, if one is.
///
/// # Errors
/// 500 `misconfigured` if one of its variables means nothing.
pub async fn webhook() -> Result<Option<Webhook>, Problem> {
    let url = variable::get("alert_webhook_url").await?;
    if url.trim().is_empty() {
        return Ok(None);
    }
    let format = match variable::get("alert_webhook_format").await?.trim() {
        "json" => Format::Json,
        "slack" => Format::Slack,
        _ => {
            return Err(variable::wrong(
                "alert_webhook_format",
                "is neither json nor slack",
            ));
        }
    };
    // Several with spaces between them, while one takes the place of another.
    let secrets = Secret::parse_all(&variable::get("alert_webhook_secret").await?)
        .map_err(|why| variable::wrong("alert_webhook_secret", why))?;
    let uri = uri(url.trim()).map_err(|why| variable::wrong("alert_webhook_url", why))?;
    Ok(Some(Webhook {
        uri,
        format,
        secrets,
    }))
}

/// 500 `misconfigured`: the URL's host is not one that may be called.
pub fn denied() -> Problem {
    variable::wrong(
        "alert_webhook_host",
        "does not allow the host of alert_webhook_url",
    )
}

fn uri(text: &str) -> Result<Uri, &'static str> {
    let uri: Uri = text
        .parse()
        .map_err(|_| "is not a URL that can be called")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("is neither an https:// nor an http:// URL");
    }
    match uri.authority() {
        Some(authority) if !authority.as_str().contains('@') => Ok(uri),
        _ => Err("has a user or a password in it, which would not be sent"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_cannot_be_called_is_told() {
        assert_eq!(
            uri("https://hooks.example/T/B?x=1#y").unwrap(),
            "https://hooks.example/T/B?x=1"
        );
        for bad in [
            "hooks.example",
            "ftp://hooks.example",
            "https://user@hooks.example",
            "https://:word@hooks.example",
        ] {
            assert!(uri(bad).is_err(), "{bad}");
        }
    }
}
