//! `/api/tasks`: create, list, get, retry and cancel tasks, read their logs, and count them.

use millrace_contract::gateway_task::{
    GatewayTask, GatewayTasks, LogPart, NewTask, NoFields, RetryTask, TaskFilter, TaskLogs,
    TaskStats,
};
use millrace_contract::job::NoParameters;
use serde_json::json;

use super::GATEWAY_TASKS;
use crate::operation::{Operation, Scope};

pub fn operations() -> Vec<Operation> {
    vec![create(), list(), get(), retry(), cancel(), logs(), stats()]
}

/// What the operations have in common.
fn task(operation: Operation, scope: Scope) -> Operation {
    operation
        .tag(GATEWAY_TASKS)
        .scope(scope)
        .database()
        .gateway()
}

/// An operation on the task whose id stands in the path.
fn of_task(operation: Operation, scope: Scope) -> Operation {
    task(operation, scope)
        .query::<NoParameters>()
        .with("id", "1")
        .refuses(&[(404, &["task_not_found"])])
}

fn create() -> Operation {
    let operation = Operation::post("/api/tasks", "createTask", "Create a task");
    task(operation, Scope::Enqueue)
        .description("It is enqueued in the queue that it names, or in that of the variable `tasks_queue`.")
        .query::<NoParameters>()
        .body::<NewTask>()
        .header("traceparent", "The trace (W3C Trace Context) that the task belongs to.")
        .example("email", json!({ "type": "email", "payload": { "to": "ada@example.com" }, "priority": 5 }))
        .example("later", json!({ "type": "email", "queue": "mail", "delaySeconds": 60, "maxAttempts": 3, "idempotencyKey": "welcome-1" }))
        .answers::<GatewayTask>("The task was created.")
        .with_status(201)
        .or_already(200, "The queue knows the idempotency key: this is the first task with it, as it stands now.")
        .refuses(&[(409, &["too_many_lanes"])])
}

fn list() -> Operation {
    let operation = Operation::get("/api/tasks", "listTasks", "Tasks, the newest first");
    task(operation, Scope::Read)
        .description(
            "A page has as many tasks as fit the filters, up to `limit`; where they are more than 8 MiB together it is refused, and a smaller \
             `limit` helps. Where the request names no `limit` the page ends at 8 MiB, and its `limit` is how many it has. `total` is counted as tasks move, so it costs the same at any number of them.",
        )
        .query::<TaskFilter>()
        .with("status", "pending")
        .with("type", "email")
        .with("priority", 5)
        .with("queue", "tasks")
        .with("limit", 10)
        .with("offset", 0)
        .with("before", "1000000")
        .answers::<GatewayTasks>("A page of tasks.")
}

fn get() -> Operation {
    let operation = Operation::get("/api/tasks/{id}", "getTask", "One task");
    of_task(operation, Scope::Read).answers::<GatewayTask>("The task.")
}

fn retry() -> Operation {
    let operation = Operation::post(
        "/api/tasks/{id}/retry",
        "retryTask",
        "Queue a failed or cancelled task again",
    );
    of_task(operation, Scope::Operate)
        .description("Under its own id. It has one more attempt before it, or with `resetAttempts` all of them.")
        .optional_body::<RetryTask>()
        .example("more", json!({ "resetAttempts": false }))
        .answers::<GatewayTask>("The task.")
        .with_status(201)
        .refuses(&[(409, &["already_replayed"])])
}

fn cancel() -> Operation {
    let operation = Operation::post("/api/tasks/{id}/cancel", "cancelTask", "Withdraw a task");
    of_task(operation, Scope::Operate)
        .description(
            "One that is pending, processing or retrying. The lease of one that is processed ends, and its worker's next word is refused.",
        )
        .optional_body::<NoFields>()
        .example("plain", json!({}))
        .answers::<GatewayTask>("The task.")
        .with_status(201)
}

fn logs() -> Operation {
    let operation = Operation::get(
        "/api/tasks/{id}/logs",
        "getTaskLogs",
        "What happened to a task",
    );
    task(operation, Scope::Read)
        .description("In the order in which it happened.")
        .query::<LogPart>()
        .with("id", "1")
        .with("limit", 100)
        .with("offset", 0)
        .answers::<TaskLogs>("A part of the log.")
        .refuses(&[(404, &["task_not_found"])])
}

fn stats() -> Operation {
    let operation = Operation::get(
        "/api/tasks/stats/summary",
        "getTaskStats",
        "How many tasks there are",
    );
    task(operation, Scope::Read)
        .description("Counted as they move, so it costs the same at any number of them.")
        .query::<NoParameters>()
        .answers::<TaskStats>("The numbers, of all queues together.")
}
