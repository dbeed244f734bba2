//! `millrace watch`: follows a job, or the jobs of a queue, in the terminal, as any client of the event stream could.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use reqwest::{Client, Response, redirect};
use serde_json::Value;
use sse_stream::{Sse, SseStream};
use url::Url;
use uuid::Uuid;

/// What a shell learns beside 0 (the job succeeded) and 1 (it failed or was cancelled).
const TIME_IS_UP: u8 = 124; // as timeout(1) has it
const INTERRUPTED: u8 = 130;

/// How long to wait before reconnecting: at first, and at most while it does not work.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A stream says something more often than this, or it is gone without a word.
const LONGEST_SILENCE: Duration = Duration::from_secs(90);

/// What `millrace watch` is told on the command line. Credentials are not among it: other users of a machine see that.
#[derive(clap::Args)]
pub struct WatchArguments {
    /// The job to follow, from its first event to its end
    #[arg(value_name = "JOB_ID", required_unless_present = "queue")]
    pub job: Option<Uuid>,
    /// Follow the jobs of this queue instead, from now on
    #[arg(long, value_name = "NAME", conflicts_with = "job")]
    pub queue: Option<String>,
    /// Where Millrace is served; else MILLRACE_URL, else http://127.0.0.1:3000
    #[arg(long)]
    pub url: Option<String>,
    /// Print each event as JSON
    #[arg(long)]
    pub json: bool,
    /// Stop after so many seconds; for a job that has not ended by then the exit status is 124
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
}

/// Follows until the job's end, the end of the time, or Ctrl-C. The credentials are `TOKEN` or `COLLAB_API_KEY` of the environment.
///
/// # Errors
/// What keeps it from following: a wrong address, a refusal, a server that was never there. One that goes away is waited for.
pub async fn watch(arguments: WatchArguments) -> Result<ExitCode> {
    let is_job = arguments.job.is_some();
    let seconds = arguments.seconds;
    let mut watch = Watch::new(arguments)?;
    let time_is_up = async {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    let outcome = tokio::select! {
        outcome = watch.follow() => outcome,
        _ = tokio::signal::ctrl_c() => return Ok(ExitCode::from(INTERRUPTED)),
        () = time_is_up => return Ok(ExitCode::from(if is_job { TIME_IS_UP } else { 0 })),
    };
    match outcome {
        // Whoever reads has seen enough, as in `millrace watch … | head`.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        outcome => outcome,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// A stream that is followed over as many connections as it takes.
struct Watch {
    client: Client,
    stream: Url,
    json: bool,
    /// The place to go on from.
    place: Option<String>,
    /// Whether the job succeeded, by the last of its events that says so.
    succeeded: Option<bool>,
    /// Whether a stream was ever there.
    opened: bool,
    pause: Duration,
}

/// How a connection ended, if not with an error that is final.
enum End {
    /// The job is over.
    Over,
    /// The server has ended the stream: streams don't go on for ever.
    InTime,
    /// It broke, or was refused for the moment.
    Lost(anyhow::Error),
}

impl Watch {
    fn new(arguments: WatchArguments) -> Result<Self> {
        let url = arguments.url.or_else(|| environment("MILLRACE_URL"));
        let url = url.as_deref().unwrap_or("http://127.0.0.1:3000");
        let stream = format!("{}/api/collab/events/stream", url.trim_end_matches('/'));
        let mut stream = Url::parse(&stream)
            .ok()
            .filter(|url| ["http", "https"].contains(&url.scheme()))
            .context("the address is no http:// or https:// URL (--url or MILLRACE_URL)")?;
        match (arguments.job, arguments.queue) {
            (Some(job), _) => stream
                .query_pairs_mut()
                .append_pair("jobId", &job.to_string())
                .append_pair("until", "end"),
            (None, queue) => stream
                .query_pairs_mut()
                .append_pair("executorId", &queue.unwrap_or_default()),
        };
        let client = Client::builder()
            .default_headers(credentials()?)
            .user_agent(concat!("millrace/", env!("CARGO_PKG_VERSION")))
            // They would take the key along.
            .redirect(redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(LONGEST_SILENCE)
            .build()?;
        Ok(Self {
            client,
            stream,
            json: arguments.json,
            place: None,
            succeeded: None,
            opened: false,
            pause: FIRST_PAUSE,
        })
    }

    async fn follow(&mut self) -> Result<ExitCode> {
        loop {
            match self.connection().await? {
                End::Over => return self.verdict(),
                End::InTime => {}
                End::Lost(error) if !self.opened => return Err(error),
                End::Lost(error) => eprintln!("millrace: {error:#}; trying again"),
            }
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Follows over one connection.
    async fn connection(&mut self) -> Result<End> {
        let mut request = self.client.get(self.stream.clone());
        if let Some(place) = &self.place {
            request = request.header("Last-Event-ID", place);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(End::Lost(self.lost(error))),
        };
        match response.status() {
            StatusCode::OK if is_event_stream(&response) => self.opened = true,
            StatusCode::NO_CONTENT => return Ok(End::Over),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                return Ok(End::Lost(refusal(response).await));
            }
            _ => return Err(refusal(response).await),
        }
        let body = reqwest::Body::from(response);
        let mut stream = SseStream::new(body);
        while let Some(said) = stream.next().await {
            match said {
                Ok(said) if said.event.as_deref() == Some("end") => return Ok(End::Over),
                Ok(said) => self.note(said)?,
                Err(error) => return Ok(End::Lost(anyhow!("the stream broke off: {error}"))),
            }
        }
        Ok(End::InTime)
    }

    fn note(&mut self, said: Sse) -> Result<()> {
        self.pause = FIRST_PAUSE;
        if let Some(data) = said.data {
            let event: Value = serde_json::from_str(&data).context("an event is not JSON")?;
            match event["event_type"].as_str() {
                Some("succeeded") => self.succeeded = Some(true),
                Some("dead_lettered" | "cancelled") => self.succeeded = Some(false),
                _ => {}
            }
            let line = if self.json { data } else { line(&event) };
            // Not println!, which panics where nobody reads any more.
            writeln!(io::stdout(), "{line}")?;
        }
        // Only now: what was not printed is to be sent again.
        self.place = said.id.or(self.place.take());
        Ok(())
    }

    fn verdict(&self) -> Result<ExitCode> {
        match self.succeeded {
            Some(true) => Ok(ExitCode::SUCCESS),
            Some(false) => Ok(ExitCode::FAILURE),
            None => Err(anyhow!(
                "the job is over, and the events that say how are no longer kept"
            )),
        }
    }

    fn lost(&self, error: reqwest::Error) -> anyhow::Error {
        let host = self.stream.origin().ascii_serialization();
        let error = anyhow!(error.without_url());
        error.context(format!("{host} can't be reached"))
    }
}

/// A variable of the environment; an empty one counts as none.
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn credentials() -> Result<HeaderMap> {
    let header = |name: &'static str, value: String, variable: &str| {
        let mut value = HeaderValue::try_from(value)
            .ok()
            .with_context(|| format!("{variable} holds what no header can"))?;
        value.set_sensitive(true);
        Ok(HeaderMap::from_iter([(
            HeaderName::from_static(name),
            value,
        )]))
    };
    if let Some(token) = environment("TOKEN") {
        return header("authorization", format!("Bearer {token}"), "TOKEN");
    }
    if let Some(key) = environment("COLLAB_API_KEY") {
        return header("x-api-key", key, "COLLAB_API_KEY");
    }
    Err(anyhow!(
        "neither TOKEN nor COLLAB_API_KEY is set; beside a running `millrace up`: eval \"$(cargo xtask env)\""
    ))
}

fn is_event_stream(response: &Response) -> bool {
    let media_type = response.headers().get(http::header::CONTENT_TYPE);
    media_type.is_some_and(|value| value.as_bytes().starts_with(b"text/event-stream"))
}

/// What a refusal means, with the server's own words where it has some.
async fn refusal(response: Response) -> anyhow::Error {
    let status = response.status();
    let body: Value = response.json().await.unwrap_or_default();
    let said = match (body["code"].as_str(), body["error"].as_str()) {
        (Some(code), Some(error)) => format!("{}: {}", printable(code), printable(error)),
        _ => "it did not say why".to_owned(),
    };
    let what = match status.as_u16() {
        401 => "the credentials are not accepted (TOKEN, else COLLAB_API_KEY, of the environment)",
        403 => "the credentials don't allow to read events (the scope is `read`)",
        404 => "nothing to follow",
        200..=399 => "the answer is no event stream: is this Millrace's address?",
        _ => "the server refuses",
    };
    anyhow!("{what}: {} {said}", status.as_u16())
}

/// An event for people: when, what, of which job, and what stands in its payload.
fn line(event: &Value) -> String {
    let text = |name: &str| printable(event[name].as_str().unwrap_or_default());
    let mut line = format!(
        "{}  {:<14}  {}",
        text("created_at"),
        text("event_type"),
        text("job_id")
    );
    let payload = &event["payload"];
    for (name, label) in [
        ("attempt", "attempt"),
        ("worker", "worker"),
        ("run_at", "due"),
        ("job_id", "as"),
        ("error_code", "error"),
    ] {
        match &payload[name] {
            Value::Null => {}
            Value::String(value) => line += &format!("  {label} {}", printable(value)),
            value => line += &format!("  {label} {value}"),
        }
    }
    if let Some(error) = payload["error"].as_str() {
        line += &format!(": {}", printable(error));
    }
    line
}

/// A worker's words may hold what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_tells_what_happened_and_a_terminal_has_nothing_to_obey() {
        let event = json!({
            "id": 7, "job_id": "j", "event_type": "dead_lettered", "created_at": "2030-01-31T09:30:00Z",
            "payload": { "attempt": 2, "error_code": "failed", "error": "no\u{1b}[31m\nluck", "ran": 1.5 }
        });
        assert_eq!(
            line(&event),
            "2030-01-31T09:30:00Z  dead_lettered   j  attempt 2  error failed: no [31m luck"
        );
    }
}
