//! What a request to enqueue may say.

use millrace_kit::field::{Instant, Int, List, Text};
use millrace_kit::json::{self, Json};
use serde::{Deserialize, Serialize};

/// Several jobs in one statement: all of them are enqueued, or none.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tasks {
    tasks: List<Task, 100>,
}

/// One job to be.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "Draft")]
pub struct Task(Draft);

/// The fields of a job to be, of which two exclude each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Draft {
    r#type: Text<200>,
    executor_id: Text<200>,
    #[serde(default, deserialize_with = "json::present")]
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    idempotency_key: Option<Text<200>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<Int<-100, 100>>,
    /// At most ten years.
    #[serde(skip_serializing_if = "Option::is_none")]
    delay_seconds: Option<Int<0, 315_360_000>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency_key: Option<Text<200>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<Int<1, 1000>>,
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
            r#","delaySeconds":0,"concurrencyKey":"c","maxAttempts":1000"#
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
