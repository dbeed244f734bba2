//! The variables of a drain. All but the queue have a default; one that means nothing is named.

use std::time::Duration;

use http::StatusCode;
use millrace_kit::{Problem, log};
use spin_sdk::variables::{self, Error};

/// What a run goes by.
#[derive(Debug, Clone)]
pub struct Config {
    /// The queue of the channel.
    pub queue: String,
    /// How many calls of the handler are in flight at most.
    pub concurrency: usize,
    /// How long a run may take as a whole. Hosts give a request 30 s.
    pub run: Duration,
    /// How long an attempt may take.
    pub job: Duration,
    /// How long a lease is; it is extended at half of that. What a lost instance had in hand waits so long.
    pub lease: Duration,
}

/// The queue of the channel.
///
/// # Errors
/// 500 `misconfigured`.
pub async fn queue() -> Result<String, Problem> {
    let queue = get("queue").await?.unwrap_or_default();
    match queue.trim() {
        "" => Err(wrong("queue", "is not set")),
        queue if queue.starts_with("millrace.") => {
            Err(wrong("queue", "is one of Millrace's own queues"))
        }
        queue if queue.chars().count() > 200 => Err(wrong("queue", "has more than 200 characters")),
        queue => Ok(queue.to_owned()),
    }
}

impl Config {
    /// Reads the variables.
    ///
    /// # Errors
    /// 500 `misconfigured`, with the variable in `details`.
    pub async fn read() -> Result<Self, Problem> {
        let run = number("run_seconds", 20, 2, 25).await?;
        let job = number("job_seconds", run / 2, 1, 24).await?;
        if job >= run {
            return Err(wrong("job_seconds", "is not less than run_seconds"));
        }
        Ok(Self {
            queue: queue().await?,
            concurrency: usize::try_from(number("concurrency", 10, 1, 500).await?).unwrap_or(1),
            run: Duration::from_secs(run),
            job: Duration::from_secs(job),
            lease: Duration::from_secs(number("lease_seconds", 15, 2, 3600).await?),
        })
    }
}

/// A variable's whole number, within bounds; `default` where it is not declared, or empty.
async fn number(name: &'static str, default: u64, least: u64, most: u64) -> Result<u64, Problem> {
    let text = get(name).await?.unwrap_or_default();
    within(text.trim(), default, least, most).ok_or_else(|| {
        wrong(
            name,
            &format!("is not a whole number from {least} to {most}"),
        )
    })
}

fn within(text: &str, default: u64, least: u64, most: u64) -> Option<u64> {
    match text {
        "" => Some(default),
        _ => text
            .parse()
            .ok()
            .filter(|number| (least..=most).contains(number)),
    }
}

/// A variable's value; none where the component does not declare it.
async fn get(name: &'static str) -> Result<Option<String>, Problem> {
    match variables::get(name).await {
        Ok(value) => Ok(Some(value)),
        Err(Error::Undefined(_)) => Ok(None),
        // The provider's own words might quote a value.
        Err(_) => Err(wrong(name, "cannot be read")),
    }
}

/// 500 `misconfigured`, with the variable and what is wrong with it, never its value: who calls a drain holds one of the application's own keys.
pub fn wrong(variable: &str, reason: &str) -> Problem {
    log::line(format_args!("the variable {variable} {reason}"));
    let error = "the channel is not configured correctly";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "misconfigured", error)
        .with_details(Some(format!("{variable}: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_a_default_and_bounds() {
        assert_eq!(within("", 10, 1, 500), Some(10));
        assert_eq!(within("500", 10, 1, 500), Some(500));
        for bad in ["0", "501", "-1", "ten", "1.5", "99999999999999999999"] {
            assert_eq!(within(bad, 10, 1, 500), None, "{bad}");
        }
    }
}
