//! What the outbox knows, and what it is told: each function is one statement of `sql/V31__calendar.sql`, whose comments say what it does.

use std::time::Duration;

use millrace_kit::auth::Caller;
use millrace_kit::{Problem, database};
use millrace_vault::Sealed;
use millrace_worker::Job;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::payload::Event;

/// The attempt that the statements are about.
pub struct Attempt<'a> {
    pub job: &'a Job,
    pub payload: &'a RawValue,
    /// What it goes by once it goes ahead: what is said by an earlier attempt of the job is passed over.
    pub lease: Option<i64>,
}

/// What an attempt is to do.
#[derive(Deserialize)]
#[serde(try_from = "Begun")]
pub enum Step {
    Nothing,
    Wait { seconds: f64, code: String },
    Dead { code: String },
    Go(Box<Go>),
}

/// The same as it is answered. A tagged enum would not do: the JSON text in it can't be kept as it is.
#[derive(Deserialize)]
struct Begun {
    step: String,
    seconds: Option<f64>,
    code: Option<String>,
    lease: Option<i64>,
    permits: Option<Box<RawValue>>,
    connection: Option<Connection>,
    binding: Option<Binding>,
}

impl TryFrom<Begun> for Step {
    type Error = &'static str;

    fn try_from(begun: Begun) -> Result<Self, Self::Error> {
        let code = begun.code.unwrap_or_default();
        match (begun.step.as_str(), begun.permits, begun.connection) {
            ("nothing", _, _) => Ok(Self::Nothing),
            ("wait", _, _) => Ok(Self::Wait {
                seconds: begun.seconds.unwrap_or(1.0),
                code,
            }),
            ("dead", _, _) => Ok(Self::Dead { code }),
            ("go", Some(permits), Some(connection)) => Ok(Self::Go(Box::new(Go {
                lease: begun.lease,
                permits,
                connection,
                binding: begun.binding,
            }))),
            _ => Err("not a step"),
        }
    }
}

/// What an attempt that goes ahead needs.
pub struct Go {
    pub lease: Option<i64>,
    /// Of which circuit breakers this attempt is the probe.
    pub permits: Box<RawValue>,
    pub connection: Connection,
    pub binding: Option<Binding>,
}

/// A workspace's tokens, encrypted.
#[derive(Deserialize)]
pub struct Connection {
    pub version: i64,
    pub refresh_token: String,
    pub key_id: String,
    pub access_token: Option<String>,
    pub access_key_id: Option<String>,
}

/// What is known of a source's event.
#[derive(Debug, Clone, Deserialize)]
pub struct Binding {
    pub state: State,
    pub event_id: String,
    pub calendar_id: String,
}

/// As `millrace.calendar_binding` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Trying,
    Bound,
    Rebuilding,
    Gone,
}

/// What an attempt changed at Google.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    None,
    Bound,
    Gone,
    Moved,
    /// The event's id is of no more use: the next attempt takes another one.
    Spent,
    /// A rebuilding that is not to go on.
    Over,
}

/// Whether Google worked: what its circuit breakers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Google {
    Worked,
    Failed,
    Unknown,
}

/// What is said of an attempt.
#[derive(Serialize)]
pub struct Word<'a> {
    pub permits: &'a RawValue,
    pub effect: Effect,
    pub google: Google,
    /// What the metrics count it as.
    pub outcome: &'a str,
    pub invalid: Option<Invalid<'a>>,
}

/// The connection whose consent is gone.
#[derive(Serialize)]
pub struct Invalid<'a> {
    pub version: i64,
    pub reason: &'a str,
}

/// What follows.
#[derive(Deserialize)]
pub struct Noted {
    /// The attempt is not to count, since it was Google that failed.
    pub excused: bool,
    /// Whether the source was still this attempt's.
    pub held: bool,
    /// Whether the workspace has another connection by now than the one that is invalid.
    #[serde(default)]
    pub renewed: bool,
    /// After how long to try again.
    pub seconds: Option<f64>,
    /// The event's next id, after a move.
    pub event_id: Option<String>,
}

impl Noted {
    /// After how long to try again, where that is said.
    pub fn wait(&self) -> Option<Duration> {
        self.seconds.map(seconds)
    }
}

/// A source whose event is to be made again.
#[derive(Debug, Clone, Deserialize)]
pub struct Item {
    pub source_type: String,
    pub source_id: String,
    pub state: State,
    pub calendar_id: String,
    pub event_id: String,
    pub next_event_id: String,
    pub event_type: String,
    pub event: Event,
}

/// A part of a rebuilding.
#[derive(Deserialize)]
pub struct Part {
    pub items: Vec<Item>,
    pub left: u64,
    pub failed: u64,
    /// How many of those that were told of are another attempt's by now.
    pub lost: u64,
}

/// What a part came to.
#[derive(Default, Serialize)]
pub struct Rebuilt<'a> {
    pub gone: Vec<Named<'a>>,
    pub bound: Vec<Named<'a>>,
    pub failed: Vec<Named<'a>>,
}

/// Which source.
#[derive(Serialize)]
pub struct Named<'a> {
    pub source_type: &'a str,
    pub source_id: &'a str,
}

impl Item {
    /// Which source it is.
    pub fn named(&self) -> Named<'_> {
        Named {
            source_type: &self.source_type,
            source_id: &self.source_id,
        }
    }
}

#[derive(Serialize)]
struct Request<'a, R> {
    job_id: &'a str,
    lease: Option<i64>,
    payload: &'a RawValue,
    /// Seconds until the attempt's deadline.
    remaining: f64,
    #[serde(flatten)]
    rest: R,
}

#[derive(Serialize)]
struct Begin {
    max_attempts: u32,
}

#[derive(Serialize)]
struct Next<'a> {
    limit: usize,
    #[serde(flatten)]
    rebuilt: &'a Rebuilt<'a>,
}

#[derive(Serialize)]
struct Token<'a> {
    workspace_id: &'a str,
    version: i64,
    access_token: &'a str,
    key_id: &'a str,
    expires_in: u32,
}

impl Attempt<'_> {
    /// What it is to do. `max_attempts` is what the queue is to be set to.
    ///
    /// # Errors
    /// 400 for a payload that is none; else the database's.
    pub async fn begin(&self, max_attempts: u32) -> Result<Step, Problem> {
        self.call("calendar_begin", Begin { max_attempts }).await
    }

    /// Says what came of it.
    ///
    /// # Errors
    /// The database's.
    pub async fn note(&self, word: Word<'_>) -> Result<Noted, Problem> {
        self.call("calendar_note", word).await
    }

    /// Says what a part of a rebuilding came to, and gets the next one, of at most `limit`.
    ///
    /// # Errors
    /// The database's.
    pub async fn rebuild(&self, rebuilt: &Rebuilt<'_>, limit: usize) -> Result<Part, Problem> {
        self.call("calendar_rebuild", Next { limit, rebuilt }).await
    }

    /// Until its deadline.
    pub fn remaining(&self) -> Duration {
        let now = chrono::Utc::now().timestamp_millis();
        let now = u64::try_from(now).unwrap_or_default();
        Duration::from_millis(self.job.deadline.saturating_sub(now))
    }

    async fn call<R: Serialize, A: DeserializeOwned>(
        &self,
        function: &'static str,
        rest: R,
    ) -> Result<A, Problem> {
        let request = Request {
            job_id: &self.job.id,
            lease: self.lease,
            payload: self.payload,
            remaining: self.remaining().as_secs_f64(),
            rest,
        };
        let answer = database::call_text(&Caller::anyone(), function, &request).await?;
        serde_json::from_str(&answer).map_err(|_| Problem::internal())
    }
}

/// Keeps an encrypted access token for the workspace's next attempts.
///
/// # Errors
/// The database's.
pub async fn keep_token(
    workspace_id: &str,
    version: i64,
    token: &Sealed,
    expires_in: u32,
) -> Result<(), Problem> {
    let request = Token {
        workspace_id,
        version,
        access_token: &token.ciphertext,
        key_id: &token.key_id,
        expires_in,
    };
    let answer = database::call_text(&Caller::anyone(), "calendar_token", &request).await;
    answer.map(drop)
}

/// A number of seconds, however strange.
pub fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.clamp(0.0, 86_400.0)).unwrap_or(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_read() {
        let go = r#"{"step": "go", "permits": {"google": 3}, "connection": {"version": 1, "refresh_token": "r", "key_id": "k1"},
                     "binding": {"state": "bound", "event_id": "mr1", "calendar_id": "c"}}"#;
        let Ok(Step::Go(go)) = serde_json::from_str(go) else {
            panic!("not gone ahead");
        };
        assert_eq!(go.permits.get(), r#"{"google": 3}"#);
        assert_eq!(go.binding.map(|it| it.state), Some(State::Bound));
        let wait = r#"{"step": "wait", "seconds": 5, "code": "circuit_open"}"#;
        assert!(matches!(
            serde_json::from_str(wait),
            Ok(Step::Wait { seconds: 5.0, .. })
        ));
        for (text, well) in [
            (r#"{"step": "nothing"}"#, true),
            (r#"{"step": "dead", "code": "not_connected"}"#, true),
            (r#"{"step": "go"}"#, false),
            (r#"{"step": "dance"}"#, false),
        ] {
            assert_eq!(serde_json::from_str::<Step>(text).is_ok(), well, "{text}");
        }
    }

    #[test]
    fn what_is_said_is_one_flat_object() {
        let payload: &RawValue = serde_json::from_str(r#"{"n": 1.10}"#).expect("JSON");
        let request = Request {
            job_id: "j",
            lease: Some(7),
            payload,
            remaining: 1.5,
            rest: Word {
                permits: payload,
                effect: Effect::Bound,
                google: Google::Worked,
                outcome: "done",
                invalid: None,
            },
        };
        assert_eq!(
            serde_json::to_string(&request).expect("JSON"),
            r#"{"job_id":"j","lease":7,"payload":{"n": 1.10},"remaining":1.5,"permits":{"n": 1.10},"effect":"bound","google":"worked","outcome":"done","invalid":null}"#
        );
    }
}
