//! A job as its readers see it, with its history and its artifacts, and the lists of jobs.

use millrace_kit::field::{Instant, Int, JobId, Text};
use millrace_kit::json::Json;
use serde::{Deserialize, Serialize};

use crate::event::Event;

/// Where a job stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It waits: for a worker, for its time, for its retry, or for another job of its concurrency key.
    Queued,
    /// A worker holds its lease.
    Running,
    /// Done.
    Succeeded,
    /// Out of attempts, or failed for good: it has a dead letter.
    Failed,
    /// Withdrawn by a person.
    Cancelled,
}

/// A job without what it carries.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobHead {
    id: JobId,
    r#type: String,
    status: Status,
    /// The queue.
    executor_id: String,
    /// Who runs it, or whose attempt ended it; null while it is queued, or if nobody did.
    worker_id: Option<String>,
    priority: Int<-100, 100>,
    created_at: Instant,
    /// When it came into its present status.
    updated_at: Instant,
    /// How many attempts were made, a running one included.
    attempt: Int<0, 1000>,
    max_attempts: Int<1, 1000>,
    /// If it is queued: when it is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<Instant>,
    /// If it is running: when its lease ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_expires_at: Option<Instant>,
    /// If it is neither queued nor running: since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Instant>,
    /// Why its last attempt failed, if it waits for its retry or is dead.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    /// The dead job of which it is a replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    replay_of: Option<JobId>,
    /// The job that a replay of this one made.
    #[serde(skip_serializing_if = "Option::is_none")]
    replayed_as: Option<JobId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_key: Option<String>,
    /// The trace that it belongs to (W3C Trace Context).
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
}

/// A job.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Job {
    #[serde(flatten)]
    head: JobHead,
    payload: Json,
    /// What its worker said when it succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Json>,
}

/// A request about one job, whose id stands in the path.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfJob<T> {
    pub job_id: JobId,
    /// What the query string says.
    #[serde(flatten)]
    pub query: T,
}

/// The query string of a route that takes no parameters.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NoParameters {}

/// Which part of a job's events, or of its artifacts, is asked for.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// How many at most; 1,000 if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Int<1, 1000>>,
    /// The `nextCursor` of the part before.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<Text<20>>,
}

/// One job.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobDetail {
    job: Job,
}

/// One job, its first 1,000 artifacts, and its latest 1,000 events in their order.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct JobSummary {
    job: Job,
    artifacts: Vec<RecordedArtifact>,
    events: Vec<Event>,
}

/// A file that a report has described.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RecordedArtifact {
    id: Int<1, { i64::MAX }>,
    job_id: JobId,
    name: String,
    created_at: Instant,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// Where it lies in its bucket: what `sign-artifact` takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// In bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<Int<0, { i64::MAX }>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

/// Events of a job, in the order in which they happened.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct JobEvents {
    items: Vec<Event>,
    count: Int<0, 1000>,
    /// What `cursor` goes on from; null if there are no more.
    next_cursor: Option<String>,
}

/// Artifacts of a job, in the order in which they were recorded.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct JobArtifacts {
    items: Vec<RecordedArtifact>,
    count: Int<0, 1000>,
    /// What `cursor` goes on from; null if there are no more.
    next_cursor: Option<String>,
}

/// Which of the newest jobs are asked for.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Recent {
    /// How many at most; 20 if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Int<1, 100>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    /// Only this queue's.
    #[serde(skip_serializing_if = "Option::is_none")]
    executor_id: Option<Text<200>>,
    /// Only of this type.
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<Text<200>>,
    /// The `nextCursor` of the page before; or a time with an offset, for the jobs created before it. Close to such a time a
    /// job may be missing, or stand on the next page, if it was created while others were.
    // Its digits are a key, so it goes on as it came; the database checks it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<Text<64>>,
}

/// A page of jobs, newest first.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RecentJobs {
    /// Fewer than asked for, perhaps none, where these are very large, or where 10,000 entries were looked at without finding more.
    items: Vec<Job>,
    count: Int<0, 100>,
    /// What `cursor` goes on from; null only at the end.
    next_cursor: Option<Instant>,
}

#[cfg(test)]
mod tests {
    use millrace_kit::parse;

    use super::*;

    #[test]
    fn a_cursor_keeps_its_digits() {
        let cursor = "2030-01-31T09:30:00.1234560000000000000000123Z";
        let recent: Recent =
            parse::query(Some(&format!("status=failed&cursor={cursor}&limit=7"))).unwrap();
        assert_eq!(
            serde_json::to_string(&recent).unwrap(),
            format!(r#"{{"limit":7,"status":"failed","cursor":"{cursor}"}}"#)
        );
    }

    #[test]
    fn a_path_and_a_query_make_one_request() {
        let job_id = JobId::try_from("00000000-0000-8000-8000-000000000001".to_owned()).unwrap();
        let query: Part = parse::query(Some("limit=2&cursor=9")).unwrap();
        assert_eq!(
            serde_json::to_string(&OfJob { job_id, query }).unwrap(),
            r#"{"jobId":"00000000-0000-8000-8000-000000000001","limit":2,"cursor":"9"}"#
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, error) in [
            ("status=dead", "status: unknown variant `dead`"),
            ("limit=101", "limit: invalid value: integer `101`"),
            ("executorId=", "executorId: must not be blank"),
            ("executor=a", "executor: is not a known parameter"),
        ] {
            let problem = parse::query::<Recent>(Some(text)).unwrap_err();
            assert!(problem.error().starts_with(error), "{}", problem.error());
        }
        assert!(parse::query::<NoParameters>(Some("a=1")).is_err());
    }
}
