//! The table of operations, a module for each heading.

mod artifacts;
mod channels;
mod dead_letters;
mod gateway_jobs;
mod gateway_tasks;
mod graphql;
mod jobs;
mod previews;
mod server;
mod tasks;
mod workers;

use crate::operation::Operation;

const TASKS: &str = "Tasks";
const JOBS: &str = "Jobs";
const GATEWAY_TASKS: &str = "Tasks over REST";
const GATEWAY_JOBS: &str = "Scheduled jobs over REST";
const GRAPHQL: &str = "GraphQL";
const DEAD_LETTERS: &str = "Dead letters";
const ARTIFACTS: &str = "Artifacts";
const CHANNELS: &str = "Channels";
const PREVIEWS: &str = "Previews";
const WORKERS: &str = "Workers";
const SERVER: &str = "Server";

/// The headings and what is under each.
pub const TAGS: [(&str, &str); 11] = [
    (TASKS, "From the queue to the outcome."),
    (JOBS, "What became of the jobs."),
    (
        GATEWAY_TASKS,
        "The jobs of all queues, as `/api/tasks` speaks of them.",
    ),
    (
        GATEWAY_JOBS,
        "What makes tasks at the due times of a cron expression: `/api/jobs`.",
    ),
    (GRAPHQL, "Tasks and scheduled jobs as a GraphQL schema."),
    (
        DEAD_LETTERS,
        "Jobs that will not be tried again, and trying them again.",
    ),
    (ARTIFACTS, "Files that jobs have made."),
    (
        CHANNELS,
        "Queues whose worker is a function of the application.",
    ),
    (
        PREVIEWS,
        "What channels would have sent, had they been told to send.",
    ),
    (WORKERS, "Who is there to work."),
    (
        SERVER,
        "The server itself: health, metrics and documentation.",
    ),
];

/// An id that stands for a job's in examples.
const SOME_JOB: &str = "00000000-0000-8000-8000-000000000001";

/// Every operation that the application serves.
pub fn all() -> Vec<Operation> {
    [
        tasks::operations(),
        jobs::operations(),
        gateway_tasks::operations(),
        gateway_jobs::operations(),
        graphql::operations(),
        dead_letters::operations(),
        artifacts::operations(),
        channels::operations(),
        previews::operations(),
        workers::operations(),
        server::operations(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
