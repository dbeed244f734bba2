//! The rule for fixed times, written down once more beside the one in SQL, and where croner's rule is another.
//!
//! croner is asked here only which local times an expression matches; how those become instants is the rule of `V19__cron.sql`.

use chrono::offset::LocalResult;
use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, TimeZone, Utc};
use croner::errors::CronError;
use croner::{Cron, Direction, JobType};

use super::expressions::Case;
use super::zones::{Zone, gap, offset};

/// The longest gap whose skipped times still run, in seconds.
pub const LONGEST_GAP: i64 = 3 * 3600;

/// The longest that croner looks for the end of a gap, in seconds.
const CRONERS_GAP: i64 = 2 * 3600;

/// How croner's answers differ from the database's, and why the database is to have its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// `0,30 2 * * *` has no `*`, yet croner's `JobType` calls it an interval since it has more than one time of day: it
    /// runs at both when 02:00 comes twice, and at none when it is skipped. Debian's cron(8) goes by the `*` in the hour or the
    /// minute alone (its code sets `MIN_STAR` and `HR_STAR` by the field's first character), so times in a list are as
    /// fixed as one. And a second time of day should not make a nightly job run twice.
    SeveralTimes,
    /// croner runs a skipped time after the gap only if the day after the gap matches as well: `30 23 * * SAT` is lost in
    /// America/Nuuk, where a Saturday's last hour is skipped. Debian's cron goes through the skipped minutes one by one,
    /// each with its own date, and cron(8) promises that what was skipped runs soon after.
    GapIntoNextDay,
    /// For a gap's end croner looks two hours ahead: times skipped further from it end the search with an error, and there is no
    /// next time at all; those close to the end of a gap of any length run there. Debian draws the line at three hours and goes by the new
    /// time beyond. Such gaps: Antarctica/Casey's three hours, and the days that Pacific islands left out.
    LongGap,
}

/// Whether an expression has fixed times: no `*` in the hour, the minute or the second.
pub fn is_fixed(expression: &str) -> bool {
    let fields: Vec<_> = expression.split_whitespace().collect();
    match fields.len() {
        1 => !expression.eq_ignore_ascii_case("@hourly"),
        fives => !fields[..fives - 3].concat().contains('*'),
    }
}

/// The instant at which a fixed time runs: the first one when there are two, the end of the gap when there is none.
pub fn instant(zone: &Zone, local: NaiveDateTime) -> Option<DateTime<Utc>> {
    match zone.tz.from_local_datetime(&local) {
        LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.with_timezone(&Utc)),
        LocalResult::None => {
            let gap = gap(zone.tz, local);
            (gap.jump <= LONGEST_GAP).then_some(gap.at)
        }
    }
}

/// When fixed times are due first after an instant.
pub fn next_fixed(cron: &Cron, zone: &Zone, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let start = after.with_timezone(&zone.tz).naive_local() - TimeDelta::hours(27);
    cron.iter_from(start, Direction::Forward)
        .filter_map(|local| instant(zone, local))
        .find(|at| *at > after)
}

/// The name of the difference between croner's answer and the database's, if it is one of those above: the database's answer
/// must follow the rule, and croner's must differ for the very reason that is named.
pub fn difference(
    case: &Case,
    cron: &Cron,
    theirs: &Result<DateTime<Utc>, CronError>,
    ours: Option<DateTime<Utc>>,
) -> Option<Difference> {
    let ours = ours?;
    if !is_fixed(&case.expression) || next_fixed(cron, case.zone, case.after) != Some(ours) {
        return None;
    }
    let after_gap = case.zone.gap_that_ends(ours);
    let theirs_is_second = theirs.as_ref().is_ok_and(|at| is_second(case.zone, *at));
    if cron.determine_job_type() == JobType::IntervalWildcard {
        return (after_gap.is_some() || theirs_is_second).then_some(Difference::SeveralTimes);
    }

    let given_up = theirs.is_err()
        && case
            .zone
            .changes
            .iter()
            .any(|c| case.after < c.at && c.at <= ours && c.jump > CRONERS_GAP);
    let too_long = theirs.as_ref().is_ok_and(|at| {
        case.zone
            .gap_that_ends(*at)
            .is_some_and(|gap| gap.jump > LONGEST_GAP)
    });
    if given_up || too_long {
        return Some(Difference::LongGap);
    }
    let day = ours.with_timezone(&case.zone.tz).naive_local();
    let weekday = croner::time::CronDateTime::civil_weekday(&day);
    let day_matches = cron
        .pattern
        .day_match(day.year(), day.month(), day.day(), weekday)
        .is_ok_and(|matches| matches)
        && cron.pattern.month_match(day.month()).is_ok_and(|m| m);
    (after_gap.is_some() && !day_matches).then_some(Difference::GapIntoNextDay)
}

/// Whether the instant's local time has come before.
fn is_second(zone: &Zone, at: DateTime<Utc>) -> bool {
    let local = at.with_timezone(&zone.tz).naive_local();
    matches!(zone.tz.from_local_datetime(&local), LocalResult::Ambiguous(first, _) if first.with_timezone(&Utc) < at)
}

/// The offsets from UTC, in seconds, around instants: a day before each, at it, and a day after.
pub fn offsets_around(zone: &Zone, instants: &[Option<DateTime<Utc>>]) -> Vec<i64> {
    instants
        .iter()
        .flatten()
        .flat_map(|at| [-26, 0, 26].map(|hours| offset(zone.tz, *at + TimeDelta::hours(hours))))
        .collect()
}
