//! Every time due in hours around changes of the clocks, held against each second or minute there is: no search on either
//! side of the comparison but the database's own.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use chrono::{DateTime, TimeDelta, Utc};
use croner::Cron;
use millrace_tests::database::{Database, explain};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use tokio_postgres::Client;

use super::against_croner::same_zone_data;
use super::expressions::{self, Case};
use super::{rule, setting, zones};

/// A stretch of time, from just after its start up to and with its end.
#[derive(Debug, Clone, Copy)]
struct Window {
    after: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl Window {
    /// Around an instant: two hours each way for expressions with seconds, 30 for others.
    fn around(at: DateTime<Utc>, expression: &str) -> Self {
        let hours = if has_seconds(expression) { 2 } else { 30 };
        Self {
            after: at - TimeDelta::hours(hours),
            until: at + TimeDelta::hours(hours),
        }
    }
}

fn has_seconds(expression: &str) -> bool {
    expression.split_whitespace().count() == 6
}

/// The times due in the window, by the rule told at the head of `V19__cron.sql`. croner says which local times match.
fn due(cron: &Cron, case: &Case, window: Window) -> Vec<DateTime<Utc>> {
    let step = if has_seconds(&case.expression) {
        TimeDelta::seconds(1)
    } else {
        TimeDelta::minutes(1)
    };
    if rule::is_fixed(&case.expression) {
        fixed(cron, case, window, step)
    } else {
        following_the_clock(cron, case, window, step)
    }
}

/// Every instant whose local time matches.
fn following_the_clock(
    cron: &Cron,
    case: &Case,
    window: Window,
    step: TimeDelta,
) -> Vec<DateTime<Utc>> {
    let mut due = Vec::new();
    let mut at = window.after + step;
    while at <= window.until {
        let local = at.with_timezone(&case.zone.tz);
        if cron.is_time_matching(&local).expect("a time in range") {
            due.push(at);
        }
        at += step;
    }
    due
}

/// Every local time that matches, whether it exists or not, at its instant.
fn fixed(cron: &Cron, case: &Case, window: Window, step: TimeDelta) -> Vec<DateTime<Utc>> {
    let local = |at: DateTime<Utc>| at.with_timezone(&case.zone.tz).naive_local();
    let mut due = BTreeSet::new();
    let mut at = local(window.after) - TimeDelta::hours(4);
    while at <= local(window.until) + TimeDelta::hours(4) {
        if cron.is_time_matching(&at).expect("a time in range") {
            due.extend(rule::instant(case.zone, at));
        }
        at += step;
    }
    due.into_iter()
        .filter(|at| window.after < *at && *at <= window.until)
        .collect()
}

/// The times due that the database lists, and the first few that it finds one after another.
async fn times(
    client: &Client,
    case: &Case<'_>,
    window: Window,
) -> (Vec<DateTime<Utc>>, Vec<DateTime<Utc>>) {
    let sql = "with recursive one as (
                 select millrace.cron_next($1, $2, $4) as due, 1 as n
                 union all
                 select millrace.cron_next($1, due, $4), n + 1 from one where due <= $3 and n < 200
               )
               select array(select millrace.cron_times($1, $2, $3, $4, 100000)), array(select due from one where due <= $3)";
    let zone = case.zone.tz.name();
    let row = client
        .query_one(
            sql,
            &[&case.expression, &window.after, &window.until, &zone],
        )
        .await
        .unwrap_or_else(|e| panic!("{case:?}: {}", explain(&e)));
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn nothing_is_left_out_and_nothing_added_around_changes_of_the_clocks() {
    let seed = setting("MILLRACE_CRON_SEED", 1);
    let wanted = setting("MILLRACE_CRON_WINDOWS", 400);
    let database = Database::fresh().await;
    let (zones, _) = zones::both_know(&database).await;
    let odd: Vec<_> = (0..zones.len()).filter(|i| zones[*i].odd).collect();
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut listed, mut fixed, mut checked, mut left_out) = (0, 0, 0, 0);
    while checked < wanted {
        let mut case = expressions::case(&mut rng, &zones, &odd);
        let Some(change) = case.zone.changes.choose(&mut rng) else {
            continue;
        };
        case.expression = expressions::expression(&mut rng, Some(change));
        // Nothing may depend on the session's own time zone, which has days of 23 and 25 hours.
        let session = &zones[odd[rng.random_range(0..odd.len())]];
        database
            .run(&format!("set timezone to '{}'", session.tz.name()))
            .await;
        let window = Window::around(change.at, &case.expression);
        let (list, steps) = times(database.client(), &case, window).await;
        let cron = Cron::from_str(&case.expression).expect("an expression of both");
        let expected = due(&cron, &case, window);
        let shown = format!(
            "select millrace.cron_times('{}', '{}', '{}', '{}')",
            case.expression, window.after, window.until, case.zone.tz
        );
        assert_eq!(
            list[..list.len().min(200)],
            steps,
            "one by one it is something else: {shown}"
        );
        if list != expected
            && !same_zone_data(
                database.client(),
                case.zone,
                &[Some(window.after), Some(change.at), Some(window.until)],
            )
            .await
        {
            left_out += 1;
            continue;
        }
        assert_eq!(list, expected, "{shown}");
        assert!(list.is_sorted_by(|one, next| one < next), "{shown}");
        checked += 1;
        listed += list.len();
        fixed += usize::from(rule::is_fixed(&case.expression));
    }
    println!(
        "cron around changes of clocks: {checked} windows ({fixed} of fixed times) with {listed} times due, {left_out} left out for other time zone data"
    );
    assert!(left_out * 20 < checked);
}
