//! What the channel is set to, by Spin variables.

use http::Uri;
use millrace_delivery::configuration::base_url;
use millrace_kit::variable;
use millrace_vault::Vault;
use millrace_worker::{Misconfiguration, Readiness};

/// Google's addresses, for variables that are empty.
const CALENDAR: &str = "https://www.googleapis.com/calendar/v3";
const BATCH: &str = "https://www.googleapis.com/batch/calendar/v3";
const TOKEN: &str = "https://oauth2.googleapis.com/token";
/// What calls and batches may be sent to.
const CALENDAR_HOST: &str = "google_calendar_host";

/// The settings of one attempt.
pub struct Config {
    pub client_id: String,
    pub client_secret: String,
    pub vault: Vault,
    /// How often an item is tried: the document's `CALENDAR_SYNC_MAX_RETRIES`.
    pub max_attempts: u32,
    pub calendar: Endpoint,
    pub batch: Endpoint,
    pub token: Endpoint,
}

/// An address of Google's: scheme and host, and the path without a slash at its end.
pub struct Endpoint {
    pub origin: String,
    pub path: String,
}

impl Endpoint {
    /// The whole address.
    pub fn url(&self) -> String {
        format!("{}{}", self.origin, self.path)
    }

    fn read(url: &str) -> Option<Self> {
        let uri: Uri = url.trim().parse().ok()?;
        let scheme = uri
            .scheme_str()
            .filter(|it| matches!(*it, "http" | "https"))?;
        let authority = uri.authority()?;
        let bare = uri.query().is_none() && !authority.as_str().contains('@');
        bare.then(|| Self {
            origin: format!("{scheme}://{authority}"),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

/// Why there are no settings.
pub enum Unset {
    /// Nothing is configured at all.
    Idle,
    Wrong(Misconfiguration),
}

impl From<Unset> for Readiness {
    fn from(unset: Unset) -> Self {
        match unset {
            Unset::Idle => Self::Idle(
                "set google_client_id, google_client_secret and calendar_token_key".to_owned(),
            ),
            Unset::Wrong(wrong) => Self::Misconfigured(wrong),
        }
    }
}

impl Config {
    /// Reads and checks all variables.
    ///
    /// # Errors
    /// That nothing is set, or the first variable that is set wrongly.
    pub async fn read() -> Result<Self, Unset> {
        let client_id = get("google_client_id").await?;
        let client_secret = get("google_client_secret").await?;
        let keys = get("calendar_token_key").await?;
        if client_id.is_empty() && client_secret.is_empty() && keys.is_empty() {
            return Err(Unset::Idle);
        }
        // Waking is the host's affair; the setting is checked, so that a mistake in it does not pass.
        number("calendar_sync_poll_interval_ms", 100..=3_600_000).await?;
        number("calendar_sync_batch_size", 1..=100).await?;
        Ok(Self {
            client_id: set("google_client_id", client_id)?,
            client_secret: set("google_client_secret", client_secret)?,
            vault: Vault::new(&keys).map_err(|fault| wrong("calendar_token_key", fault))?,
            max_attempts: number("calendar_sync_max_retries", 1..=1000).await?,
            calendar: endpoint("google_calendar_url", CALENDAR_HOST, CALENDAR).await?,
            batch: batch_endpoint().await?,
            token: endpoint("google_token_url", "google_token_host", TOKEN).await?,
        })
    }
}

async fn get(name: &'static str) -> Result<String, Unset> {
    match variable::get(name).await {
        Ok(value) => Ok(value.trim().to_owned()),
        Err(_) => Err(wrong(name, "can't be read")),
    }
}

fn set(name: &'static str, value: String) -> Result<String, Unset> {
    match value.is_empty() {
        true => Err(wrong(name, "is not set")),
        false => Ok(value),
    }
}

async fn number(name: &'static str, range: std::ops::RangeInclusive<u32>) -> Result<u32, Unset> {
    let number = get(name).await?.parse().ok();
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| {
            let (least, most) = range.into_inner();
            wrong(
                name,
                format_args!("is not a whole number from {least} to {most}"),
            )
        })
}

/// Where the client's secret and tokens go: over TLS, and to the host that the component may connect to.
async fn endpoint(url: &'static str, host: &'static str, known: &str) -> Result<Endpoint, Unset> {
    let read = base_url(url, host, known).await.map_err(Unset::Wrong)?;
    Endpoint::read(&read).ok_or_else(|| wrong(url, "is not an http:// or https:// URL"))
}

/// Batches go to the host of all other calls, which [`endpoint`] has found right by then.
async fn batch_endpoint() -> Result<Endpoint, Unset> {
    let endpoint = endpoint("google_batch_url", CALENDAR_HOST, BATCH).await;
    endpoint.map_err(|unset| match unset {
        Unset::Wrong(fault) if fault.variable == CALENDAR_HOST => {
            wrong("google_batch_url", "is not at google_calendar_host")
        }
        other => other,
    })
}

fn wrong(name: &'static str, reason: impl ToString) -> Unset {
    Unset::Wrong(Misconfiguration {
        variable: name.to_owned(),
        reason: reason.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_origin_and_a_path() {
        let endpoint = Endpoint::read("https://www.googleapis.com/calendar/v3/").expect("one");
        assert_eq!(endpoint.origin, "https://www.googleapis.com");
        assert_eq!(endpoint.path, "/calendar/v3");
        assert_eq!(endpoint.url(), "https://www.googleapis.com/calendar/v3");
        for url in [
            "",
            "/calendar",
            "ftp://host/",
            "https://a@host/",
            "https://host/?q=1",
        ] {
            assert!(Endpoint::read(url).is_none(), "{url}");
        }
    }
}
