//! `task.assign`: what a request to enqueue may say, and its answer.

use millrace_kit::field::{Instant, Int, JobId, List, Text};
use millrace_kit::json::{self, Json};
use millrace_kit::trace::Traceparent;
use serde::{Deserialize, Serialize};

/// Several jobs in one statement: all of them are enqueued, or none.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Tasks {
    tasks: List<Task, 100>,
}

/// One job to be.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "Draft")]
pub struct Task(Draft);

/// The fields of a job to be, of which two exclude each other.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Draft {
    /// What kind of work it is, such as `email` or `browser.run`.
    r#type: Text<200>,
    /// The queue: which workers take it.
    executor_id: Text<200>,
    /// Handed to the worker as it is; `{}` if it is absent.
    #[serde(default, deserialize_with = "json::present")]
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Json>,
    /// The same key again in the same queue answers with the first job, for as long as that is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<Text<200>>,
    /// Greater goes first; 5 if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Int<-100, 100>>,
    /// How long the job waits before it is due, at most ten years; not together with `runAt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_seconds: Option<Int<0, 315_360_000>>,
    /// When the job is due; not together with `delaySeconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<Instant>,
    /// At most one job of a key runs at a time, or as many as the queue says.
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency_key: Option<Text<200>>,
    /// The key whose rate limit its starts count against, where the queue has limits for keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_key: Option<Text<200>>,
    /// How often it is tried; what the queue says if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<Int<1, 1000>>,
    /// The trace that the job belongs to (W3C Trace Context); the request's own header `traceparent` if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<Traceparent>,
}

impl Tasks {
    /// Puts each job that names no trace of its own into this one.
    pub fn join(&mut self, trace: &Traceparent) {
        for task in self.tasks.items_mut() {
            task.join(trace);
        }
    }
}

impl Task {
    /// Puts the job into this trace unless it names one of its own.
    pub fn join(&mut self, trace: &Traceparent) {
        self.0.traceparent.get_or_insert_with(|| trace.clone());
    }
}

impl TryFrom<Draft> for Task {
    type Error = &'static str;

    fn try_from(draft: Draft) -> Result<Self, Self::Error> {
        match (&draft.delay_seconds, &draft.run_at) {
            (Some(_), Some(_)) => Err("delaySeconds and runAt exclude each other"),
            _ => Ok(Self(draft)),
        }
    }
}

/// The answer for one job.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Assigned {
    job_id: JobId,
    /// False if the idempotency key named a job that was there already.
    queued: bool,
}

/// The answer for several jobs, in the order of the request.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AssignedMany {
    tasks: Vec<Assigned>,
}

#[cfg(test)]
mod tests {
    use millrace_kit::parse::{self, OneOrMany};

    use super::*;

    fn parse(fields: &str) -> Result<String, String> {
        let body = format!(r#"{{"type":"t","executorId":"e"{fields}}}"#);
        match parse::object::<Task>(body.as_bytes()) {
            Ok(task) => serde_json::to_string(&task).map_err(|error| error.to_string()),
            Err(problem) => Err(problem.error().to_owned()),
        }
    }

    #[test]
    fn a_task_goes_on_as_it_came() {
        let fields = concat!(
            r#","payload":{"n":12345678901234567890,"d":1.10},"idempotencyKey":"k","priority":-100"#,
            r#","delaySeconds":0,"concurrencyKey":"c","limitKey":"l","maxAttempts":1000"#
        );
        let expected = format!(r#"{{"type":"t","executorId":"e"{fields}}}"#);
        assert_eq!(parse(fields), Ok(expected));
        assert!(parse(r#","payload":null"#).is_ok_and(|text| text.contains("null")));
        assert!(parse(r#","runAt":"2030-01-01T00:00:00Z","delaySeconds":null"#).is_ok());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (fields, error) in [
            (r#","priority":101"#, "priority: "),
            (r#","delaySeconds":-1"#, "delaySeconds: "),
            (r#","maxAttempts":0"#, "maxAttempts: "),
            (r#","runAt":"tomorrow""#, "runAt: is not a time"),
            (
                r#","idempotencyKey":"""#,
                "idempotencyKey: must not be blank",
            ),
            (
                r#","runAt":"2030-01-01T00:00:00Z","delaySeconds":1"#,
                "the body: delaySeconds and",
            ),
            (r#","payloads":{}"#, "payloads: is not a known field"),
            (
                r#","traceparent":"00-0-0-0""#,
                "traceparent: is not a traceparent",
            ),
        ] {
            let reason = parse(fields).unwrap_err();
            assert!(reason.starts_with(error), "{reason}");
        }
    }

    #[test]
    fn up_to_100_tasks_come_at_once() {
        let tasks = |count| {
            let tasks = vec![r#"{"type":"t","executorId":"e"}"#; count].join(",");
            let body = format!(r#"{{"tasks":[{tasks}]}}"#);
            parse::one_or_many::<Task, Tasks>(body.as_bytes(), "tasks")
        };
        assert!(matches!(tasks(100), Ok(OneOrMany::Many(_))));
        assert_eq!(tasks(101).err().unwrap().details(), Some("tasks"));
        assert_eq!(tasks(0).err().unwrap().details(), Some("tasks"));
    }
}
