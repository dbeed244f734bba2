//! Cron expressions in the database: against croner and chrono-tz on random questions, against every second or minute around
//! changes of the clocks, and by hand.
//!
//! `MILLRACE_CRON_CASES` sets how many questions croner is asked too (100,000 by default), `MILLRACE_CRON_WINDOWS` how many
//! stretches around changes are gone through (400), `MILLRACE_CRON_SEED` where both start from (1).

mod against_croner;
mod by_hand;
mod expressions;
mod faults;
mod rule;
mod windows;
mod zones;

use std::env;

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().expect(name))
}
