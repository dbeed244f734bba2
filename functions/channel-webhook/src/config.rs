//! The variables that say whether webhooks are sent, and to which addresses. An error names the variable, never its value.

use std::time::Duration;

use http::Uri;
use millrace_kit::variable;
use millrace_worker::Misconfiguration;

/// What becomes of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They are kept, to be looked at.
    Preview,
    /// They are sent.
    Send,
}

impl Mode {
    /// What [`millrace_worker::Readiness`] says of it.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Preview => "preview: nothing is sent, see GET /preview",
            Self::Send => "sends",
        }
    }
}

/// All of them.
pub struct Settings {
    /// `webhook_mode`
    pub mode: Mode,
    /// `webhook_allow_http`: URLs without TLS are called as well.
    pub allows_http: bool,
    /// `webhook_allow_private`: addresses that are not on the public internet are called as well.
    pub allows_private: bool,
    /// Hosts and ports that the component may connect to for the application itself: `wake_url`, and where `database_url` and
    /// `collab_jwks_url` are HTTP.
    pub own: Vec<(String, u16)>,
    /// `webhook_timeout_seconds`: how long an answer may take.
    pub timeout: Duration,
}

impl Settings {
    /// Reads them.
    ///
    /// # Errors
    /// The first that means nothing.
    pub async fn read() -> Result<Self, Misconfiguration> {
        Ok(Self {
            mode: read("webhook_mode", mode).await?,
            allows_http: read("webhook_allow_http", switch).await?,
            allows_private: read("webhook_allow_private", switch).await?,
            own: [
                read("wake_url", server).await?,
                read("database_url", server).await?,
                read("collab_jwks_url", server).await?,
            ]
            .into_iter()
            .flatten()
            .collect(),
            timeout: read("webhook_timeout_seconds", timeout).await?,
        })
    }

    /// Whether this host and port are the application's own. What such a name resolves to is not looked at by the host.
    pub fn is_own(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.');
        self.own
            .iter()
            .any(|(name, own)| *own == port && name.eq_ignore_ascii_case(host))
    }
}

async fn read<T>(
    name: &'static str,
    parse: fn(&str) -> Result<T, &'static str>,
) -> Result<T, Misconfiguration> {
    let value = variable::get(name).await;
    let parsed = match &value {
        Ok(text) => parse(text.trim()),
        Err(_) => Err("cannot be read"),
    };
    parsed.map_err(|reason| Misconfiguration {
        variable: name.to_owned(),
        reason: reason.to_owned(),
    })
}

fn mode(text: &str) -> Result<Mode, &'static str> {
    match text {
        "preview" => Ok(Mode::Preview),
        "send" => Ok(Mode::Send),
        _ => Err("is neither preview nor send"),
    }
}

fn switch(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" | "true" => Ok(true),
        "" | "0" | "false" => Ok(false),
        _ => Err("is neither 1 nor 0"),
    }
}

/// Host and port of an HTTP URL; `None` for anything else. (What is wrong with it is the drain's to say.)
fn server(text: &str) -> Result<Option<(String, u16)>, &'static str> {
    let uri: Option<Uri> = text.parse().ok();
    let server = uri.and_then(|uri| {
        let own_port = match uri.scheme_str()? {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let host = uri.host()?.trim_end_matches('.').to_ascii_lowercase();
        Some((host, uri.port_u16().unwrap_or(own_port)))
    });
    Ok(server)
}

/// At most what leaves a drain time to report: its run has 30 s by default.
fn timeout(text: &str) -> Result<Duration, &'static str> {
    match text.parse() {
        Ok(seconds @ 1..=25) => Ok(Duration::from_secs(seconds)),
        _ => Err("is not a whole number of seconds from 1 to 25"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_nothing_is_refused() {
        assert_eq!(mode("send"), Ok(Mode::Send));
        assert!(mode("").is_err() && mode("Send").is_err());
        assert_eq!(switch("true"), Ok(true));
        assert!(switch("yes").is_err());
        let own = |host: &str, port| Ok(Some((host.to_owned(), port)));
        assert_eq!(
            server("https://DB.example./rest/v1"),
            own("db.example", 443)
        );
        assert_eq!(server("http://10.0.0.1:3000"), own("10.0.0.1", 3000));
        assert_eq!(server("postgres://u:w@db.example/d"), Ok(None));
        assert_eq!(server(""), Ok(None));
        assert_eq!(timeout("25"), Ok(Duration::from_secs(25)));
        for bad in ["0", "26", "-1", "1.5", ""] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
    }
}
