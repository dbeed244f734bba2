//! The requests of a channel's route: `POST` runs it, `GET` says whether it can be run.

use std::time::Duration;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use millrace_kit::auth::Scope;
use millrace_kit::{Answer, Problem, Reply, database, log, reply, variable, wake};
use millrace_worker::Readiness;
use serde::Serialize;
use spin_sdk::time::sleep;
use spin_sdk::wit_bindgen::spawn;

use crate::Handle;
use crate::calls::{self, Ended, Late};
use crate::config::{self, Config};
use crate::engine::{Engine, Over, Summary};
use crate::guard::Turn;
use crate::statements;

/// How long a handler may look at its configuration.
const CHECK: Duration = Duration::from_secs(5);

/// What a request's preference led to (RFC 7240 section 3).
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// What a channel answers.
#[derive(Serialize)]
struct State<'a> {
    ok: bool,
    queue: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(flatten)]
    run: Option<&'a Summary>,
    /// The request has been taken up by the run that goes on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    joined: bool,
}

impl<'a> State<'a> {
    fn of(config: &'a Config) -> Self {
        Self {
            ok: true,
            queue: &config.queue,
            state: None,
            detail: None,
            run: None,
            joined: false,
        }
    }
}

/// Serves a request with the handler `H`.
pub async fn serve<H: Handle, B>(request: Request<B>) -> Reply {
    match *request.method() {
        Method::POST => match post::<H>(request.headers()).await {
            Ok(reply) => reply,
            Err(problem) => reply(Err(problem)),
        },
        Method::GET => reply(get::<H>(request.headers()).await),
        _ => reply(Err(Problem::method_not_allowed("GET, POST"))),
    }
}

/// Whether the channel can be run.
async fn get<H: Handle>(headers: &HeaderMap) -> Result<Answer, Problem> {
    let caller = variable::caller(headers, Scope::Read).await?;
    database::admit(&caller).await?;
    let config = Config::read().await?;
    let look = look::<H>(&config).await?;
    if let Look::Ready(detail) = &look {
        note(&config, "ready", detail).await;
    }
    Ok(answer(&config, &look, None))
}

/// Runs the channel. Who prefers `respond-async` (RFC 7240) is answered before the run.
async fn post<H: Handle>(headers: &HeaderMap) -> Result<Reply, Problem> {
    let caller = variable::caller(headers, Scope::Tick).await?;
    database::admit(&caller).await?;
    let config = Config::read().await?;
    let is_async = prefers_async(headers);
    match (Turn::take(), is_async) {
        (None, false) => Ok(reply(Ok(joined(&config)))),
        (None, true) => Ok(accepted(joined(&config))),
        (Some(turn), false) => Ok(reply(run::<H>(config, turn, true).await)),
        (Some(turn), true) => {
            let reply = accepted(started(&config));
            spawn(async move {
                // What went wrong is in the log.
                _ = run::<H>(config, turn, false).await;
            });
            Ok(reply)
        }
    }
}

/// A run. One that ends by its time calls for the next.
async fn run<H: Handle>(config: Config, turn: Turn, is_awaited: bool) -> Result<Answer, Problem> {
    let look = look::<H>(&config).await?;
    let Look::Ready(detail) = &look else {
        return Ok(answer(&config, &look, None));
    };
    let engine = Engine::new(config.clone(), detail.clone(), turn, is_awaited);
    let Over {
        summary,
        problem,
        late,
    } = engine.run::<H>().await;
    cancel(late);
    if summary.more && problem.is_none() {
        wake::channels();
    }
    tell(&config.queue, &summary, problem.as_ref());
    match problem {
        Some(problem) if summary.claimed == 0 => Err(problem),
        _ => Ok(answer(&config, &look, Some(&summary))),
    }
}

/// What a handler says of itself, if jobs can be left with it.
enum Look {
    Ready(String),
    Idle(String),
}

/// Asks the handler whether it is configured.
///
/// # Errors
/// 500 `misconfigured`, which names the variable; 503 `check_timeout`.
async fn look<H: Handle>(config: &Config) -> Result<Look, Problem> {
    match calls::within(H::check(), CHECK).await {
        Ended::Answered(Readiness::Ready(detail)) => Ok(Look::Ready(detail)),
        Ended::Answered(Readiness::Idle(detail)) => {
            note(config, "idle", &detail).await;
            Ok(Look::Idle(detail))
        }
        Ended::Answered(Readiness::Misconfigured(wrong)) => {
            note(config, "misconfigured", &wrong.variable).await;
            Err(config::wrong(&wrong.variable, &wrong.reason))
        }
        Ended::Late(call) => {
            cancel(vec![call]);
            log::line(format_args!("{}: the handler's check hangs", config.queue));
            let error = "the handler has not said whether it is configured";
            Err(Problem::unavailable("check_timeout", error))
        }
    }
}

/// Notes in the database what the handler says. Nothing depends on it but what people are shown, so a failure is only logged.
async fn note(config: &Config, state: &str, detail: &str) {
    if let Err(problem) = statements::seen(&config.queue, state, detail).await {
        log::line(format_args!(
            "{}: not noted: {}",
            config.queue,
            problem.code()
        ));
    }
}

/// Cancels calls after the answer has left: that may block this instance until the callee reacts.
fn cancel<T: 'static>(late: Vec<Late<T>>) {
    if !late.is_empty() {
        spawn(async move {
            sleep(Duration::from_millis(1)).await;
            drop(late);
        });
    }
}

/// One line for a run that had something to do.
fn tell(queue: &str, summary: &Summary, problem: Option<&Problem>) {
    if summary.claimed + summary.postponed > 0 {
        log::line(format_args!("{queue}: {summary}"));
    }
    if let Some(problem) = problem {
        log::line(format_args!(
            "{queue}: the run ended early: {}",
            problem.code()
        ));
    }
}

fn prefers_async(headers: &HeaderMap) -> bool {
    let values = headers.get_all("prefer").iter();
    values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split([';', '=']).next())
        .any(|name| name.trim().eq_ignore_ascii_case("respond-async"))
}

fn answer(config: &Config, look: &Look, run: Option<&Summary>) -> Answer {
    let (state, detail) = match look {
        Look::Ready(detail) => ("ready", detail),
        Look::Idle(detail) => ("idle", detail),
    };
    json(&State {
        ok: true,
        queue: &config.queue,
        state: Some(state),
        detail: Some(detail),
        run,
        joined: false,
    })
}

/// The run that goes on has taken the request up.
fn joined(config: &Config) -> Answer {
    json(&State {
        joined: true,
        ..State::of(config)
    })
}

fn started(config: &Config) -> Answer {
    json(&State::of(config))
}

/// 202, before what was asked for is done.
fn accepted(answer: Answer) -> Reply {
    let mut reply = reply(Ok(answer));
    *reply.status_mut() = StatusCode::ACCEPTED;
    let applied = HeaderValue::from_static("respond-async");
    reply.headers_mut().insert(PREFERENCE_APPLIED, applied);
    reply
}

fn json(state: &State) -> Answer {
    Answer::json(serde_json::to_string(state).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preference_is_found_among_others() {
        for (values, is_async) in [
            (vec!["respond-async"], true),
            (vec!["wait=10, Respond-Async"], true),
            (vec!["handling=lenient", "respond-async; foo"], true),
            (vec!["return=minimal"], false),
            (vec!["x-respond-async"], false),
            (vec![], false),
        ] {
            let mut headers = HeaderMap::new();
            for value in &values {
                headers.append("prefer", HeaderValue::from_static(value));
            }
            assert_eq!(prefers_async(&headers), is_async, "{values:?}");
        }
    }
}
