//! What a worker says of itself, and which workers one may ask for.

use millrace_kit::field::{Int, Text};
use serde::{Deserialize, Serialize};

/// A worker's sign of life.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Heartbeat {
    agent_id: Text<200>,
    executor_id: Text<200>,
    status: Text<50>,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<Count>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<Text<100>>,
}

/// A number of jobs, up to what Postgres' `int` holds.
type Count = Int<0, 2_147_483_647>;

/// Which active workers are asked for: those of one executor, or all.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    /// From the query string.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executor_id: Option<Text<200>>,
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
