//! Jobs that will not be tried again: `dlq-list`, `dlq-retry`.

use millrace_contract::dead_letter::{DeadLetters, Listing, Retried, RetriedMany, Retry};
use millrace_kit::parse::OneOrMany;
use serde_json::json;

use super::DEAD_LETTERS;
use crate::operation::{Operation, Scope};

pub fn operations() -> Vec<Operation> {
    vec![list(), retry()]
}

fn list() -> Operation {
    Operation::get("/functions/v1/dlq-list", "listDeadLetters", "Dead letters")
        .tag(DEAD_LETTERS)
        .description(
            "Newest first. A page looks at no more than 10,000 entries: where a filter is so sparse that it finds fewer than `limit` \
             of them, it answers those, and `nextCursor` goes on.",
        )
        .scope(Scope::Read)
        .database()
        .query::<Listing>()
        .with("limit", 20)
        .with("cursor", "1000000")
        .with("executorId", "verify-demo")
        .with("type", "browser.run")
        .with("reason", "failed")
        .with("from", "2020-01-31T09:30:00Z")
        .with("to", "2030-01-31T09:30:00Z")
        .with("retried", false)
        .answers::<DeadLetters>("A page of dead letters.")
}

fn retry() -> Operation {
    Operation::post("/functions/v1/dlq-retry", "retryDeadLetter", "Make a new job of a dead letter, or of many")
        .tag(DEAD_LETTERS)
        .description(
            "With `dlqId` of that one. With `all: true` of those that fit and were not retried yet, the oldest first, up to `limit`; \
             callers at the same time share the work. A second retry of one is refused, and `details` holds the job that the first one made.",
        )
        .scope(Scope::Operate)
        .database()
        .body::<Retry>()
        .example("one", json!({ "dlqId": 1 }))
        .example("many", json!({ "all": true, "executorId": "verify-demo", "reason": "failed", "limit": 100 }))
        .answers::<OneOrMany<Retried, RetriedMany>>("The new job, or the new jobs.")
        .refuses(&[(404, &["dead_letter_not_found"]), (409, &["already_replayed"])])
}
