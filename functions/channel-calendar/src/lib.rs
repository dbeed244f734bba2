//! The handler of the queue `calendar`: keeps events at Google Calendar as the outbox says. What it knows and what it is told lies in Postgres
//! (`sql/V31__calendar.sql`): it begins with a statement, asks Google, and ends with another one.
//!
//! Every event has an id of our choice, so whatever may have been done is simply done again: no attempt is ambiguous. What an answer means is in
//! [`answer`]; what becomes of the job then, in [`Verdicts`].

pub mod answer;
pub mod batch;
mod config;
pub mod event;
pub mod payload;
mod rebuild;
mod session;
mod single;
mod state;

use std::time::Duration;

use millrace_kit::{Problem, log};
use millrace_worker::{Failure, Handler, Job, Readiness, Receipt};
use serde_json::value::RawValue;

use answer::Answer;
use config::{Config, Unset};
use payload::{Operation, Payload};
use rebuild::Run;
use session::Session;
use single::Ended;
use state::{Attempt, Effect, Go, Google, Invalid, Noted, Step, Word};

/// After how long a job is looked at again that waits for somebody to set the application right.
const SETTING: Duration = Duration::from_secs(60);
/// After how long a rebuilding goes on that Google's quota has stopped, where Google doesn't say: it is so much a minute.
const QUOTA: Duration = Duration::from_secs(60);
/// After how long where the database was out of reach.
const SOON: Duration = Duration::from_secs(1);

struct Channel;

impl Handler for Channel {
    async fn check() -> Readiness {
        match Config::read().await {
            Ok(_) => Readiness::Ready("Google Calendar".to_owned()),
            Err(unset) => unset.into(),
        }
    }

    async fn handle(job: Job) -> Result<Receipt, Failure> {
        let config = Config::read().await.map_err(unset)?;
        let payload: &RawValue = serde_json::from_str(&job.payload).map_err(|_| malformed(""))?;
        let attempt = Attempt {
            job: &job,
            payload,
            lease: None,
        };
        match attempt.begin(config.max_attempts).await.map_err(problem)? {
            Step::Nothing => Ok(Receipt::done()),
            Step::Wait { seconds, code } => Err(Failure::postpone(
                state::seconds(seconds),
                code,
                "it is not this job's turn at Google",
            )),
            Step::Dead { code } => Err(Failure::dead(
                code,
                "the workspace's connection to Google is missing or no longer valid: somebody must connect it",
            )),
            Step::Go(go) => {
                let lease = go.lease;
                work(&config, &Attempt { lease, ..attempt }, *go).await
            }
        }
    }
}

millrace_worker::export!(Channel);

async fn work(config: &Config, attempt: &Attempt<'_>, go: Go) -> Result<Receipt, Failure> {
    let payload: Payload =
        serde_json::from_str(attempt.payload.get()).map_err(|_| malformed(""))?;
    let mut session = Session::new(config, attempt, payload.workspace(), go.connection);
    let verdicts = Verdicts {
        attempt,
        permits: &go.permits,
        version: session.version(),
    };
    if payload.operation == Operation::Rebuild {
        let run = rebuild::run(attempt, &mut session, &payload).await;
        return verdicts.of_run(run.map_err(problem)?).await;
    }
    let binding = go.binding.ok_or_else(|| malformed(""))?;
    let ended = match payload.operation {
        Operation::Cancel => Ok(single::cancel(&mut session, &binding).await),
        _ => single::upsert(attempt, &mut session, &go.permits, &payload, &binding).await,
    };
    verdicts.of(ended.map_err(problem)?).await
}

/// What becomes of a job, once the outbox has been told what came of its attempt.
struct Verdicts<'a> {
    attempt: &'a Attempt<'a>,
    permits: &'a RawValue,
    version: i64,
}

impl Verdicts<'_> {
    async fn of_run(&self, run: Run) -> Result<Receipt, Failure> {
        match run {
            Run::Done => {
                self.note(Effect::Over, Google::Worked, "done").await?;
                Ok(Receipt::done())
            }
            Run::More(wait) => {
                self.note(Effect::None, Google::Worked, "continued").await?;
                Err(Failure::postpone(
                    wait,
                    "continued",
                    "there are more events to make again",
                ))
            }
            Run::Incomplete(failed) => {
                self.note(Effect::Over, Google::Worked, "incomplete")
                    .await?;
                let message = format!("{failed} events could not be made again");
                Err(Failure::dead("rebuild_incomplete", message))
            }
            // It has used its share up by going on as it should: the attempt does not count, whoever has how many events.
            Run::Ended(Answer::Limited(wait)) => {
                self.note(Effect::None, Google::Worked, "rate_limited")
                    .await?;
                Err(Failure::postpone(
                    wait.unwrap_or(QUOTA),
                    "rate_limited",
                    "Google limits how much may be asked of it",
                ))
            }
            Run::Ended(answer) => self.of(Ended::without_effect(answer)).await,
        }
    }

    async fn of(&self, ended: Ended) -> Result<Receipt, Failure> {
        let Ended {
            answer,
            effect,
            event_id,
        } = ended;
        match answer {
            Answer::Done => {
                let noted = self.note(effect, Google::Worked, "done").await?;
                match noted.held {
                    true => Ok(event_id.map_or_else(Receipt::done, Receipt::of)),
                    // Another attempt works on the source: this one looks again what is left to do.
                    false => Err(Failure::postpone(
                        SOON,
                        "source_busy",
                        "the source is another attempt's by now",
                    )),
                }
            }
            Answer::Limited(wait) => {
                self.note(effect, Google::Worked, "rate_limited").await?;
                Err(
                    Failure::retry("rate_limited", "Google limits how much may be asked of it")
                        .after(wait),
                )
            }
            Answer::NoConsent(reason) => {
                if self.invalid(reason).await?.renewed {
                    return Err(Failure::postpone(
                        Duration::ZERO,
                        "reconnected",
                        "the workspace was connected again meanwhile",
                    ));
                }
                Err(Failure::dead(
                    "connection_invalid",
                    format!(
                        "Google no longer takes the workspace's consent ({reason}): somebody must connect again"
                    ),
                ))
            }
            Answer::Down(code) => {
                let noted = self.note(effect, Google::Failed, "google_failed").await?;
                Err(down(code, &noted))
            }
            Answer::Ours(code) => {
                self.note(effect, Google::Unknown, "misconfigured").await?;
                log::line(format_args!("calendar: {code}"));
                Err(Failure::postpone(
                    SETTING,
                    code,
                    "the application is not set up to reach Google",
                ))
            }
            Answer::Missing(_) | Answer::Refused(_) if effect == Effect::Spent => {
                self.note(effect, Google::Worked, "refused").await?;
                Err(Failure::retry(
                    "event_id_spent",
                    "a deleted event can't be brought back: another one is made",
                )
                .after(Some(Duration::ZERO)))
            }
            Answer::Missing(status) => {
                self.note(effect, Google::Worked, "not_found").await?;
                Err(Failure::dead(
                    "not_found",
                    format!(
                        "Google answered {status}: the event or its calendar is not there, and may have been deleted by hand"
                    ),
                ))
            }
            Answer::Exists => self.refused(409).await,
            Answer::Unauthorized => self.refused(401).await,
            Answer::Refused(status) => self.refused(status).await,
        }
    }

    async fn refused(&self, status: u16) -> Result<Receipt, Failure> {
        self.note(Effect::None, Google::Worked, "refused").await?;
        Err(Failure::retry(
            format!("google_{status}"),
            format!("Google refused with status {status}"),
        ))
    }

    async fn note(&self, effect: Effect, google: Google, outcome: &str) -> Result<Noted, Failure> {
        let word = Word {
            permits: self.permits,
            effect,
            google,
            outcome,
            invalid: None,
        };
        self.attempt.note(word).await.map_err(problem)
    }

    async fn invalid(&self, reason: &str) -> Result<Noted, Failure> {
        let word = Word {
            permits: self.permits,
            effect: Effect::None,
            google: Google::Worked,
            outcome: "connection_invalid",
            invalid: Some(Invalid {
                version: self.version,
                reason,
            }),
        };
        self.attempt.note(word).await.map_err(problem)
    }
}

/// Google failed: the attempt counts only if the outbox holds it against this job.
fn down(code: &str, noted: &Noted) -> Failure {
    let message = "Google can't be reached, or failed";
    match noted.excused {
        true => Failure::postpone(noted.wait().unwrap_or(SOON), code, message),
        false => Failure::retry(code, message).after(noted.wait()),
    }
}

/// The settings were right when the run began.
fn unset(unset: Unset) -> Failure {
    let message = match unset {
        Unset::Idle => "the channel is not configured".to_owned(),
        Unset::Wrong(wrong) => format!("the variable {} {}", wrong.variable, wrong.reason),
    };
    Failure::postpone(SETTING, "misconfigured", message)
}

/// Without the database nothing is known of the attempt: it is not held against the job.
fn problem(problem: Problem) -> Failure {
    match problem.status().as_u16() {
        400 => malformed(problem.error()),
        _ => Failure::postpone(
            SOON,
            "database_unavailable",
            "the outbox could not be asked",
        ),
    }
}

fn malformed(reason: &str) -> Failure {
    let message = format!("the payload is not one of the outbox's operations: {reason}");
    Failure::dead("invalid_payload", message)
}
