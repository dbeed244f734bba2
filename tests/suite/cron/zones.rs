//! Every time zone that both chrono-tz and the database know, with the instants at which its clocks change.

use chrono::{DateTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::{TZ_VARIANTS, Tz};
use millrace_tests::database::Database;

/// Zones whose clocks do what others don't: half an hour or two, a whole day, at midnight, in Ramadan, by 20 minutes or
/// three hours, before midnight, below zero, or under another's law.
const ODD: [&str; 22] = [
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "Pacific/Fakaofo",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
    "Pacific/Chatham",
    "Pacific/Norfolk",
    "Pacific/Easter",
    "Antarctica/Troll",
    "Antarctica/Casey",
    "Antarctica/Vostok",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Tehran",
    "Asia/Kathmandu",
    "Asia/Gaza",
    "Asia/Pyongyang",
    "America/Havana",
    "America/Nuuk",
    "America/St_Johns",
    "Atlantic/Azores",
    "Europe/Dublin",
];

/// A change of a zone's offset from UTC.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// The first instant of the new offset.
    pub at: DateTime<Utc>,
    /// Seconds that the clock jumps forward; below zero, back.
    pub jump: i64,
    /// What the clock would have shown at `at` without the change.
    pub local: NaiveDateTime,
}

/// A zone and its changes from 1975 to 2037, oldest first.
#[derive(Debug, Clone)]
pub struct Zone {
    pub tz: Tz,
    pub changes: Vec<Change>,
    pub odd: bool,
}

impl Zone {
    pub fn of(tz: Tz) -> Self {
        Self {
            tz,
            changes: changes(tz),
            odd: ODD.contains(&tz.name()),
        }
    }

    /// The forward change at this instant.
    pub fn gap_that_ends(&self, at: DateTime<Utc>) -> Option<Change> {
        self.changes
            .iter()
            .copied()
            .find(|c| c.at == at && c.jump > 0)
    }
}

/// The zones that both sides know and that `check_cron` takes; how many chrono-tz has besides.
pub async fn both_know(database: &Database) -> (Vec<Zone>, usize) {
    let names: Vec<&str> = TZ_VARIANTS.iter().map(|tz| tz.name()).collect();
    database
        .run(
            "create function pg_temp.is_zone(zone text) returns boolean language plpgsql as $$
             begin
               perform millrace.check_time_zone(zone);
               return true;
             exception when sqlstate 'PT400' then
               return false;
             end $$",
        )
        .await;
    let sql =
        "select pg_temp.is_zone(z) from unnest($1::text[]) with ordinality as z (z, n) order by n";
    let known = database.all(sql, &[&names]).await;
    let zones: Vec<Zone> = TZ_VARIANTS
        .iter()
        .zip(known)
        .filter(|(_, known)| known.get(0))
        .map(|(tz, _)| Zone::of(*tz))
        .collect();
    let others = names.len() - zones.len();
    (zones, others)
}

/// Seconds that the zone is ahead of UTC at an instant.
pub fn offset(tz: Tz, at: DateTime<Utc>) -> i64 {
    let offset = tz.offset_from_utc_datetime(&at.naive_utc());
    i64::from(offset.fix().local_minus_utc())
}

/// The change that skips a local time which the zone does not have.
pub fn gap(tz: Tz, local: NaiveDateTime) -> Change {
    let day = TimeDelta::hours(26); // no zone is further from UTC
    change_between(tz, local.and_utc() - day, local.and_utc() + day)
}

/// The change between two instants with different offsets, if there is but one.
fn change_between(tz: Tz, start: DateTime<Utc>, end: DateTime<Utc>) -> Change {
    let before = offset(tz, start);
    let (mut low, mut high) = (0, (end - start).num_seconds());
    while high - low > 1 {
        let middle = i64::midpoint(low, high);
        if offset(tz, start + TimeDelta::seconds(middle)) == before {
            low = middle;
        } else {
            high = middle;
        }
    }
    let at = start + TimeDelta::seconds(high);
    Change {
        at,
        jump: offset(tz, at) - before,
        local: at.naive_utc() + TimeDelta::seconds(before),
    }
}

/// Looks every week and bisects between two that differ: clocks that change and change back within a week are not seen.
fn changes(tz: Tz) -> Vec<Change> {
    let week = TimeDelta::days(7);
    let mut changes = Vec::new();
    let mut at = Utc.with_ymd_and_hms(1975, 1, 1, 0, 0, 0).unwrap();
    let end = Utc.with_ymd_and_hms(2038, 1, 1, 0, 0, 0).unwrap();
    while at < end {
        if offset(tz, at) != offset(tz, at + week) {
            changes.push(change_between(tz, at, at + week));
        }
        at += week;
    }
    changes
}
