//! `task.claim`: what a request for work may say, and its answer.

use millrace_kit::field::{Instant, Int, JobId, Text};
use millrace_kit::json::Json;
use millrace_kit::trace::Traceparent;
use serde::{Deserialize, Serialize};

/// A claim: who wants work, of which executor's, and of which types.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(try_from = "Draft")]
pub struct Claim(Draft);

/// The fields of a claim, of which two exclude each other.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Draft {
    /// The queue.
    executor_id: Text<200>,
    worker_id: Text<200>,
    /// How long the lease holds; what the job, else the queue says if it is absent (60).
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_seconds: Option<Int<15, 600>>,
    /// Only types that begin so; not together with `type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    type_prefix: Option<Text<200>>,
    /// Only this type; not together with `typePrefix`.
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<Text<200>>,
    /// How many jobs at most; with it the answer holds `jobs` instead of `job`.
    // Its presence decides the answer's shape, so it is never made up.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Int<1, 100>>,
}

impl TryFrom<Draft> for Claim {
    type Error = &'static str;

    fn try_from(draft: Draft) -> Result<Self, Self::Error> {
        match (&draft.r#type, &draft.type_prefix) {
            (Some(_), Some(_)) => Err("type and typePrefix exclude each other"),
            _ => Ok(Self(draft)),
        }
    }
}

/// The answer to a claim without a limit.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Claimed {
    /// Null if there is no work.
    job: Option<LeasedJob>,
}

/// The answer to a claim with a limit.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ClaimedMany {
    jobs: Vec<LeasedJob>,
}

/// A job and the lease that it is worked under.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LeasedJob {
    id: JobId,
    r#type: String,
    #[cfg_attr(feature = "schema", schemars(extend("const" = "running")))]
    status: String,
    executor_id: String,
    worker_id: String,
    priority: Int<-100, 100>,
    payload: Json,
    created_at: Instant,
    updated_at: Instant,
    /// The fencing token: later words about this attempt are checked against it.
    lease_id: Int<1, { i64::MAX }>,
    /// When the lease ends unless the job is reported before, by the database's clock.
    lease_expires_at: Instant,
    /// Which attempt this is, from 1.
    attempt: Int<1, 1000>,
    max_attempts: Int<1, 1000>,
    /// The trace that the job belongs to: what the worker calls in its turn should go on in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<Traceparent>,
}

#[cfg(test)]
mod tests {
    use millrace_kit::parse;

    use super::*;

    fn code(body: &str) -> Option<String> {
        let claim = parse::object::<Claim>(body.as_bytes());
        claim.err().map(|problem| problem.error().to_owned())
    }

    #[test]
    fn a_claim_goes_on_as_it_came() {
        let body = r#"{"executorId":"e","workerId":"w","leaseSeconds":60,"typePrefix":"browser."}"#;
        let claim: Claim = parse::object(body.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&claim).unwrap(), body);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (fields, error) in [
            ("", "workerId: is required"),
            (r#","workerId":" ""#, "workerId: must not be blank"),
            (
                r#","workerId":"w","type":"a","typePrefix":"b""#,
                "type and typePrefix exclude",
            ),
            (
                r#","workerId":"w","limit":101"#,
                "limit: invalid value: integer `101`, expected",
            ),
            (r#","workerId":"w","leaseSeconds":14"#, "leaseSeconds: "),
            (
                r#","workerId":"w","worker":"w""#,
                "worker: is not a known field",
            ),
        ] {
            let problem = code(&format!(r#"{{"executorId":"e"{fields}}}"#)).unwrap();
            assert!(problem.contains(error), "{problem}");
        }
    }
}
