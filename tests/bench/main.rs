//! `cargo xtask bench`: the same work straight on the SQL functions and over HTTP through the components, in one run.
//!
//! Each client enqueues, claims and reports no-op jobs with a payload of 170 bytes, one at a time or 100 at a time, with
//! all history kept. The server is a durable cluster of its own: every commit is on disk before it is answered.

mod drain;
mod latency;
mod load;
mod reading;
mod report;
mod tasks;

use std::time::Duration;

use anyhow::Result;
use load::{Face, Work};

const HELP: &str = "\
Usage: cargo xtask bench [--seconds N] [--clients N] | --reading N | --tasks N | --latency | --drain

  --seconds N   length of each of the measurements (5)
  --clients N   concurrent clients (4)
  --reading N   instead: what lists and summaries cost beside N finished jobs, by one client
  --tasks N     instead: what lists of tasks, their totals and single tasks cost at N tasks, by one client
  --latency     instead: how soon what is enqueued over HTTP reaches the handler of its channel
  --drain       instead: what a drain gets done, beside SQL alone and with its handler linked in
";

/// What the command line asks for.
struct Request {
    seconds: u64,
    clients: usize,
    reading: Option<usize>,
    tasks: Option<usize>,
    latency: bool,
    drain: bool,
}

fn parse() -> Result<Request> {
    use lexopt::prelude::*;
    let mut request = Request {
        seconds: 5,
        clients: 4,
        reading: None,
        tasks: None,
        latency: false,
        drain: false,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("seconds") => request.seconds = parser.value()?.parse()?,
            Long("clients") => request.clients = parser.value()?.parse()?,
            Long("reading") => request.reading = Some(parser.value()?.parse()?),
            Long("tasks") => request.tasks = Some(parser.value()?.parse()?),
            Long("latency") => request.latency = true,
            Long("drain") => request.drain = true,
            Long("help") => {
                print!("{HELP}");
                std::process::exit(0);
            }
            other => return Err(other.unexpected().into()),
        }
    }
    Ok(request)
}

#[tokio::main]
async fn main() -> Result<()> {
    let request = parse()?;
    let stage = load::Stage::set(request.clients).await?;
    report::print_machine(&stage).await?;
    if let Some(jobs) = request.reading {
        report::print_reading(&reading::measure(&stage, jobs).await?);
        return stage.strike().await;
    }
    if let Some(tasks) = request.tasks {
        report::print_reading(&tasks::measure(&stage, tasks).await?);
        return stage.strike().await;
    }
    if request.latency {
        report::print_latency(&latency::measure(&stage, request.seconds).await?);
        return stage.strike().await;
    }
    if request.drain {
        report::print_drain(&drain::measure(&stage).await?);
        return stage.strike().await;
    }
    let mut lines = Vec::new();
    for batch in [1, 100] {
        // The two faces take turns, so that a machine that slows down slows both.
        for face in [Face::Sql, Face::Http] {
            let work = Work {
                face,
                batch,
                clients: request.clients,
                time: Duration::from_secs(request.seconds),
            };
            eprintln!("==> {} × {batch}", face.name());
            lines.push(load::measure(&stage, &work).await?);
        }
    }
    report::print_table(&lines);
    stage.strike().await
}
