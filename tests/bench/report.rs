//! What the benchmark prints: the machine, and a table that can be pasted into the README.

use std::time::Duration;

use anyhow::Result;
use millrace::database::connect;

use crate::load::{Face, Line, Stage};
use crate::{drain, latency, reading};

/// Describes the machine and the server, without which no figure means anything.
pub async fn print_machine(stage: &Stage) -> Result<()> {
    let client = connect(&stage.database_url).await?;
    let version: String = client.query_one("show server_version", &[]).await?.get(0);
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|l| l.strip_prefix("model name"))
        .map_or("unknown", |l| l.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{cores} cores ({cpu}), PostgreSQL {version}, everything on one machine\n");
    Ok(())
}

/// Jobs/s count jobs that were enqueued, claimed and reported; p50 and p99 are of one call, in milliseconds.
pub fn print_table(lines: &[Line]) {
    println!(
        "| batch | through | jobs/s | enqueue p50 / p99 | claim p50 / p99 | report p50 / p99 |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: |");
    for line in lines {
        let calls: Vec<String> = line
            .latencies
            .iter()
            .map(|l| format!("{} / {}", at(l, 0.50), at(l, 0.99)))
            .collect();
        println!(
            "| {} | {} | {:.0} | {} |",
            line.batch,
            line.face.name(),
            line.jobs_per_second,
            calls.join(" | ")
        );
    }
    println!();
    for batch in [1, 100] {
        let rate = |face| {
            lines
                .iter()
                .find(|l| l.batch == batch && l.face == face)
                .map(|l| l.jobs_per_second)
        };
        if let (Some(sql), Some(http)) = (rate(Face::Sql), rate(Face::Http)) {
            println!("HTTP : SQL at batch {batch} = {:.2}", http / sql);
        }
    }
}

/// Latencies are of whole HTTP requests, in milliseconds; rows and 8 KiB pages are what the database read for one.
pub fn print_reading(lines: &[reading::Line]) {
    println!("| read | p50 / p99 | rows | pages |");
    println!("| --- | ---: | ---: | ---: |");
    for line in lines {
        let (p50, p99) = (at(&line.latencies, 0.50), at(&line.latencies, 0.99));
        println!(
            "| {} | {p50} / {p99} | {} | {} |",
            line.name, line.rows, line.pages
        );
    }
}

/// From the instant that the database gave a job as enqueued to the one at which its channel's drain had claimed it, and to the one at which its outcome was
/// reported; the handler, which does nothing, is called between these two. In milliseconds.
pub fn print_latency(lines: &[latency::Line]) {
    println!("| enqueues/s | jobs | runs | to its claim p50 / p99 | to its end p50 / p99 |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    for line in lines {
        let both =
            [&line.claimed, &line.ended].map(|l| format!("{} / {}", at(l, 0.50), at(l, 0.99)));
        let (rate, jobs, runs) = (line.rate, line.claimed.len(), line.runs);
        println!("| {rate} | {jobs} | {runs} | {} |", both.join(" | "));
    }
}

/// Jobs/s are the median of the rounds. What composition costs is seen better in the calls alone than in the difference of two drains, which is mostly noise.
pub fn print_drain((lines, seam): &(Vec<drain::Line>, drain::Seam)) {
    println!("| concurrency | through | jobs/s (least to most) | to SQL |");
    println!("| ---: | --- | ---: | ---: |");
    let median = |line: &drain::Line| line.jobs_per_second[line.jobs_per_second.len() / 2];
    let rate = |way, concurrency| {
        let of = |line: &&drain::Line| line.way == way && line.concurrency == concurrency;
        lines.iter().find(of).map_or(f64::NAN, median)
    };
    for line in lines {
        let (least, most) = (
            line.jobs_per_second[0],
            line.jobs_per_second[line.jobs_per_second.len() - 1],
        );
        let to_sql = median(line) / rate(drain::Way::Sql, line.concurrency);
        println!(
            "| {} | {} | {:.0} ({least:.0} to {most:.0}) | {to_sql:.2} |",
            line.concurrency,
            line.way.name(),
            median(line)
        );
    }
    println!();
    let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
    println!(
        "a call of the handler: {:.1} µs across the seam, {:.1} µs linked in",
        microseconds(seam.across),
        microseconds(seam.within)
    );
}

fn at(sorted: &[Duration], share: f64) -> String {
    let place = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(place).map_or_else(
        || "–".to_owned(),
        |d| format!("{:.2}", d.as_secs_f64() * 1e3),
    )
}
