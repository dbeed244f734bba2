//! `workers/heartbeat` and `workers/active`: what a worker says of itself, and who is there.

use millrace_kit::field::{Instant, Int, Text};
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
        match parse::object::<Heartbeat>(body.as_bytes()) {
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
    fn what_is_wrong_is_named() {
        let long = format!(r#","status":"{}""#, "x".repeat(51));
        for (fields, error) in [
            ("", "status: is required"),
            (&long, "status: has more than 50 characters"),
            (r#","status":"idle","running":-1"#, "running: "),
            (r#","status":"idle","capacity":2147483648"#, "capacity: "),
        ] {
            let reason = parse(fields).unwrap_err();
            assert!(reason.starts_with(error), "{reason}");
        }
    }
}
