//! Random expressions of all the syntax that croner and the database both take, and random instants, most of them close to
//! a change of the clocks.

use chrono::{DateTime, Datelike, NaiveDateTime, TimeDelta, TimeZone, Timelike, Utc};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::zones::{Change, Zone};

const MONTHS: [&str; 12] = [
    "JAN", "feb", "Mar", "APR", "may", "Jun", "JUL", "aug", "Sep", "OCT", "nov", "Dec",
];
const WEEKDAYS: [&str; 7] = ["SUN", "mon", "Tue", "WED", "thu", "Fri", "SAT"];
const NICKNAMES: [&str; 6] = [
    "@yearly",
    "@annually",
    "@MONTHLY",
    "@weekly",
    "@daily",
    "@hourly",
];

/// One question: when is `expression` due first after `after`, in a zone?
#[derive(Debug, Clone)]
pub struct Case<'a> {
    pub expression: String,
    pub zone: &'a Zone,
    pub after: DateTime<Utc>,
}

/// A random question. Half of the zones are odd ones, and most instants lie within three hours of a change.
pub fn case<'a>(rng: &mut StdRng, zones: &'a [Zone], odd: &[usize]) -> Case<'a> {
    let zone = if rng.random_bool(0.4) {
        &zones[*odd.choose(rng).expect("odd zones")]
    } else {
        zones.choose(rng).expect("zones")
    };
    let change = zone.changes.choose(rng);
    let change = change.filter(|_| rng.random_bool(0.85));
    let after = match change {
        Some(change) => near(rng, change),
        None => any_instant(rng),
    };
    Case {
        expression: expression(rng, change),
        zone,
        after,
    }
}

fn any_instant(rng: &mut StdRng) -> DateTime<Utc> {
    let start = Utc.with_ymd_and_hms(1975, 1, 1, 0, 0, 0).unwrap();
    let seconds = rng.random_range(0..63_i64 * 365 * 86_400);
    fraction(rng, start + TimeDelta::seconds(seconds))
}

/// Mostly within three hours of the change, and often just on a place where something could go wrong.
fn near(rng: &mut StdRng, change: &Change) -> DateTime<Utc> {
    let seconds = match rng.random_range(0..10) {
        0 => *[-1, 0, 1, change.jump, -change.jump, -change.jump - 1]
            .choose(rng)
            .expect("a place"),
        1 => rng.random_range(-40_i64..40) * 3600,
        2 => rng.random_range(-12_i64..12) * 900,
        _ => rng.random_range(-10_800..10_800),
    };
    fraction(rng, change.at + TimeDelta::seconds(seconds))
}

fn fraction(rng: &mut StdRng, at: DateTime<Utc>) -> DateTime<Utc> {
    if rng.random_bool(0.2) {
        at + TimeDelta::microseconds(rng.random_range(1..1_000_000))
    } else {
        at
    }
}

/// A random expression. With a change, times of day and dates are often those that it skips or repeats.
pub fn expression(rng: &mut StdRng, change: Option<&Change>) -> String {
    if rng.random_bool(0.02) {
        return (*NICKNAMES.choose(rng).expect("a nickname")).to_owned();
    }
    let near = change.map(|c| {
        let start = c.jump.min(0); // of what is skipped or comes twice, from `local` on
        c.local + TimeDelta::seconds(rng.random_range(start - 3600..start + c.jump.abs() + 3600))
    });
    let mut fields = Vec::new();
    if rng.random_bool(0.35) {
        fields.push(time_field(rng, 59, near.map(|n| n.second())));
    }
    fields.push(time_field(rng, 59, near.map(|n| n.minute())));
    fields.push(time_field(rng, 23, near.map(|n| n.hour())));
    fields.push(day_field(rng, near));
    fields.push(month_field(rng, near));
    fields.push(weekday_field(rng, near));
    let blank = ["  ", "\t"].choose(rng).expect("a blank");
    fields.join(if rng.random_bool(0.05) { blank } else { " " })
}

fn time_field(rng: &mut StdRng, most: u32, near: Option<u32>) -> String {
    match (rng.random_range(0..20), near) {
        (0..5, _) => "*".to_owned(),
        (5..9, Some(near)) => near.to_string(),
        _ => list(rng, 0, most, near, &[]),
    }
}

fn day_field(rng: &mut StdRng, near: Option<NaiveDateTime>) -> String {
    match rng.random_range(0..20) {
        0..12 => "*".to_owned(),
        12 => "?".to_owned(),
        13 => "L".to_owned(),
        14 => format!("{}W", rng.random_range(1..=31)),
        15 => ["LW", "1W,15,LW", "15,L", "L,31W"]
            .choose(rng)
            .expect("days")
            .to_string(),
        _ => list(rng, 1, 31, near.map(|n| n.day()), &[]),
    }
}

fn month_field(rng: &mut StdRng, near: Option<NaiveDateTime>) -> String {
    if rng.random_bool(0.75) {
        "*".to_owned()
    } else {
        list(rng, 1, 12, near.map(|n| n.month()), &MONTHS)
    }
}

fn weekday_field(rng: &mut StdRng, near: Option<NaiveDateTime>) -> String {
    let near = near.map(|n| n.weekday().num_days_from_sunday());
    let field = match rng.random_range(0..20) {
        0..11 => return "*".to_owned(),
        11 => return "?".to_owned(),
        12 | 13 => nth_weekday(rng, near),
        14 => format!("{},{}", nth_weekday(rng, near), nth_weekday(rng, None)),
        _ => list(rng, 0, 7, near, &WEEKDAYS),
    };
    if rng.random_bool(0.2) {
        format!("+{field}")
    } else {
        field
    }
}

fn nth_weekday(rng: &mut StdRng, near: Option<u32>) -> String {
    let weekday = list_item(rng, 0, 7, near, &WEEKDAYS);
    match rng.random_range(0..7) {
        0 if !weekday.contains(['-', '/']) => format!("{weekday}L"),
        0 | 1 => format!("{weekday}#l"),
        _ => format!("{weekday}#{}", rng.random_range(1..=5)),
    }
}

fn list(rng: &mut StdRng, least: u32, most: u32, near: Option<u32>, names: &[&str]) -> String {
    let items = if rng.random_bool(0.2) {
        rng.random_range(2..=4)
    } else {
        1
    };
    let items: Vec<_> = (0..items)
        .map(|_| list_item(rng, least, most, near, names))
        .collect();
    items.join(",")
}

/// A number, a range, or either with a step.
fn list_item(rng: &mut StdRng, least: u32, most: u32, near: Option<u32>, names: &[&str]) -> String {
    let one = number(rng, least, most, near);
    let step = |rng: &mut StdRng| {
        let span = most - least;
        let longest = if rng.random_bool(0.8) { span / 3 } else { span };
        rng.random_range(1..=longest.max(2))
    };
    match rng.random_range(0..10) {
        0..5 => spell(rng, one, least, names),
        5 | 6 => format!("*/{}", step(rng)),
        kind => {
            let other = number(rng, least, most, near);
            let (from, to) = (one.min(other), one.max(other));
            let range = format!(
                "{}-{}",
                spell(rng, from, least, names),
                spell(rng, to, least, names)
            );
            if kind == 9 {
                format!("{range}/{}", step(rng))
            } else {
                range
            }
        }
    }
}

fn number(rng: &mut StdRng, least: u32, most: u32, near: Option<u32>) -> u32 {
    match near {
        Some(near) if rng.random_bool(0.6) => near.clamp(least, most),
        _ => rng.random_range(least..=most),
    }
}

fn spell(rng: &mut StdRng, number: u32, least: u32, names: &[&str]) -> String {
    match names.get((number - least) as usize) {
        Some(name) if rng.random_bool(0.4) => (*name).to_owned(),
        _ if rng.random_bool(0.05) => format!("{number:02}"),
        _ => number.to_string(),
    }
}
