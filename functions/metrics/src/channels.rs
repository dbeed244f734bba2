//! What the channels' providers came to, in the same text format as the queues' figures: circuit breakers and the calendar's outcomes.

use std::fmt::Write;

use millrace_contract::metrics::{BreakerMetrics, ChannelMetrics};

use crate::exposition::{Escaped, head, line};

/// Name, type, help, and a breaker's value.
type Family = (
    &'static str,
    &'static str,
    &'static str,
    fn(&BreakerMetrics) -> i64,
);

const BREAKERS: [Family; 4] = [
    (
        "millrace_circuit_breakers_open",
        "gauge",
        "How many circuit breakers of this name nobody passes now; those of single workspaces are counted together.",
        |breaker| breaker.open,
    ),
    (
        "millrace_circuit_breaker_failures",
        "gauge",
        "Failures in a row up to now; of several breakers the most.",
        |breaker| breaker.failures,
    ),
    (
        "millrace_circuit_breaker_opened_total",
        "counter",
        "How often circuit breakers of this name opened.",
        |breaker| breaker.opened,
    ),
    (
        "millrace_circuit_breaker_probes_total",
        "counter",
        "Calls let through to see whether the service is back.",
        |breaker| breaker.probes,
    ),
];

const CALENDAR: &str = "millrace_calendar_attempts_total";

/// Writes everything that was measured.
pub fn render(metrics: &ChannelMetrics) -> String {
    let mut text = String::new();
    for (name, kind, help, value) in BREAKERS {
        head(&mut text, name, kind, help);
        for breaker in &metrics.breakers {
            let (label, value) = (Escaped(&breaker.breaker), value(breaker));
            line(
                &mut text,
                format_args!("{name}{{breaker=\"{label}\"}} {value}"),
            );
        }
    }
    let help = "Attempts at items of the calendar outbox by what they came to.";
    head(&mut text, CALENDAR, "counter", help);
    for counted in &metrics.calendar {
        let (operation, outcome) = (Escaped(&counted.operation), Escaped(&counted.outcome));
        _ = writeln!(
            text,
            "{CALENDAR}{{operation=\"{operation}\",outcome=\"{outcome}\"}} {}",
            counted.n
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_contract::metrics::CalendarMetrics;

    #[test]
    fn breakers_and_outcomes_are_samples() {
        let text = render(&ChannelMetrics {
            breakers: vec![BreakerMetrics {
                breaker: "google/*".to_owned(),
                open: 2,
                failures: 5,
                opened: 3,
                probes: 7,
            }],
            calendar: vec![CalendarMetrics {
                operation: "UPSERT_EVENT".to_owned(),
                outcome: "done".to_owned(),
                n: 12,
            }],
        });
        for expected in [
            "millrace_circuit_breakers_open{breaker=\"google/*\"} 2",
            "millrace_circuit_breaker_probes_total{breaker=\"google/*\"} 7",
            "millrace_calendar_attempts_total{operation=\"UPSERT_EVENT\",outcome=\"done\"} 12",
        ] {
            assert!(
                text.lines().any(|line| line == expected),
                "{expected}\n{text}"
            );
        }
        assert_eq!(render(&ChannelMetrics::default()).lines().count(), 10);
    }
}
