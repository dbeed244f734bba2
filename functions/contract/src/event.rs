//! A transition of a job, as its readers see it, and what a stream of them is asked for.

use millrace_kit::Problem;
use millrace_kit::field::{Instant, Int, JobId, Text};
use millrace_kit::json::Json;
use serde::{Deserialize, Serialize};

/// One transition: the events of a job in the order of their ids tell its whole life.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    id: Int<1, { i64::MAX }>,
    job_id: JobId,
    event_type: EventType,
    created_at: Instant,
    /// An object; what stands in it depends on the type.
    payload: Json,
}

/// What happened.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// It was enqueued.
    Queued,
    /// A worker claimed it.
    Started,
    Succeeded,
    /// An attempt failed, or its lease ran out, and there will be another one.
    RetryScheduled,
    /// An attempt failed, or its lease ran out, and there will be no other one.
    DeadLettered,
    Cancelled,
    /// Followed by what comes of it.
    LeaseExpired,
    /// A person had it queued again, or made a new job of its dead letter.
    Replayed,
    /// Its worker gave it back untried, for later; the attempt does not count.
    Postponed,
}

/// Which events a stream is to bring. One of `jobId` and `executorId` is given, not both.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct EventStream {
    /// Those of this job, from its first one on.
    job_id: Option<JobId>,
    /// Those of this queue's jobs, from now on.
    executor_id: Option<Text<200>>,
    /// With `jobId`: the last event is `end`, once the job has succeeded, failed or been cancelled.
    until: Option<Until>,
    /// The id after which to go on, for clients that can't send the header `Last-Event-ID`, which goes first.
    last_event_id: Option<Place>,
}

/// When a stream is over.
#[derive(Debug, Clone, Copy, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// When the job is.
    End,
}

/// The id of an event in a stream. It says what was read so far, and grows with the transactions that were open then.
pub type Place = Text<32768>;

/// Whose events are followed, and to where.
#[derive(Debug, Serialize)]
pub enum Source {
    /// A job's.
    #[serde(rename = "jobId")]
    Job(JobId),
    /// A queue's.
    #[serde(rename = "executorId")]
    Queue(Text<200>),
}

impl EventStream {
    /// Whose events are wanted, whether the stream ends with the job, and the place after which to go on.
    ///
    /// # Errors
    /// 400 `invalid_request` for both a job and a queue, for neither, and for the end of a queue.
    pub fn checked(self) -> Result<(Source, bool, Option<Place>), Problem> {
        let source = match (self.job_id, self.executor_id) {
            (Some(job), None) => Source::Job(job),
            (None, Some(_)) if self.until.is_some() => {
                return Err(Problem::invalid(
                    "until",
                    "needs a jobId: a queue does not end",
                ));
            }
            (None, Some(queue)) => Source::Queue(queue),
            (None, None) => {
                return Err(Problem::invalid("jobId", "is required, or executorId"));
            }
            (Some(_), Some(_)) => {
                return Err(Problem::invalid("executorId", "can't be given with jobId"));
            }
        };
        Ok((source, self.until.is_some(), self.last_event_id))
    }
}

#[cfg(test)]
mod tests {
    use millrace_kit::parse;

    use super::*;

    const JOB: &str = "jobId=00000000-0000-8000-8000-000000000001";

    fn checked(query: &str) -> Result<(Source, bool, Option<Place>), Problem> {
        parse::query::<EventStream>(Some(query)).and_then(EventStream::checked)
    }

    #[test]
    fn a_stream_is_of_a_job_or_of_a_queue() {
        let (source, until_end, place) =
            checked(&format!("{JOB}&until=end&lastEventId=7")).unwrap();
        let job = r#"{"jobId":"00000000-0000-8000-8000-000000000001"}"#;
        assert_eq!(serde_json::to_string(&source).unwrap(), job);
        assert!(until_end && place.unwrap().as_str() == "7");
        let (source, until_end, place) = checked("executorId=a").unwrap();
        assert_eq!(
            serde_json::to_string(&source).unwrap(),
            r#"{"executorId":"a"}"#
        );
        assert!(!until_end && place.is_none());
    }

    #[test]
    fn what_a_stream_cannot_be_is_named() {
        for (query, field) in [
            (String::new(), "jobId"),
            ("until=end".to_owned(), "jobId"),
            (format!("{JOB}&executorId=a"), "executorId"),
            ("executorId=a&until=end".to_owned(), "until"),
            (format!("{JOB}&until=done"), "until"),
            ("jobId=7".to_owned(), "jobId"),
            (format!("{JOB}&lastEventId="), "lastEventId"),
            (format!("{JOB}&after=7"), "after"),
        ] {
            let problem = checked(&query).unwrap_err();
            assert_eq!(
                problem.details(),
                Some(field),
                "{query}: {}",
                problem.error()
            );
        }
    }
}
