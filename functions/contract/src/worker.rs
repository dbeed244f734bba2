//! `workers/heartbeat` and `workers/active`: what a worker says of itself, and who is there.

use millrace_kit::Problem;
use millrace_kit::field::{Instant, Int, JobId, LeaseId, List, Text};
use serde::{Deserialize, Serialize};

/// A worker's sign of life.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Heartbeat {
    /// The worker.
    agent_id: Text<200>,
    /// The queue that it works for.
    executor_id: Text<200>,
    /// In its own words, such as `idle` or `busy`.
    status: Text<50>,
    /// How many jobs it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<Count>,
    /// How many jobs it could run.
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Text<100>>,
    /// The leases that it holds: each is extended, and the answer says which of them are lost, because their jobs were cancelled, for example.
    #[serde(skip_serializing_if = "Option::is_none")]
    leases: Option<List<LeaseName, 100, 0>>,
    /// When the leases end, in seconds from now; a lease that ends later keeps its end. Without it the length that the job, or else its queue, has.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_seconds: Option<Int<15, 600>>,
}

impl Heartbeat {
    /// Makes sure that a length of leases comes with leases.
    ///
    /// # Errors
    /// 400 `invalid_request`, naming `leaseSeconds`.
    pub fn is_consistent(&self) -> Result<(), Problem> {
        match (self.lease_seconds, &self.leases) {
            (Some(_), None) => Err(Problem::invalid("leaseSeconds", "goes with leases only")),
            _ => Ok(()),
        }
    }
}

/// A lease, as a claim's answer names it (`id` and `lease_id`).
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LeaseName {
    job_id: JobId,
    lease_id: LeaseId,
}

/// A number of jobs, up to what Postgres' `int` holds.
type Count = Int<0, 2_147_483_647>;

/// Which active workers are asked for: those of one executor, or all.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Selection {
    /// The queue that they work for.
    #[serde(skip_serializing_if = "Option::is_none")]
    executor_id: Option<Text<200>>,
}

/// The answer to a heartbeat.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Noted {
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    ok: bool,
    /// Where the heartbeat named leases: what became of each, in its order.
    #[serde(skip_serializing_if = "Option::is_none")]
    leases: Option<Vec<LeaseState>>,
}

/// What became of a lease.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum LeaseState {
    /// The worker has it, until the time that is told.
    Held {
        job_id: JobId,
        lease_id: LeaseId,
        #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
        held: bool,
        lease_expires_at: Instant,
    },
    /// It is lost, and a report about the job will be refused for the same reason: `cancelled`, `lease_expired`, `not_lease_owner`,
    /// `already_attempted`, `invalid_lease`, `job_not_found`. Or it was not extended and may not be lost, which the next heartbeat tells: `try_again`,
    /// somebody is at the job at this moment, perhaps to cancel it.
    Lost {
        job_id: JobId,
        lease_id: LeaseId,
        #[cfg_attr(feature = "schema", schemars(extend("const" = false)))]
        held: bool,
        code: String,
        message: String,
    },
}

/// The workers that were seen within the last 20 seconds, the latest first.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ActiveWorkers {
    items: Vec<ActiveWorker>,
    count: Count,
    /// The database's time.
    ts: Instant,
}

/// A worker as its last heartbeat described it.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ActiveWorker {
    agent_id: String,
    executor_id: String,
    status: String,
    running: Option<Count>,
    capacity: Option<Count>,
    version: Option<String>,
    last_seen_at: Instant,
}

#[cfg(test)]
mod tests {
    use millrace_kit::parse;

    use super::*;

    fn parse(fields: &str) -> Result<String, String> {
        let body = format!(r#"{{"agentId":"a","executorId":"e"{fields}}}"#);
        let heartbeat = parse::object::<Heartbeat>(body.as_bytes());
        match heartbeat.and_then(|heartbeat| heartbeat.is_consistent().map(|()| heartbeat)) {
            Ok(heartbeat) => serde_json::to_string(&heartbeat).map_err(|error| error.to_string()),
            Err(problem) => Err(problem.error().to_owned()),
        }
    }

    #[test]
    fn a_heartbeat_goes_on_as_it_came() {
        let fields = r#","status":"idle","running":0,"capacity":4,"version":"1.2""#;
        let expected = format!(r#"{{"agentId":"a","executorId":"e"{fields}}}"#);
        assert_eq!(parse(fields), Ok(expected));
        assert!(parse(r#","status":"idle""#).is_ok());
    }

    #[test]
    fn leases_go_on_with_numbers_and_a_length_of_none_does_not() {
        let lease =
            |id| format!(r#"{{"jobId":"00000000-0000-8000-8000-000000000001","leaseId":{id}}}"#);
        let told = format!(
            r#","status":"busy","leases":[{}],"leaseSeconds":15"#,
            lease(r#""7""#)
        );
        let goes_on = format!(r#""leases":[{}],"leaseSeconds":15}}"#, lease("7"));
        assert!(parse(&told).is_ok_and(|text| text.ends_with(&goes_on)));
        assert!(parse(r#","status":"idle","leases":[]"#).is_ok());
        let reason = parse(r#","status":"idle","leaseSeconds":15"#).unwrap_err();
        assert_eq!(reason, "leaseSeconds: goes with leases only");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = format!(r#","status":"{}""#, "x".repeat(51));
        for (fields, error) in [
            ("", "status: is required"),
            (&long, "status: has more than 50 characters"),
            (r#","status":"idle","running":-1"#, "running: "),
            (r#","status":"idle","capacity":2147483648"#, "capacity: "),
            (
                r#","status":"idle","leases":[],"leaseSeconds":14"#,
                "leaseSeconds: ",
            ),
            (
                r#","status":"idle","leases":[{"jobId":"1","leaseId":1}]"#,
                "leases[0].jobId: ",
            ),
        ] {
            let reason = parse(fields).unwrap_err();
            assert!(reason.starts_with(error), "{reason}");
        }
    }
}
