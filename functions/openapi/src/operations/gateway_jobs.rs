//! `/api/jobs`: create, list, get, pause, resume and delete jobs, which are the core's schedules.

use millrace_contract::gateway_job::{DeletedJob, GatewayJob, JobPart, NewJob};
use millrace_contract::gateway_task::NoFields;
use millrace_contract::job::NoParameters;
use serde_json::json;

use super::GATEWAY_JOBS;
use crate::operation::{Operation, Scope};

pub fn operations() -> Vec<Operation> {
    vec![create(), list(), get(), pause(), resume(), delete()]
}

/// What the operations have in common.
fn job(operation: Operation, scope: Scope) -> Operation {
    operation
        .tag(GATEWAY_JOBS)
        .scope(scope)
        .database()
        .gateway()
}

/// An operation on the job whose id stands in the path.
fn of_job(operation: Operation, scope: Scope) -> Operation {
    job(operation, scope)
        .query::<NoParameters>()
        .with("id", "1")
        .refuses(&[(404, &["schedule_not_found"])])
}

fn create() -> Operation {
    let operation = Operation::post("/api/jobs", "createJob", "Create a job");
    job(operation, Scope::Operate)
        .description(
            "It makes a task at each due time of its cron expression, once however many servers there are. An expression with a fault is refused \
             with the place of the fault.",
        )
        .query::<NoParameters>()
        .body::<NewJob>()
        .example(
            "backup",
            json!({ "name": "Daily Backup", "type": "backup", "schedule": "0 0 * * *", "payload": {} }),
        )
        .example(
            "report",
            json!({ "name": "Weekly report", "type": "report", "schedule": "30 8 * * 1", "timeZone": "Europe/Berlin", "queue": "reports",
                    "priority": 10, "maxAttempts": 3 }),
        )
        .answers::<GatewayJob>("The job was created.")
        .with_status(201)
        .refuses(&[(409, &["schedule_exists", "too_many_lanes"])])
}

fn list() -> Operation {
    let operation = Operation::get("/api/jobs", "listJobs", "Jobs, the newest first");
    job(operation, Scope::Read)
        .description(
            "All of them, unless there is a `limit`. Where they are more than 8 MiB together the list is refused, and a smaller `limit` helps.",
        )
        .query::<JobPart>()
        .with("limit", 100)
        .with("offset", 0)
        .answers::<Vec<GatewayJob>>("The jobs.")
}

fn get() -> Operation {
    let operation = Operation::get("/api/jobs/{id}", "getScheduledJob", "One job");
    of_job(operation, Scope::Read).answers::<GatewayJob>("The job.")
}

fn pause() -> Operation {
    let operation = Operation::post("/api/jobs/{id}/pause", "pauseJob", "Pause a job");
    of_job(operation, Scope::Operate)
        .description("It makes no tasks until it is resumed; those that it made stay.")
        .optional_body::<NoFields>()
        .example("plain", json!({}))
        .answers::<GatewayJob>("The job.")
        .with_status(201)
}

fn resume() -> Operation {
    let operation = Operation::post("/api/jobs/{id}/resume", "resumeJob", "Resume a paused job");
    of_job(operation, Scope::Operate)
        .description("It makes tasks again, from its next due time on.")
        .optional_body::<NoFields>()
        .example("plain", json!({}))
        .answers::<GatewayJob>("The job.")
        .with_status(201)
}

fn delete() -> Operation {
    let operation = Operation::delete("/api/jobs/{id}", "deleteJob", "Delete a job");
    of_job(operation, Scope::Operate)
        .description("The tasks that it made stay.")
        .answers::<DeletedJob>("It is deleted.")
}
