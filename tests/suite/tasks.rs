//! `/api/tasks`: the life of a task, lists, retrying and cancelling, logs and numbers, and every request that is refused.

mod changing;
mod life;
mod listing;
mod racing;
mod refused;
mod results;

use millrace_tests::app::App;
use serde_json::{Value, json};
use uuid::Uuid;

const TASKS: &str = "/api/tasks";

/// All statuses of a task.
const STATUSES: [&str; 6] = [
    "pending",
    "processing",
    "completed",
    "failed",
    "cancelled",
    "retrying",
];

/// A task, and what a worker holds of it if one has claimed it.
struct Made {
    id: String,
    queue: String,
    /// As the collab face's claim answers it; null if nobody has claimed it.
    claimed: Value,
}

impl Made {
    fn path(&self, rest: &str) -> String {
        format!("{TASKS}/{}{rest}", self.id)
    }

    /// The worker's report, with these fields more.
    fn report(&self, more: Value) -> Value {
        let mut report = json!({
            "jobId": self.claimed["id"], "type": "t", "leaseId": self.claimed["lease_id"], "workerId": "w", "ok": false,
        });
        for (name, value) in more.as_object().expect("an object") {
            report[name] = value.clone();
        }
        report
    }
}

/// A task of the type `t` in a queue of its own, with these fields more.
async fn pending(app: &App, more: Value) -> Made {
    let queue = Uuid::new_v4().to_string();
    let mut task = json!({ "type": "t", "queue": queue });
    for (name, value) in more.as_object().expect("an object") {
        task[name] = value.clone();
    }
    let task = app.api.post(TASKS, &task).await.created();
    Made {
        id: id_of(&task),
        queue,
        claimed: Value::Null,
    }
}

fn id_of(task: &Value) -> String {
    task["id"].as_str().expect("an id").to_owned()
}

/// Has the worker `w` claim the task, which must be due.
async fn claim(app: &App, task: &mut Made) {
    let claimed = app.api.claim_one(&task.queue, "w").await;
    task.claimed = claimed.expect("a job to claim");
}

/// A task that stands where it is wanted.
async fn in_status(app: &App, status: &str) -> Made {
    let mut task = pending(app, json!({})).await;
    let word = match status {
        "pending" | "processing" => None,
        "completed" => Some(json!({ "ok": true })),
        "failed" => Some(json!({ "permanent": true, "error": "it broke" })),
        "retrying" => Some(json!({ "retryAfterSeconds": 3600, "errorCode": "busy" })),
        "cancelled" => {
            let answer = app.api.post(&task.path("/cancel"), &json!({})).await;
            assert_eq!(answer.created()["status"], status);
            return task;
        }
        other => panic!("{other} is no status"),
    };
    if status != "pending" {
        claim(app, &mut task).await;
    }
    if let Some(word) = word {
        app.api.result(task.report(word)).await.ok();
    }
    assert_eq!(get(app, &task.id).await["status"], status);
    task
}

async fn get(app: &App, id: &str) -> Value {
    app.api.get(&format!("{TASKS}/{id}")).await.ok()
}

/// The names of an object's fields, in the order of the alphabet.
fn fields(value: &Value) -> Vec<&str> {
    let object = value.as_object().expect("an object");
    object.keys().map(String::as_str).collect()
}
