//! What a request for work may say.

use millrace_kit::field::{Int, Text};
use serde::{Deserialize, Serialize};

/// A claim: who wants work, of which executor's, and of which types.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "Draft")]
pub struct Claim(Draft);

/// The fields of a claim, of which two exclude each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Draft {
    executor_id: Text<200>,
    worker_id: Text<200>,
    /// How long the lease holds; the database knows the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease_seconds: Option<Int<15, 600>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    type_prefix: Option<Text<200>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<Text<200>>,
    /// Its presence also decides the answer's shape, so it is never made up.
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
