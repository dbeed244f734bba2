//! What the model's queues and jobs are made of.

use serde_json::{Value, json};

use super::memory::Micros;

/// One request of an enqueue.
#[derive(Debug, Clone)]
pub struct Request {
    pub queue: &'static str,
    pub job_type: &'static str,
    pub priority: i32,
    /// Seconds from now until it is due; less than 0 asks for the past.
    pub due_in: i64,
    pub idempotency_key: Option<&'static str>,
    pub concurrency_key: Option<&'static str>,
    pub max_attempts: Option<i32>,
    pub lease: Option<i64>,
}

impl Request {
    /// The request as `enqueue_many` takes it.
    pub fn json(&self) -> Value {
        let mut json = json!({ "queue": self.queue, "type": self.job_type, "priority": self.priority,
            "idempotency_key": self.idempotency_key, "concurrency_key": self.concurrency_key,
            "max_attempts": self.max_attempts, "lease_seconds": self.lease });
        if self.due_in < 0 {
            json["run_at"] = json!("2001-01-01T00:00:00Z");
        } else {
            json["delay_seconds"] = json!(self.due_in);
        }
        json
    }
}

/// Which types a claim takes.
#[derive(Debug, Clone, Copy)]
pub enum Filter {
    Any,
    Type(&'static str),
    Prefix(&'static str),
}

/// The settings that a sequence changes; `None` leaves one as it is.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    pub max_attempts: Option<i32>,
    pub exponential: Option<bool>,
    pub base: Option<i64>,
    pub cap: Option<i64>,
    pub lease: Option<i64>,
    /// 0 lifts the limit.
    pub limit: Option<i32>,
    pub key_concurrency: Option<i32>,
}

/// A queue's settings, and when a claim last tended it.
#[derive(Debug)]
pub struct Queue {
    pub max_attempts: i32,
    pub exponential: bool,
    pub base: i64,
    pub cap: i64,
    pub lease: i64,
    pub limit: Option<i32>,
    pub key_concurrency: usize,
    pub paused: bool,
    pub tended_at: Option<Micros>,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            exponential: true,
            base: 30,
            cap: 3600,
            lease: 60,
            limit: None,
            key_concurrency: 1,
            paused: false,
            tended_at: None,
        }
    }
}

/// Where a job lies.
#[derive(Debug, Clone)]
pub enum Place {
    Ready {
        run_at: Micros,
        attempts: i32,
    },
    Parked {
        run_at: Micros,
        attempts: i32,
    },
    Running {
        lease_id: i64,
        worker: String,
        attempt: i32,
        expires_at: Micros,
    },
    Finished {
        outcome: &'static str,
        attempts: i32,
    },
    Dead {
        attempts: i32,
        reason: &'static str,
        replay: Option<i64>,
    },
}

/// A job: what was asked for, where it lies, and the types of its events.
#[derive(Debug)]
pub struct Job {
    pub request: Request,
    pub place: Place,
    /// Its last attempt that counted was lost.
    pub alone: bool,
    /// An earlier attempt ended without a word about what it had done.
    pub resumed: bool,
    pub events: Vec<&'static str>,
}

/// A yes or no as Postgres writes it.
fn letter(yes: bool) -> &'static str {
    if yes { "t" } else { "f" }
}

/// The job's place as the test's view of SQL shows it.
pub fn shown(job: &Job) -> String {
    let [alone, resumed] = [job.alone, job.resumed].map(letter);
    match &job.place {
        Place::Ready { run_at, attempts } => format!("ready {run_at} {attempts} {alone} {resumed}"),
        Place::Parked { run_at, attempts } => {
            format!("parked {run_at} {attempts} {alone} {resumed}")
        }
        Place::Running {
            lease_id,
            worker,
            attempt,
            expires_at,
        } => format!("running {lease_id} {worker} {attempt} {expires_at} {alone} {resumed}"),
        Place::Finished { outcome, attempts } => format!("{outcome} {attempts}"),
        Place::Dead {
            attempts,
            reason,
            replay,
        } => format!("dead {attempts} {reason} {}", replay.unwrap_or(0)),
    }
}
