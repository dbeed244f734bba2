//! Jobs, as `/api/jobs` speaks of the queue's schedules: what its requests may say, and what its answers hold.

use millrace_kit::field::{Instant, Int, Text};
use millrace_kit::json::{self, Json};
use serde::{Deserialize, Serialize};

use crate::gateway_task::MAX_OFFSET;

/// How a job stands.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum GatewayJobStatus {
    /// It makes tasks when they are due.
    Active,
    /// It makes none.
    Paused,
    /// Its last due time made no task though it should have; its next one may.
    Failed,
}

/// A job to be.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NewJob {
    /// No other job has it.
    name: Text<200>,
    /// What kind of work its tasks are.
    r#type: Text<200>,
    /// A cron expression: minute, hour, day, month and weekday, with the second before them if there are six.
    schedule: Text<500>,
    /// Of each of its tasks; `{}` if it is absent or null.
    #[serde(default, deserialize_with = "json::present")]
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Json>,
    /// Which workers take its tasks; the variable `tasks_queue` if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Text<200>>,
    /// Where the schedule's hours are those of the clocks, such as `Europe/Berlin`; `UTC` if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<Text<100>>,
    /// Of each of its tasks; 5 if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Int<1, 20>>,
    /// Of each of its tasks; what the queue says if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<Int<1, 1000>>,
}

impl NewJob {
    /// Puts the job's tasks into this queue unless it names one of its own.
    pub fn default_queue(&mut self, queue: Text<200>) {
        self.queue.get_or_insert(queue);
    }
}

/// A request about one job, whose id stands in the path. An id that is none names no job, which is for the database to say.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfSchedule {
    pub job_id: String,
}

/// Which jobs are asked for.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct JobPart {
    /// How many at most; all of them if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Int<1, 1000>>,
    /// How many of the newest to pass over; 0 if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<Int<0, MAX_OFFSET>>,
}

/// A job: it makes tasks at the due times of a cron expression.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct GatewayJob {
    /// A decimal number.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[1-9][0-9]{0,18}$")))]
    id: String,
    name: String,
    r#type: String,
    /// The cron expression.
    schedule: String,
    payload: Json,
    status: GatewayJobStatus,
    queue: String,
    time_zone: String,
    created_at: Instant,
    updated_at: Instant,
    /// When it last made a task.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_run: Option<Instant>,
    /// When it makes the next one; null while it is paused, or where none is due any more.
    next_run: Option<Instant>,
}

/// What became of a job that was deleted.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeletedJob {
    message: String,
}

#[cfg(test)]
mod tests {
    use millrace_kit::parse;

    use super::*;

    #[test]
    fn what_is_wrong_is_named() {
        for (fields, error) in [
            ("", "schedule: is required"),
            (r#","schedule":5"#, "schedule: "),
            (
                r#","schedule":"* * * * *","cron":"""#,
                "cron: is not a known field",
            ),
            (r#","schedule":"* * * * *","priority":0"#, "priority: "),
        ] {
            let body = format!(r#"{{"name":"n","type":"t"{fields}}}"#);
            let problem = parse::object::<NewJob>(body.as_bytes()).unwrap_err();
            assert!(problem.error().starts_with(error), "{}", problem.error());
        }
    }

    #[test]
    fn a_job_goes_into_the_queue_that_it_names() {
        let queue = || Text::try_from("tasks".to_owned()).unwrap();
        for (own, expected) in [("", "tasks"), (r#","queue":"mine""#, "mine")] {
            let body = format!(r#"{{"name":"n","type":"t","schedule":"* * * * *"{own}}}"#);
            let mut job: NewJob = parse::object(body.as_bytes()).unwrap();
            job.default_queue(queue());
            let text = serde_json::to_string(&job).unwrap();
            assert!(text.contains(&format!(r#""queue":"{expected}""#)), "{text}");
        }
    }
}
