//! The variables that say whether webhooks are sent, and to which addresses. An error names the variable, never its value.

use std::time::Duration;

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
            timeout: read("webhook_timeout_seconds", timeout).await?,
        })
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
        assert_eq!(timeout("25"), Ok(Duration::from_secs(25)));
        for bad in ["0", "26", "-1", "1.5", ""] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
    }
}
