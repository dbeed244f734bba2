//! Tasks, as `/api/tasks` speaks of the queue's jobs: what its requests may say, and what its answers hold.

use std::collections::BTreeMap;

use millrace_kit::field::{Instant, Int, Text};
use millrace_kit::json::{self, Json};
use millrace_kit::trace::Traceparent;
use serde::{Deserialize, Serialize};

/// The greatest offset: as far as a number of JavaScript counts exactly.
pub const MAX_OFFSET: i64 = (1 << 53) - 1;

/// Where a task stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TaskStatus {
    /// It waits for its first attempt.
    Pending,
    /// A worker has it.
    Processing,
    /// Done.
    Completed,
    /// It will not be tried again, unless somebody retries it.
    Failed,
    /// Withdrawn by a person.
    Cancelled,
    /// It waits for another attempt.
    Retrying,
}

/// A task to be.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "NewTaskDraft")]
pub struct NewTask(NewTaskDraft);

/// The fields of a task to be, of which two exclude each other.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct NewTaskDraft {
    /// What kind of work it is, such as `email`.
    r#type: Text<200>,
    /// Handed to the worker as it is; `{}` if it is absent or null.
    #[serde(default, deserialize_with = "json::present")]
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Json>,
    /// 1 is low, 5 normal, 10 high and 20 critical; 5 if it is absent. Greater goes first.
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Int<1, 20>>,
    /// Which workers take it; the variable `tasks_queue` if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Text<200>>,
    /// How often it is tried; what the queue says if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<Int<1, 1000>>,
    /// How long it waits before it is due, at most ten years; not together with `runAt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_seconds: Option<Int<0, 315_360_000>>,
    /// When it is due; not together with `delaySeconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<Instant>,
    /// The same key again in the same queue answers with the first task, for as long as that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<Text<200>>,
    /// From the request's header.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(skip))]
    traceparent: Option<Traceparent>,
}

impl NewTask {
    /// Puts the task into this queue unless it names one of its own.
    pub fn default_queue(&mut self, queue: Text<200>) {
        self.0.queue.get_or_insert(queue);
    }

    /// Puts the task into this trace.
    pub fn join(&mut self, trace: Option<Traceparent>) {
        self.0.traceparent = trace;
    }
}

impl TryFrom<NewTaskDraft> for NewTask {
    type Error = &'static str;

    fn try_from(draft: NewTaskDraft) -> Result<Self, Self::Error> {
        match (&draft.delay_seconds, &draft.run_at) {
            (Some(_), Some(_)) => Err("delaySeconds and runAt exclude each other"),
            _ => Ok(Self(draft)),
        }
    }
}

/// A request about one task, whose id stands in the path. An id that is none names no task, which is for the database to say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfTask<T> {
    pub task_id: String,
    /// What else the request says.
    #[serde(flatten)]
    pub request: T,
}

/// How a task is to be retried.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RetryTask {
    /// Whether it has all of its attempts before it again, and not one more; false if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    reset_attempts: Option<bool>,
}

/// The body of a request that has nothing to say.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NoFields {}

/// Which tasks are asked for.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TaskFilter {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<TaskStatus>,
    /// Only of this type.
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<Text<200>>,
    /// Only of this priority. Jobs that came another way than this may have others than 1 to 20.
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Int<-100, 100>>,
    /// Only of this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Text<200>>,
    /// How many at most. If it is absent 50, or as many of them as are 8 MiB together.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Int<1, 1000>>,
    /// How many of the newest to pass over; 0 if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<Int<0, MAX_OFFSET>>,
    /// Only tasks older than the one with this id. With the last id of a page the next one begins right behind it, however many tasks
    /// have arrived since.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Text<20>>,
}

/// Which part of a task's log is asked for.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LogPart {
    /// How many lines at most; 100 if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Int<1, 1000>>,
    /// How many of the first to pass over; 0 if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<Int<0, MAX_OFFSET>>,
}

/// A task.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct GatewayTask {
    /// A decimal number.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[1-9][0-9]{0,18}$")))]
    id: String,
    r#type: String,
    status: TaskStatus,
    /// 1 is low, 5 normal, 10 high and 20 critical. Jobs that came another way than this may have others than 1 to 20.
    priority: Int<-100, 100>,
    queue: String,
    payload: Json,
    /// How many attempts were made, a running one included.
    attempts: Int<0, 1000>,
    max_attempts: Int<1, 1000>,
    created_at: Instant,
    /// When its latest attempt started.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Instant>,
    /// If it is completed: since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<Instant>,
    /// If it has failed: since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_at: Option<Instant>,
    /// Why its latest attempt failed, if it waits for another one or has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What its worker said when it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Json>,
}

/// A page of tasks, newest first.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GatewayTasks {
    tasks: Vec<GatewayTask>,
    /// How many there are that fit, on this page or not.
    total: Int<0, { i64::MAX }>,
    /// How many the page may hold; fewer than asked for only where the request named no limit and more would be over 8 MiB.
    limit: Int<1, 1000>,
    offset: Int<0, MAX_OFFSET>,
}

/// How bad it is what a line of a log says.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Info,
    Warn,
    Error,
}

/// Something that happened to a task.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TaskLogLine {
    timestamp: Instant,
    level: LogLevel,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<TaskLogMetadata>,
}

/// What a line of a log says, for machines.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TaskLogMetadata {
    /// Which attempt it is about, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempt: Option<Int<1, 1000>>,
    /// How many attempts a task that is queued again has had, as far as they count.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<Int<0, 1000>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_id: Option<Int<1, { i64::MAX }>>,
    /// How many seconds it waited for its first start.
    #[serde(skip_serializing_if = "Option::is_none")]
    waited: Option<f64>,
    /// How many seconds the attempt took.
    #[serde(skip_serializing_if = "Option::is_none")]
    ran: Option<f64>,
    /// When it is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    /// The status that it was in before a person changed it, but for pending and retrying, which a log does not tell apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<TaskStatus>,
    /// The new task that a replay has made of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    task_id: Option<String>,
    /// The failed task of which it is a replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_of: Option<String>,
    /// The trace that it belongs to (W3C Trace Context).
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
}

/// A part of a task's log, in the order in which it happened.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TaskLogs {
    task_id: String,
    logs: Vec<TaskLogLine>,
    /// How many lines the whole log has.
    total: Int<0, { i64::MAX }>,
}

/// How many tasks there are.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TaskStats {
    total: Int<0, { i64::MAX }>,
    by_status: TaskStatusCounts,
    /// By the priority as a decimal number; those that there are.
    by_priority: BTreeMap<String, Int<0, { i64::MAX }>>,
}

/// How many tasks stand where.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TaskStatusCounts {
    pending: Int<0, { i64::MAX }>,
    processing: Int<0, { i64::MAX }>,
    completed: Int<0, { i64::MAX }>,
    failed: Int<0, { i64::MAX }>,
    cancelled: Int<0, { i64::MAX }>,
    retrying: Int<0, { i64::MAX }>,
}

#[cfg(test)]
mod tests {
    use millrace_kit::parse;

    use super::*;

    fn parse(fields: &str) -> Result<String, String> {
        let body = format!(r#"{{"type":"t"{fields}}}"#);
        let task: Result<NewTask, _> = parse::object(body.as_bytes());
        match task {
            Ok(mut task) => {
                task.default_queue(Text::try_from("tasks".to_owned()).unwrap());
                serde_json::to_string(&task).map_err(|error| error.to_string())
            }
            Err(problem) => Err(problem.error().to_owned()),
        }
    }

    #[test]
    fn a_task_goes_on_as_it_came_into_the_queue_that_it_names() {
        assert_eq!(parse("").unwrap(), r#"{"type":"t","queue":"tasks"}"#);
        let fields = concat!(
            r#","payload":{"n":12345678901234567890},"priority":20,"queue":"mine","maxAttempts":3"#,
            r#","delaySeconds":0,"idempotencyKey":"k""#
        );
        assert_eq!(parse(fields), Ok(format!(r#"{{"type":"t"{fields}}}"#)));
        assert!(parse(r#","payload":null"#).unwrap().contains("null"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (fields, error) in [
            (r#","priority":21"#, "priority: "),
            (r#","priority":"5""#, "priority: "),
            (r#","priority":0"#, "priority: "),
            (r#","queue":"  ""#, "queue: must not be blank"),
            (r#","traceparent":"x""#, "traceparent: is not a known field"),
            (
                r#","runAt":"2030-01-01T00:00:00Z","delaySeconds":1"#,
                "the body: delaySeconds and",
            ),
        ] {
            let reason = parse(fields).unwrap_err();
            assert!(reason.starts_with(error), "{reason}");
        }
    }

    #[test]
    fn a_path_and_a_body_make_one_request() {
        let request: RetryTask = parse::object(br#"{"resetAttempts":true}"#).unwrap();
        let task_id = "7".to_owned();
        assert_eq!(
            serde_json::to_string(&OfTask { task_id, request }).unwrap(),
            r#"{"taskId":"7","resetAttempts":true}"#
        );
    }
}
