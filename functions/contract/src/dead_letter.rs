//! `dlq-list` and `dlq-retry`: the jobs that will not be tried again, and trying them again.

use millrace_kit::field::{Instant, Int, JobId, LeaseId, Text};
use millrace_kit::json::{self, Json};
use serde::{Deserialize, Serialize};

/// Which dead letters are asked for.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Listing {
    /// How many at most; 20 if it is absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Int<1, 100>>,
    /// The `nextCursor` of the page before.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<Text<20>>,
    /// Only this queue's.
    #[serde(skip_serializing_if = "Option::is_none")]
    executor_id: Option<Text<200>>,
    /// Only of this type.
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<Text<200>>,
    /// Only with this error code of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Text<200>>,
    /// Only those that died then or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Instant>,
    /// Only those that died before.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Instant>,
    /// `true`: only those that were retried. `false`: only those that were not.
    #[serde(skip_serializing_if = "Option::is_none")]
    retried: Option<bool>,
}

/// A page of dead letters, newest first.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DeadLetters {
    /// Fewer than asked for, perhaps none, where these are very large, or where 10,000 entries were looked at without finding more.
    items: Vec<DeadLetter>,
    count: Int<0, 100>,
    /// What `cursor` goes on from; null only at the end.
    next_cursor: Option<String>,
    /// The database's time.
    ts: Instant,
}

/// A job that will not be tried again.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DeadLetter {
    /// What `dlq-retry` takes as `dlqId`.
    id: Int<1, { i64::MAX }>,
    job_id: JobId,
    /// The queue.
    executor_id: String,
    r#type: String,
    /// The error code of the last attempt.
    reason: String,
    error: Option<String>,
    payload: Json,
    /// When it died.
    created_at: Instant,
    /// How many attempts were made.
    retries: Int<0, 1000>,
    /// When `dlq-retry` made a new job of it.
    retried_at: Option<Instant>,
    /// That job.
    retried_job_id: Option<JobId>,
}

/// One dead letter to retry, or explicitly all of those that fit. That one excludes the other is the database's to say.
///
/// No field may be `null`: a filter that a client meant to set and did not would else fit every dead letter.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(transform = without_null))]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Retry {
    /// Retries this one; nothing else may be given with it.
    // A lease's id is written the same way: a number, or its digits for clients whose numbers end at 2^53.
    #[serde(default, deserialize_with = "json::not_null")]
    #[serde(skip_serializing_if = "Option::is_none")]
    dlq_id: Option<LeaseId>,
    /// Must be `true` to retry many: the oldest of those that were not retried yet.
    #[serde(default, deserialize_with = "json::not_null")]
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
    /// Only this queue's.
    #[serde(default, deserialize_with = "json::not_null")]
    #[serde(skip_serializing_if = "Option::is_none")]
    executor_id: Option<Text<200>>,
    /// Only of this type.
    #[serde(default, deserialize_with = "json::not_null")]
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<Text<200>>,
    /// Only with this error code of the last attempt.
    #[serde(default, deserialize_with = "json::not_null")]
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Text<200>>,
    /// Only those that died then or later.
    #[serde(default, deserialize_with = "json::not_null")]
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Instant>,
    /// Only those that died before.
    #[serde(default, deserialize_with = "json::not_null")]
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<Instant>,
    /// The `nextCursor` of the batch before.
    #[serde(default, deserialize_with = "json::not_null")]
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<Text<20>>,
    /// How many at most; 100 if it is absent.
    #[serde(default, deserialize_with = "json::not_null")]
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Int<1, 1000>>,
}

/// Takes the null out of what the properties may be: schemars adds it to every `Option`.
#[cfg(feature = "schema")]
fn without_null(schema: &mut schemars::Schema) {
    use serde_json::{Value, json};

    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    let properties = properties.into_iter().flat_map(|all| all.values_mut());
    for property in properties.filter_map(Value::as_object_mut) {
        if let Some(types) = property.get_mut("type").and_then(Value::as_array_mut) {
            types.retain(|one| *one != json!("null"));
        }
        // A type that is a choice itself stands in a choice between it and null.
        if let Some(Value::Array(choices)) = property.remove("anyOf") {
            let own = choices.into_iter().filter_map(|choice| match choice {
                Value::Object(choice) if choice.get("type") != Some(&json!("null")) => Some(choice),
                _ => None,
            });
            property.extend(own.flatten());
        }
    }
}

/// The answer to the retry of one dead letter.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Retried {
    /// The new job.
    job_id: JobId,
}

/// The answer to the retry of many.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RetriedMany {
    retried: Int<0, 1000>,
    /// In the order in which they died.
    jobs: Vec<RetriedOne>,
    /// Whether there may be more: a batch ends at `limit`, at 8 MiB of payloads, or where 10,000 entries were looked at.
    more: bool,
    /// What `cursor` goes on from, if there may be more.
    next_cursor: Option<String>,
}

/// A dead letter and the job that was made of it.
#[derive(Debug, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RetriedOne {
    dlq_id: Int<1, { i64::MAX }>,
    job_id: JobId,
}

#[cfg(test)]
mod tests {
    use millrace_kit::parse;

    use super::*;

    #[test]
    fn a_retry_goes_on_as_it_came() {
        for (body, expected) in [
            (r#"{"dlqId":7}"#, r#"{"dlqId":7}"#),
            (r#"{"dlqId":"7"}"#, r#"{"dlqId":7}"#),
            (
                r#"{"all":true,"type":"t","limit":1000,"from":"2030-01-01T00:00:00Z"}"#,
                r#"{"all":true,"type":"t","from":"2030-01-01T00:00:00.000000Z","limit":1000}"#,
            ),
        ] {
            let retry: Retry = parse::object(body.as_bytes()).unwrap();
            assert_eq!(serde_json::to_string(&retry).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, error) in [
            (r#"{"dlqId":0}"#, "dlqId: "),
            (r#"{"dlqId":"x"}"#, "dlqId: "),
            (r#"{"all":"true"}"#, "all: "),
            (r#"{"all":true,"executorId":null}"#, "executorId: "),
            (r#"{"all":true,"limit":1001}"#, "limit: "),
            (r#"{"dlqid":1}"#, "dlqid: is not a known field"),
        ] {
            let problem = parse::object::<Retry>(body.as_bytes()).unwrap_err();
            assert!(problem.error().starts_with(error), "{}", problem.error());
        }
        for (text, error) in [
            ("limit=0", "limit: "),
            ("retried=1", "retried: is neither true nor false"),
            ("from=yesterday", "from: is not a time"),
        ] {
            let problem = parse::query::<Listing>(Some(text)).unwrap_err();
            assert!(problem.error().starts_with(error), "{}", problem.error());
        }
    }
}
