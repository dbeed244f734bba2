//! `task.result`: what a report on a job may say, and its answer.

use std::collections::HashSet;

use millrace_kit::Problem;
use millrace_kit::field::{Int, JobId, LeaseId, List, Object, Text};
use millrace_kit::json::{self, Json};
use serde::{Deserialize, Deserializer, Serialize};

use crate::artifact::Artifact;

/// Several reports in one statement; each counts, or is refused, by itself.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Outcomes {
    results: List<Outcome, 100>,
}

impl Outcomes {
    /// Makes sure that no job is reported twice: nobody could say which word counts.
    ///
    /// # Errors
    /// 400 `invalid_request`, naming the second report.
    pub fn are_distinct(&self) -> Result<(), Problem> {
        let mut seen = HashSet::new();
        match self
            .results
            .items()
            .iter()
            .position(|outcome| !seen.insert(outcome.job_id))
        {
            Some(index) => {
                let field = format!("results[{index}].jobId");
                Err(Problem::invalid(&field, "is reported twice"))
            }
            None => Ok(()),
        }
    }
}

/// How one attempt ended.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Outcome {
    job_id: JobId,
    /// Must be the job's own.
    r#type: Text<200>,
    /// Whether the job succeeded.
    ok: bool,
    /// Why it failed. May be empty: an exception without a message is no reason to lose the report.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Text<10_000, true>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<Text<200>>,
    /// Kept with the job that succeeded.
    #[serde(default, deserialize_with = "json::present")]
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Json>,
    #[serde(default, deserialize_with = "one_artifact")]
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact: Option<Artifact>,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifacts: Option<List<Artifact, 100, 0>>,
    /// Must be the lease's, if it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_id: Option<Text<200>>,
    /// Must be the current lease's, if it is given.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_id: Option<LeaseId>,
    /// How long to wait before the next attempt, instead of what the queue says; at most a year.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_seconds: Option<Int<0, 31_536_000>>,
    /// Never try it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    permanent: Option<bool>,
}

fn one_artifact<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Artifact>, D::Error> {
    let artifact = Option::<Object<Artifact>>::deserialize(from)?;
    Ok(artifact.map(|Object(artifact)| artifact))
}

/// The answer to one report.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reported {
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    ok: bool,
}

/// The answer to several reports, in the order of the request.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ReportedMany {
    #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
    ok: bool,
    results: Vec<ReportedOne>,
}

/// What came of one report of several: it counted, or it was refused and why.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum ReportedOne {
    /// It counted.
    Counted {
        #[serde(rename = "jobId")]
        job_id: JobId,
        #[cfg_attr(feature = "schema", schemars(extend("const" = true)))]
        ok: bool,
    },
    /// It was refused, for the reason that a report of its own would be refused for.
    Refused {
        #[serde(rename = "jobId")]
        job_id: JobId,
        #[cfg_attr(feature = "schema", schemars(extend("const" = false)))]
        ok: bool,
        code: String,
        error: String,
    },
}

#[cfg(test)]
mod tests {
    use millrace_kit::parse;

    use super::*;

    const ID: &str = "00000000-0000-8000-8000-00000000000";

    fn parse(fields: &str) -> Result<String, String> {
        let body = format!(r#"{{"jobId":"{ID}1","type":"t","ok":false{fields}}}"#);
        match parse::object::<Outcome>(body.as_bytes()) {
            Ok(outcome) => serde_json::to_string(&outcome).map_err(|error| error.to_string()),
            Err(problem) => Err(problem.error().to_owned()),
        }
    }

    #[test]
    fn an_outcome_goes_on_as_it_came() {
        let fields = concat!(
            r#","error":"","errorCode":"c","result":null,"artifact":{"name":"a","size":0}"#,
            r#","artifacts":[],"workerId":"w","leaseId":7,"retryAfterSeconds":5,"permanent":true"#
        );
        let expected = format!(r#"{{"jobId":"{ID}1","type":"t","ok":false{fields}}}"#);
        assert_eq!(parse(fields), Ok(expected));
        assert!(parse(r#","leaseId":"7""#).is_ok_and(|text| text.ends_with(r#""leaseId":7}"#)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = format!(r#","error":"{}""#, "x".repeat(10_001));
        for (fields, error) in [
            (r#","ok":true"#, "ok: is given twice"),
            (r#","permanent":"yes""#, "permanent: "),
            (r#","artifact":["name"]"#, "artifact: "),
            (
                r#","artifact":{"name":"a","path":"/etc"}"#,
                "artifact.path: ",
            ),
            (
                r#","artifacts":[{"name":"a"},{"name":"b","size":-1}]"#,
                "artifacts[1].size: ",
            ),
            (r#","leaseId":"0x7""#, "leaseId: "),
            (r#","retryAfterSeconds":31536001"#, "retryAfterSeconds: "),
            (r#","result":"\u0000""#, "result: holds the NUL"),
            (&long, "error: has more than 10000 characters"),
        ] {
            let reason = parse(fields).unwrap_err();
            assert!(reason.starts_with(error), "{reason}");
        }
    }

    #[test]
    fn a_job_is_reported_once() {
        let outcomes = |last: [u8; 2]| {
            let outcomes = last.map(|n| format!(r#"{{"jobId":"{ID}{n}","type":"t","ok":true}}"#));
            let body = format!(r#"{{"results":[{}]}}"#, outcomes.join(","));
            parse::object::<Outcomes>(body.as_bytes())
                .unwrap()
                .are_distinct()
        };
        assert!(outcomes([1, 2]).is_ok());
        assert_eq!(
            outcomes([1, 1]).unwrap_err().details(),
            Some("results[1].jobId")
        );
    }
}
