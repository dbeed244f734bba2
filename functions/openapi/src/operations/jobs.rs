//! What became of the jobs: one of them, its events, its artifacts, and the newest ones.

use millrace_contract::event::EventStream;
use millrace_contract::job::{
    JobArtifacts, JobDetail, JobEvents, JobSummary, NoParameters, Part, Recent, RecentJobs,
};

use super::{JOBS, SOME_JOB};
use crate::operation::{Operation, Scope};

pub fn operations() -> Vec<Operation> {
    vec![job(), summary(), events(), stream(), artifacts(), recent()]
}

fn job() -> Operation {
    of_job("/api/collab/job/{jobId}", "getJob", "One job")
        .query::<NoParameters>()
        .answers::<JobDetail>("The job.")
}

fn summary() -> Operation {
    of_job(
        "/api/collab/job/{jobId}/summary",
        "getJobSummary",
        "One job, its artifacts and its events",
    )
    .query::<NoParameters>()
    .answers::<JobSummary>("The job, its first 1,000 artifacts and its latest 1,000 events.")
}

fn events() -> Operation {
    of_job(
        "/api/collab/events/by-job/{jobId}",
        "listJobEvents",
        "The events of a job",
    )
    .description("In the order in which they happened: they tell the job's whole life.")
    .query::<Part>()
    .with("limit", 100)
    .with("cursor", "0")
    .answers::<JobEvents>("The events.")
}

fn stream() -> Operation {
    Operation::get("/api/collab/events/stream", "streamEvents", "The events of a job or of a queue, as they happen")
        .tag(JOBS)
        .description(
            "Server-sent events (WHATWG HTML section 9.2). Each one's `event` is its type, its `data` an `Event`, and its `id` the place \
             behind it: a client that reconnects with `Last-Event-ID` misses none and gets none twice. Of a job from its first event on, of \
             a queue from now on. With `until=end` the last event is `end`, when the job has succeeded, failed or been cancelled.",
        )
        .scope(Scope::Read)
        .database()
        .query::<EventStream>()
        .header("Last-Event-ID", "The `id` after which to go on, which browsers send by themselves.")
        .with("jobId", SOME_JOB)
        .with("until", "end")
        .answers_text("text/event-stream", "The events.")
        .or_empty(204, "There is nothing more to come: the job has ended, and its last event was read.")
        .refuses(&[(400, &["invalid_cursor"]), (404, &["job_not_found"])])
}

fn artifacts() -> Operation {
    of_job(
        "/api/collab/artifacts/by-job/{jobId}",
        "listJobArtifacts",
        "The artifacts of a job",
    )
    .description("In the order in which they were recorded.")
    .query::<Part>()
    .with("limit", 100)
    .with("cursor", "0")
    .answers::<JobArtifacts>("The artifacts.")
}

/// An operation on the job whose id stands in the path.
fn of_job(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation::get(path, id, summary)
        .tag(JOBS)
        .scope(Scope::Read)
        .database()
        .with("jobId", SOME_JOB)
        .refuses(&[(404, &["job_not_found"])])
}

fn recent() -> Operation {
    Operation::get("/api/collab/jobs/recent", "listRecentJobs", "The newest jobs")
        .tag(JOBS)
        .description(
            "Newest first. Following `nextCursor` neither skips nor repeats a job while others arrive. A page looks at no more than \
             10,000 entries: where a filter is so sparse that it finds fewer than `limit` of them, it answers those, and `nextCursor` goes on.",
        )
        .scope(Scope::Read)
        .database()
        .query::<Recent>()
        .with("limit", 20)
        .with("status", "queued")
        .with("executorId", "verify-demo")
        .with("type", "browser.run")
        .with("cursor", "2030-01-31T09:30:00Z")
        .answers::<RecentJobs>("A page of jobs.")
}
