//! What the face of tasks and jobs (`/api/tasks`, `/api/jobs`) has of its own: the body of its refusals, and the queue of tasks that name none.

use bytes::Bytes;
use serde::Serialize;

use crate::answer::{Answer, Problem, Reply, reply_in};
use crate::field::Text;
use crate::variable;

/// Makes the HTTP response of a function of this face: as [`crate::reply`], but a refusal's body is `{statusCode, message, error}`.
pub fn reply(outcome: Result<Answer, Problem>) -> Reply {
    reply_in(body, outcome)
}

/// The queue of tasks that name none: the variable `tasks_queue`.
///
/// # Errors
/// 500 `misconfigured` if it is no name of a queue.
pub async fn tasks_queue() -> Result<Text<200>, Problem> {
    let queue = variable::get("tasks_queue").await?;
    Text::try_from(queue).map_err(|_| {
        variable::wrong(
            "tasks_queue",
            "is not the name of a queue: 1 to 200 characters",
        )
    })
}

/// The sentence of a refusal, as this face says it.
pub fn message(problem: &Problem) -> String {
    match (problem.code(), problem.hint()) {
        // The contract's words.
        ("database_unavailable", _) => "Worker Service is unavailable".to_owned(),
        (_, Some(hint)) => format!("{}: {hint}", problem.error()),
        (_, None) => problem.error().to_owned(),
    }
}

fn body(problem: &Problem) -> Bytes {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Body<'a> {
        status_code: u16,
        message: &'a str,
        error: &'a str,
    }
    let body = Body {
        status_code: problem.status().as_u16(),
        message: &message(problem),
        error: problem.status().canonical_reason().unwrap_or("Error"),
    };
    serde_json::to_vec(&body).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use http::header::{CONTENT_TYPE, RETRY_AFTER};

    use super::*;

    #[test]
    fn a_refusal_has_a_status_a_sentence_and_the_name_of_the_status() {
        let problem = Problem::invalid("limit", "is too large");
        assert_eq!(
            body(&problem),
            r#"{"statusCode":400,"message":"limit: is too large","error":"Bad Request"}"#
        );
        let problem =
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "c", "not now").with_hint("wait");
        assert_eq!(
            body(&problem),
            r#"{"statusCode":503,"message":"not now: wait","error":"Service Unavailable"}"#
        );
    }

    #[test]
    fn a_database_that_is_gone_is_told_in_the_contracts_words() {
        let gone = Problem::unavailable("database_unavailable", "the database cannot be reached");
        assert_eq!(message(&gone), "Worker Service is unavailable");
        let response = reply(Err(gone));
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[RETRY_AFTER], "1");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
    }
}
