//! From the queue to the outcome: `task.assign`, `task.claim`, `task.result`.

use millrace_contract::claim::{Claim, Claimed, ClaimedMany};
use millrace_contract::outcome::{Outcome, Outcomes, Reported, ReportedMany};
use millrace_contract::task::{Assigned, AssignedMany, Task, Tasks};
use millrace_kit::parse::OneOrMany;
use serde_json::json;

use super::{SOME_JOB, TASKS};
use crate::operation::{Operation, Scope};

pub fn operations() -> Vec<Operation> {
    vec![assign(), claim(), result()]
}

fn assign() -> Operation {
    Operation::post("/api/collab/task.assign", "assignTask", "Enqueue a job, or up to 100")
        .tag(TASKS)
        .description(
            "The body is one job, or `{tasks: […]}`: then all of them are enqueued, or none. The same `idempotencyKey` again answers \
             with the first job and `queued: false`.",
        )
        .scope(Scope::Enqueue)
        .database()
        .body::<OneOrMany<Task, Tasks>>()
        .header("traceparent", "The trace (W3C Trace Context) of each job that names none itself.")
        .example(
            "one",
            json!({ "type": "browser.run", "executorId": "verify-demo", "payload": { "url": "https://example.com" } }),
        )
        .example(
            "many",
            json!({ "tasks": [
                { "type": "email", "executorId": "mail", "payload": { "to": "ada@example.com" }, "idempotencyKey": "welcome-1" },
                { "type": "email", "executorId": "mail", "priority": 10, "delaySeconds": 60, "maxAttempts": 3 },
            ] }),
        )
        .answers::<OneOrMany<Assigned, AssignedMany>>("The job is in the queue, or was there already.")
        .refuses(&[(409, &["too_many_lanes"])])
}

fn claim() -> Operation {
    Operation::post("/api/collab/task.claim", "claimTask", "Lease the next job, or up to 100")
        .tag(TASKS)
        .description(
            "The jobs with the greatest priority that have been due for longest. Each comes with a lease: until it ends nobody else gets \
             the job, and if it ends without a report the attempt has failed.",
        )
        .scope(Scope::Work)
        .database()
        .body::<Claim>()
        .example(
            "one",
            json!({ "executorId": "verify-demo", "workerId": "worker-01", "leaseSeconds": 60, "typePrefix": "browser." }),
        )
        .example("many", json!({ "executorId": "mail", "workerId": "worker-01", "limit": 10 }))
        .answers::<OneOrMany<Claimed, ClaimedMany>>("The jobs, or none.")
}

fn result() -> Operation {
    Operation::post("/api/collab/task.result", "reportResult", "Report the outcome of a leased job, or of up to 100")
        .tag(TASKS)
        .description(
            "The body is one report, or `{results: […]}`: then each counts, or is refused, by itself. A failed job is tried again later, \
             until its attempts are used up and it becomes a dead letter.",
        )
        .scope(Scope::Work)
        .database()
        .body::<OneOrMany<Outcome, Outcomes>>()
        .example(
            "succeeded",
            json!({ "jobId": SOME_JOB, "type": "browser.run", "ok": true, "result": { "title": "Example" },
                    "artifact": { "name": "screenshot", "path": "runs/1/screen.png", "size": 48213, "mime": "image/png" } }),
        )
        .example("failed", json!({ "jobId": SOME_JOB, "type": "browser.run", "ok": false, "error": "simulated-fail" }))
        .example("many", json!({ "results": [{ "jobId": SOME_JOB, "type": "browser.run", "ok": true }] }))
        .answers::<OneOrMany<Reported, ReportedMany>>("The report counted; of several, each one's fate.")
        .refuses(&[
            (404, &["job_not_found"]),
            (
                409,
                &["type_mismatch", "not_lease_owner", "lease_expired", "not_leased", "invalid_lease", "cancelled", "already_attempted"],
            ),
        ])
}
