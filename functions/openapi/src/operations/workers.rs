//! Who is there to work: `workers/heartbeat`, `workers/active`.

use millrace_contract::worker::{ActiveWorkers, Heartbeat, Noted, Selection};
use serde_json::json;

use super::{SOME_JOB, WORKERS};
use crate::operation::{Operation, Scope};

pub fn operations() -> Vec<Operation> {
    vec![heartbeat(), active()]
}

fn heartbeat() -> Operation {
    Operation::post("/api/collab/workers/heartbeat", "sendHeartbeat", "Say that a worker is there")
        .tag(WORKERS)
        .description(
            "By itself it has nothing to do with leases. One that names the leases that the worker holds (claimed with `workerId` = `agentId`) extends them, \
             and is told which are lost: a worker that asks every few seconds hears so that a running job was cancelled.",
        )
        .scope(Scope::Work)
        .database()
        .body::<Heartbeat>()
        .example(
            "busy",
            json!({ "agentId": "worker-01", "executorId": "verify-demo", "status": "busy", "running": 1, "capacity": 4, "version": "1.2.0" }),
        )
        .example(
            "leases",
            json!({ "agentId": "worker-01", "executorId": "verify-demo", "status": "busy",
                    "leases": [{ "jobId": SOME_JOB, "leaseId": 1 }], "leaseSeconds": 60 }),
        )
        .answers::<Noted>("Noted.")
}

fn active() -> Operation {
    Operation::get(
        "/api/collab/workers/active",
        "listActiveWorkers",
        "The workers that are there",
    )
    .tag(WORKERS)
    .description(
        "Those whose heartbeat came within the last 20 seconds, at most 1,000, the latest first.",
    )
    .scope(Scope::Read)
    .database()
    .query::<Selection>()
    .with("executorId", "verify-demo")
    .answers::<ActiveWorkers>("The workers.")
}
