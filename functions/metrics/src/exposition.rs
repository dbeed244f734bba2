//! Prometheus' text exposition format, version 0.0.4: a family of samples after the other, each with its help and its type.

use std::fmt::Write;

use millrace_contract::metrics::{Histogram, Metrics, QueueMetrics};

/// The media type of what [`render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The samples that a queue has in a family: each with a label beside the queue's, if any, and its value.
type Samples = Vec<(Option<(&'static str, &'static str)>, f64)>;

/// Writes everything that was measured.
pub fn render(metrics: &Metrics) -> String {
    let mut text = String::new();
    for (name, kind, help, samples) in FAMILIES {
        head(&mut text, name, kind, help);
        for queue in &metrics.queues {
            for (label, value) in samples(queue) {
                sample(&mut text, name, &queue.queue, label, value);
            }
        }
    }
    for (name, help, histogram) in HISTOGRAMS {
        head(&mut text, name, "histogram", help);
        for queue in &metrics.queues {
            buckets(
                &mut text,
                name,
                &queue.queue,
                &metrics.bounds,
                histogram(queue),
            );
        }
    }
    text
}

/// Name, type, help, and what a queue has of it.
type Family = (
    &'static str,
    &'static str,
    &'static str,
    fn(&QueueMetrics) -> Samples,
);

const FAMILIES: [Family; 15] = [
    (
        "millrace_queue_jobs",
        "gauge",
        "Jobs of the queue by the state they are in; those of the dead letters that were retried are among the dead.",
        |q| {
            by(
                "state",
                [
                    ("queued", q.queued),
                    ("running", q.running),
                    ("succeeded", q.succeeded),
                    ("cancelled", q.cancelled),
                    ("dead", q.dead),
                ],
            )
        },
    ),
    (
        "millrace_queue_oldest_ready_age_seconds",
        "gauge",
        "For how long the oldest job that is due has been waiting for a worker.",
        |q| vec![(None, q.oldest_ready_age)],
    ),
    (
        "millrace_queue_paused",
        "gauge",
        "Whether the queue is paused.",
        |q| one(q.paused.into()),
    ),
    (
        "millrace_queue_concurrency_limit",
        "gauge",
        "How many jobs of the queue may run at once, where that is limited.",
        |q| q.concurrency_limit.map_or_else(Vec::new, one),
    ),
    (
        "millrace_queue_rate_limit",
        "gauge",
        "How many jobs of the queue may start in its interval, where that is limited.",
        |q| q.rate_limit.map_or_else(Vec::new, one),
    ),
    (
        "millrace_queue_rate_tokens",
        "gauge",
        "How many of those may start now.",
        |q| q.tokens.map_or_else(Vec::new, one),
    ),
    (
        "millrace_queue_held",
        "gauge",
        "Whether nothing of the queue starts before some instant.",
        |q| one(q.held.into()),
    ),
    (
        "millrace_dead_letters",
        "gauge",
        "Dead letters that were not retried.",
        |q| one(q.waiting),
    ),
    (
        "millrace_workers_active",
        "gauge",
        "Workers of the queue seen within the last 20 seconds.",
        |q| one(q.workers),
    ),
    (
        "millrace_jobs_enqueued_total",
        "counter",
        "Jobs enqueued.",
        |q| one(q.totals.queued),
    ),
    (
        "millrace_attempts_started_total",
        "counter",
        "Attempts started: leases given to workers.",
        |q| one(q.totals.started),
    ),
    (
        "millrace_attempts_ended_total",
        "counter",
        "Attempts ended, by what came of them.",
        |q| {
            by(
                "outcome",
                [
                    ("succeeded", q.totals.succeeded),
                    ("retry_scheduled", q.totals.retry_scheduled),
                    ("dead_lettered", q.totals.dead_lettered),
                    ("postponed", q.totals.postponed),
                ],
            )
        },
    ),
    (
        "millrace_leases_expired_total",
        "counter",
        "Attempts whose lease ran out; what came of them is counted among the ended.",
        |q| one(q.totals.lease_expired),
    ),
    (
        "millrace_jobs_cancelled_total",
        "counter",
        "Jobs withdrawn, queued or running.",
        |q| one(q.totals.cancelled),
    ),
    (
        "millrace_jobs_retried_total",
        "counter",
        "Jobs that a person had tried again, by how: under their own id, or as a new job made of a dead letter.",
        |q| {
            by(
                "how",
                [("again", q.totals.retried), ("replay", q.totals.replayed)],
            )
        },
    ),
];

/// Name, help, and a queue's histogram.
type HistogramFamily = (&'static str, &'static str, fn(&QueueMetrics) -> &Histogram);

const HISTOGRAMS: [HistogramFamily; 2] = [
    (
        "millrace_enqueue_to_start_seconds",
        "From a job's enqueue to its first start.",
        |q| &q.wait,
    ),
    (
        "millrace_claim_to_finish_seconds",
        "From a claim to the end of its attempt.",
        |q| &q.run,
    ),
];

fn one(value: i64) -> Samples {
    vec![(None, value as f64)]
}

fn by<const N: usize>(label: &'static str, values: [(&'static str, i64); N]) -> Samples {
    values
        .into_iter()
        .map(|(name, value)| (Some((label, name)), value as f64))
        .collect()
}

pub(crate) fn head(text: &mut String, name: &str, kind: &str, help: &str) {
    line(
        text,
        format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"),
    );
}

fn sample(text: &mut String, name: &str, queue: &str, label: Option<(&str, &str)>, value: f64) {
    let queue = Escaped(queue);
    match label {
        None => line(text, format_args!("{name}{{queue=\"{queue}\"}} {value}")),
        Some((label, of)) => line(
            text,
            format_args!("{name}{{queue=\"{queue}\",{label}=\"{of}\"}} {value}"),
        ),
    }
}

fn buckets(text: &mut String, name: &str, queue: &str, bounds: &[f64], histogram: &Histogram) {
    let queue = Escaped(queue);
    for (bound, count) in bounds.iter().zip(&histogram.buckets) {
        line(
            text,
            format_args!("{name}_bucket{{queue=\"{queue}\",le=\"{bound}\"}} {count}"),
        );
    }
    let Histogram { count, sum, .. } = histogram;
    line(
        text,
        format_args!("{name}_bucket{{queue=\"{queue}\",le=\"+Inf\"}} {count}"),
    );
    line(text, format_args!("{name}_sum{{queue=\"{queue}\"}} {sum}"));
    line(
        text,
        format_args!("{name}_count{{queue=\"{queue}\"}} {count}"),
    );
}

pub(crate) fn line(text: &mut String, arguments: std::fmt::Arguments) {
    // Writing to a string does not fail.
    _ = writeln!(text, "{arguments}");
}

/// A label's value, in which backslashes, quotes and line feeds are escaped.
pub(crate) struct Escaped<'a>(pub(crate) &'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            _ => f.write_char(character),
        })
    }
}

#[cfg(test)]
mod tests {
    use millrace_contract::metrics::Totals;

    use super::*;

    fn metrics() -> Metrics {
        let histogram = || Histogram {
            buckets: vec![1, 3],
            count: 4,
            sum: 7.25,
        };
        let queue = QueueMetrics {
            queue: "a\\b\"c\nd".to_owned(),
            paused: true,
            concurrency_limit: None,
            rate_limit: Some(100),
            tokens: Some(7),
            held: false,
            queued: 5,
            running: 0,
            succeeded: 12_345_678_901,
            cancelled: 0,
            dead: 0,
            waiting: 0,
            oldest_ready_age: 0.001,
            workers: 0,
            totals: Totals::default(),
            wait: histogram(),
            run: histogram(),
        };
        Metrics {
            bounds: vec![0.005, 60.0],
            queues: vec![queue],
        }
    }

    #[test]
    fn labels_are_escaped_and_numbers_are_plain() {
        let text = render(&metrics());
        for expected in [
            r#"millrace_queue_jobs{queue="a\\b\"c\nd",state="queued"} 5"#,
            r#"millrace_queue_jobs{queue="a\\b\"c\nd",state="succeeded"} 12345678901"#,
            r#"millrace_queue_oldest_ready_age_seconds{queue="a\\b\"c\nd"} 0.001"#,
            r#"millrace_queue_paused{queue="a\\b\"c\nd"} 1"#,
            r#"millrace_enqueue_to_start_seconds_bucket{queue="a\\b\"c\nd",le="0.005"} 1"#,
            r#"millrace_enqueue_to_start_seconds_bucket{queue="a\\b\"c\nd",le="60"} 3"#,
            r#"millrace_enqueue_to_start_seconds_bucket{queue="a\\b\"c\nd",le="+Inf"} 4"#,
            r#"millrace_enqueue_to_start_seconds_sum{queue="a\\b\"c\nd"} 7.25"#,
            r#"millrace_enqueue_to_start_seconds_count{queue="a\\b\"c\nd"} 4"#,
        ] {
            assert!(
                text.lines().any(|line| line == expected),
                "{expected}\n{text}"
            );
        }
        assert!(!text.contains("millrace_queue_concurrency_limit{"));
    }

    #[test]
    fn without_queues_there_are_families_without_samples() {
        let text = render(&Metrics {
            bounds: vec![1.0],
            queues: vec![],
        });
        assert_eq!(
            text.lines().filter(|line| !line.starts_with("# ")).count(),
            0
        );
        assert_eq!(
            text.lines().count(),
            2 * (FAMILIES.len() + HISTOGRAMS.len())
        );
        assert!(text.ends_with('\n'));
    }
}
