//! Cron triggers, as Spin's cron trigger fires them: expressions have seconds first and are in UTC, and a
//! component runs again while its last run still goes on. A run that fails is logged.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use chrono::{DateTime, Utc};
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

use crate::manifest::CronTrigger;
use crate::runtime::component::CronComponent;

/// The clock may be set while a trigger sleeps: it looks again at least this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// For how long a run that fails as the last one did is not logged again.
const SAME_FAILURE: Duration = Duration::from_secs(60);

/// The cron triggers of a running application.
pub struct Schedules {
    components: BTreeMap<String, Arc<Fired>>,
    triggers: Vec<(Cron, Arc<Fired>)>,
    clocks: Vec<JoinHandle<()>>,
    runs: Runs,
}

/// A component, and how its last run failed if it did.
struct Fired {
    component: Arc<CronComponent>,
    failure: Mutex<LastFailure>,
}

/// Each run holds it shared; who gets it alone knows that none goes on.
type Runs = Arc<RwLock<()>>;

impl Schedules {
    /// Reads every trigger; none fires yet.
    ///
    /// # Errors
    /// An expression that Spin's cron trigger would refuse.
    pub fn new(
        triggers: &[CronTrigger],
        components: BTreeMap<String, Arc<CronComponent>>,
    ) -> Result<Self> {
        let fired = |(id, component)| {
            let failure = Mutex::default();
            (id, Arc::new(Fired { component, failure }))
        };
        let components: BTreeMap<String, Arc<Fired>> = components.into_iter().map(fired).collect();
        let mut parsed = Vec::new();
        for CronTrigger {
            component,
            expression,
        } in triggers
        {
            let schedule = parse(expression)
                .with_context(|| format!("[[trigger.cron]] of {component}: {expression:?}"))?;
            parsed.extend(components.get(component).map(|c| (schedule, c.clone())));
        }
        Ok(Self {
            components,
            triggers: parsed,
            clocks: Vec::new(),
            runs: Runs::default(),
        })
    }

    /// From now on the triggers fire by themselves.
    pub fn start(&mut self) {
        for (schedule, component) in self.triggers.drain(..) {
            let firing = keep_firing(schedule, component, self.runs.clone());
            self.clocks.push(tokio::spawn(firing));
        }
    }

    /// Runs a component once, now.
    ///
    /// # Errors
    /// No cron trigger names it; or what the run failed with, which is logged too.
    pub async fn fire(&self, id: &str) -> Result<()> {
        let component = self.components.get(id);
        let component = component.ok_or_else(|| anyhow!("no cron trigger names {id}"))?;
        let _running = self.runs.read().await;
        run(component, Utc::now()).await
    }

    /// Waits until no run goes on.
    pub async fn ended(&self) {
        drop(self.runs.write().await);
    }

    /// No more firings; a run that goes on is left to end.
    pub fn stop(&mut self) {
        for clock in self.clocks.drain(..) {
            clock.abort();
        }
    }
}

/// Five fields are refused, though many hosts take them: Spin's trigger wants the seconds.
fn parse(expression: &str) -> Result<Cron> {
    CronParser::builder()
        .seconds(Seconds::Required)
        .dom_and_dow(true)
        .build()
        .parse(expression)
        .map_err(|error| {
            anyhow!("{error}; fields: second minute hour day month weekday, perhaps a year")
        })
}

async fn keep_firing(schedule: Cron, component: Arc<Fired>, runs: Runs) {
    let mut from = Utc::now();
    while let Ok(due) = schedule.find_next_occurrence(&from, false) {
        sleep_until(due).await;
        let (component, runs) = (component.clone(), runs.clone());
        tokio::spawn(async move {
            let _running = runs.read().await;
            // Logged where it failed.
            _ = run(&component, due).await;
        });
        // After a pause (a suspended machine) the times missed are not made up for, as on Spin.
        from = due.max(Utc::now());
    }
}

async fn sleep_until(due: DateTime<Utc>) {
    while let Ok(left) = (due - Utc::now()).to_std() {
        tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
    }
}

async fn run(fired: &Fired, due: DateTime<Utc>) -> Result<()> {
    let timestamp = u64::try_from(due.timestamp()).unwrap_or_default();
    let outcome = fired.component.run(timestamp).await;
    let failure = outcome.as_ref().err().map(|error| format!("{error:#}"));
    let mut last = fired.failure.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(failure) = last.news(failure, Instant::now()) {
        tracing::error!(component = %fired.component.component.id, "a cron run failed: {failure}");
    }
    outcome
}

/// How the last run failed, if it did, and when that was logged. A trigger may fire each second, and would fill the log with one line.
#[derive(Default)]
struct LastFailure(Option<(String, Instant)>);

impl LastFailure {
    /// What is to be logged of a run that failed so, or went well.
    fn news(&mut self, failure: Option<String>, now: Instant) -> Option<&str> {
        let is_logged = match (&self.0, &failure) {
            (Some((last, at)), Some(failure)) => last == failure && now - *at < SAME_FAILURE,
            _ => false,
        };
        if is_logged {
            return None;
        }
        self.0 = failure.map(|failure| (failure, now));
        self.0.as_ref().map(|(failure, _)| failure.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(expression: &str, from: &str) -> String {
        let from: DateTime<Utc> = from.parse().unwrap();
        let schedule = parse(expression).unwrap();
        let due = schedule.find_next_occurrence(&from, false).unwrap();
        due.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
    }

    #[test]
    fn seconds_come_first() {
        assert_eq!(
            next("*/15 * * * * *", "2026-01-01T00:00:14Z"),
            "2026-01-01T00:00:15Z"
        );
        assert_eq!(
            next("0 30 2 * * *", "2026-01-01T03:00:00Z"),
            "2026-01-02T02:30:00Z"
        );
        assert_eq!(
            next("0 0 0 1 1 * 2030", "2026-01-01T03:00:00Z"),
            "2030-01-01T00:00:00Z"
        );
    }

    #[test]
    fn day_of_month_and_weekday_must_both_match() {
        assert_eq!(
            next("0 0 0 13 * FRI", "2026-01-01T00:00:00Z"),
            "2026-02-13T00:00:00Z"
        );
    }

    #[test]
    fn the_same_failure_is_logged_once_a_minute_and_another_at_once() {
        let begin = Instant::now();
        let mut last = LastFailure::default();
        let mut logs = |second, failure: Option<&str>| {
            let now = begin + Duration::from_secs(second);
            last.news(failure.map(str::to_owned), now).is_some()
        };
        let logged: Vec<u64> = (0..130).filter(|&s| logs(s, Some("no key"))).collect();
        assert_eq!(logged, [0, 60, 120]);
        assert!(logs(131, Some("gone")) && logs(132, Some("no key")));
        assert!(!logs(133, None) && logs(134, Some("no key")));
    }

    #[test]
    fn what_spins_trigger_refuses_is_refused() {
        for bad in ["* * * * *", "", "61 * * * * *", "often"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
