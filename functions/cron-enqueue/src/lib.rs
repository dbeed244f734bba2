//! `POST /functions/v1/cron-enqueue`: one round of what is to be done regularly, for any scheduler to call, as often as it likes and
//! from as many places: due schedules are enqueued, the house is kept, alerts are raised and delivered.
//!
//! The parts are statements of their own, so that one that fails neither undoes the others nor keeps them from being done.

mod alerts;
mod config;
mod message;
mod webhook;

use std::time::{Duration, Instant};

use http::StatusCode;
use http::header::RETRY_AFTER;
use millrace_contract::round::{Alerts, Housekeeping, Round, Schedules};
use millrace_kit::auth::{Caller, Scope};
use millrace_kit::database::Nothing;
use millrace_kit::{Answer, Problem, Reply, cors, database, log, variable, wake};
use serde::de::DeserializeOwned;
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// For how long a round goes on enqueueing what is due; the next one goes on from there. Hosts give a request 30 s.
const SCHEDULES: Duration = Duration::from_secs(8);

/// Serves the component's one route, to browsers too.
#[http_service]
async fn handle(request: Request) -> Reply {
    cors::edge(request, round, "POST").await
}

async fn round(request: Request) -> Result<Answer, Problem> {
    let begin = Instant::now();
    let caller = variable::caller(request.headers(), Scope::Tick).await?;
    database::admit(&caller).await?;

    let schedules = enqueue_due(&caller, begin).await;
    let housekeeping = call(&caller, "housekeep", &Nothing {}).await;
    let alerts = alerts::round(&caller, begin).await;
    // Whatever part failed: it is here that a wake-up which was lost is made good.
    wake::channels();
    answer(schedules, housekeeping, alerts)
}

/// Enqueues what schedules have due, until there is no more.
async fn enqueue_due(caller: &Caller, begin: Instant) -> Result<Schedules, Problem> {
    let mut all = Schedules::default();
    loop {
        let some: Schedules = call(caller, "enqueue_due", &Nothing {}).await?;
        all.enqueued = all.enqueued.saturating_add(some.enqueued);
        if some.enqueued == 0 || begin.elapsed() > SCHEDULES {
            return Ok(all);
        }
    }
}

/// Calls a function of `millrace_api` and reads its answer.
async fn call<T: DeserializeOwned>(
    caller: &Caller,
    function: &'static str,
    request: &impl serde::Serialize,
) -> Result<T, Problem> {
    let text = database::call_text(caller, function, request).await?;
    serde_json::from_str(&text).map_err(|error| {
        log::line(format_args!(
            "{function} answered something else: {:?}",
            error.classify()
        ));
        Problem::internal()
    })
}

/// 200 if every part was done. Schedulers look at the status alone, so it is none otherwise: the problem of all parts if they have
/// the same, else `round_incomplete`, which names those that failed.
fn answer(
    schedules: Result<Schedules, Problem>,
    housekeeping: Result<Housekeeping, Problem>,
    alerts: Result<(Alerts, Box<str>), Problem>,
) -> Result<Answer, Problem> {
    let (schedules, housekeeping, alerts) = match (schedules, housekeeping, alerts) {
        (Ok(schedules), Ok(housekeeping), Ok(alerts)) => (schedules, housekeeping, alerts),
        (Err(one), Err(other), Err(third))
            if [&other, &third]
                .iter()
                .all(|problem| problem.code() == one.code()) =>
        {
            return Err(one);
        }
        (schedules, housekeeping, alerts) => {
            return Err(incomplete(&[
                ("schedules", schedules.err()),
                ("housekeeping", housekeeping.err()),
                ("alerts", alerts.err()),
            ]));
        }
    };
    let (alerts, ts) = alerts;
    let round = Round {
        ok: true,
        schedules,
        housekeeping,
        alerts,
        ts,
    };
    let json = serde_json::to_string(&round).map_err(|_| Problem::internal())?;
    Ok(Answer::json(json))
}

fn incomplete(parts: &[(&'static str, Option<Problem>)]) -> Problem {
    let failed = || {
        parts
            .iter()
            .filter_map(|(part, problem)| Some((*part, problem.as_ref()?)))
    };
    let named: Vec<String> = failed()
        .map(|(part, problem)| format!("{part}: {}", problem.code()))
        .collect();
    let named = named.join(", ");
    log::line(format_args!("a round is incomplete: {named}"));
    let (code, error) = (
        "round_incomplete",
        "a part of the round failed; the others were done",
    );
    let passes = failed().all(|(_, problem)| problem.status() == StatusCode::SERVICE_UNAVAILABLE);
    let problem = match passes {
        true => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, code, error).with_header(RETRY_AFTER, "1")
        }
        false => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, code, error),
    };
    problem.with_details(Some(named))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_named_with_the_status_that_fits() {
        let busy = || Some(Problem::unavailable("try_again", "busy"));
        let problem = incomplete(&[("schedules", None), ("housekeeping", busy())]);
        assert_eq!(problem.status(), 503);
        assert_eq!(problem.details(), Some("housekeeping: try_again"));
        let problem = incomplete(&[("schedules", busy()), ("alerts", Some(Problem::internal()))]);
        assert_eq!(problem.status(), 500);
        assert_eq!(
            problem.details(),
            Some("schedules: try_again, alerts: internal_error")
        );
    }
}
