//! Who is there to work: `workers/heartbeat`, `workers/active`.

use millrace_contract::worker::{ActiveWorkers, Heartbeat, Noted, Selection};
use serde_json::json;

use super::WORKERS;
use crate::operation::{Operation, Scope};

pub fn operations() -> Vec<Operation> {
    vec![heartbeat(), active()]
}

fn heartbeat() -> Operation {
    Operation::post("/api/collab/workers/heartbeat", "sendHeartbeat", "Say that a worker is there")
        .tag(WORKERS)
        .description("Has nothing to do with leases: a heartbeat does not extend one.")
        .scope(Scope::Work)
        .database()
        .body::<Heartbeat>()
        .example(
            "busy",
            json!({ "agentId": "worker-01", "executorId": "verify-demo", "status": "busy", "running": 1, "capacity": 4, "version": "1.2.0" }),
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
