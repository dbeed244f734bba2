//! The types of the schema. What a type says of itself here is what the explorer and generated clients show.

use async_graphql::{Enum, ID, InputObject, SimpleObject};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::scalars::{DateTime, Json};

/// How many tasks a list has at most that does not say, and that any list may have.
const DEFAULT_LIMIT: i64 = 50;
const MOST: i64 = 1000;

/// How many tasks a list with this limit may hold, for what it counts.
pub fn most(limit: Option<i64>) -> usize {
    let limit = limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MOST);
    usize::try_from(limit).unwrap_or_default()
}

/// Where a task stands.
#[derive(Clone, Copy, PartialEq, Eq, Enum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskStatus {
    /// It waits, or is due later.
    Pending,
    /// A worker has it.
    Processing,
    /// It succeeded.
    Completed,
    /// It will not be tried again, unless somebody asks for it.
    Failed,
    /// Somebody withdrew it.
    Cancelled,
    /// It waits for another attempt.
    Retrying,
}

/// How urgent a task is, in four steps. A task's own `priority` is a number, the greater the more urgent.
#[derive(Clone, Copy, PartialEq, Eq, Enum)]
pub enum TaskPriority {
    /// 1
    Low,
    /// 5, which is also what a task has that does not say.
    Normal,
    /// 10
    High,
    /// 20
    Critical,
}

impl Serialize for TaskPriority {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i32(match self {
            Self::Low => 1,
            Self::Normal => 5,
            Self::High => 10,
            Self::Critical => 20,
        })
    }
}

/// Where a job stands.
#[derive(Clone, Copy, PartialEq, Eq, Enum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// It makes tasks at its times.
    Active,
    /// It makes none until it is resumed.
    Paused,
    /// Its last time made no task though it should have; the next one is tried as ever.
    Failed,
}

/// One unit of work.
#[derive(SimpleObject, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Its id, in decimal digits.
    id: ID,
    /// What is to be done, such as `email`.
    #[graphql(name = "type")]
    #[serde(rename = "type")]
    kind: String,
    /// Where it stands.
    status: TaskStatus,
    /// How urgent it is: of two that are due, the one with the greater number goes first.
    priority: i32,
    /// The queue that it is in.
    queue: String,
    /// What the worker is given.
    payload: Option<Json>,
    /// How often it has been tried, the attempt that runs included.
    attempts: i32,
    /// How often it is tried at most.
    max_attempts: i32,
    /// When it was created.
    created_at: DateTime,
    /// When its latest attempt began.
    started_at: Option<DateTime>,
    /// When it succeeded.
    completed_at: Option<DateTime>,
    /// When it failed for good.
    failed_at: Option<DateTime>,
    /// What its latest attempt failed with, of one that failed or waits to be tried again.
    error: Option<String>,
    /// What its worker answered.
    result: Option<Json>,
}

/// A page of tasks, newest first.
#[derive(SimpleObject, Deserialize)]
pub struct TaskList {
    /// The tasks of this page.
    tasks: Vec<Task>,
    /// How many tasks fit the filters, whatever the page; 2147483647 where there are more.
    #[serde(deserialize_with = "clamped")]
    total: i32,
    /// How many tasks the page has at most; fewer than asked for only where no limit was given and more would be over 8 MiB.
    #[serde(deserialize_with = "clamped")]
    limit: i32,
    /// How many tasks were passed over.
    #[serde(deserialize_with = "clamped")]
    offset: i32,
}

/// A count as an `Int`, which ends at 2,147,483,647.
fn clamped<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i32, D::Error> {
    let count = u64::deserialize(deserializer)?;
    Ok(i32::try_from(count).unwrap_or(i32::MAX))
}

/// A schedule: it makes a task at each time of a cron expression.
#[derive(SimpleObject, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its id, in decimal digits.
    id: ID,
    /// Its name, which no other job has.
    name: String,
    /// The type of its tasks.
    #[graphql(name = "type")]
    #[serde(rename = "type")]
    kind: String,
    /// When it makes them: a cron expression.
    schedule: String,
    /// The time zone of that expression.
    time_zone: String,
    /// The queue that its tasks go to.
    queue: String,
    /// The payload of its tasks.
    payload: Option<Json>,
    /// Where it stands.
    status: JobStatus,
    /// When it was created.
    created_at: DateTime,
    /// When it was last changed.
    updated_at: DateTime,
    /// When it last made a task.
    last_run: Option<DateTime>,
    /// When it makes the next one; null while it is paused, and where there is no such time.
    next_run: Option<DateTime>,
}

/// Which tasks a list shows. What is left out, or null, lets all through.
#[derive(InputObject, Serialize, Default)]
pub struct TaskFilters {
    /// Only those that stand there.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<TaskStatus>,
    /// Only those of this type.
    #[graphql(name = "type")]
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// Only those of this priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<i32>,
    /// Only those of this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    /// How many at most, 1 to 1000. Where this is left out 50, or as many of them as are 8 MiB together.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<i32>,
    /// How many of the newest to pass over.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<i32>,
}

/// A task to be.
#[derive(InputObject, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateTaskInput {
    /// What is to be done, such as `email`: what a worker of the queue knows.
    #[graphql(name = "type")]
    #[serde(rename = "type")]
    kind: String,
    /// What the worker is given; `{}` where this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Json>,
    /// How urgent it is; NORMAL where this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<TaskPriority>,
    /// The queue that it goes to, where that is not the usual one of tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// How often it is tried at most; as its queue is set where this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<i32>,
    /// After how many seconds it is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_seconds: Option<i32>,
    /// When it is due; not together with delaySeconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<DateTime>,
    /// A second task of the same key and queue is not created: the first one is answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
}

/// A job to be.
#[derive(InputObject, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateJobInput {
    /// Its name, which no other job may have.
    name: String,
    /// The type of its tasks.
    #[graphql(name = "type")]
    #[serde(rename = "type")]
    kind: String,
    /// When it makes them: a cron expression, of five fields or six with seconds before them.
    schedule: String,
    /// The payload of its tasks; `{}` where this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Json>,
    /// The queue that its tasks go to, where that is not the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The time zone of the expression, such as `Europe/Berlin`; UTC where this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
    /// How urgent its tasks are; NORMAL where this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<TaskPriority>,
    /// How often each of its tasks is tried at most; as the queue is set where this is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<i32>,
}
