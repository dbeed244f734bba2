//! Parsing as a client meets it: the right code, the field named, and never a panic.

use millrace_kit::Problem;
use millrace_kit::field::{Instant, Int, JobId, LeaseId, List, Text};
use millrace_kit::json::{self, Json};
use millrace_kit::parse::{self, OneOrMany};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Job {
    job_id: JobId,
    name: Text<10>,
    lease_id: Option<LeaseId>,
    size: Option<Int<0, 9>>,
    #[serde(default, deserialize_with = "json::present")]
    payload: Option<Json>,
    children: Option<List<Child, 2>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Child {
    name: Text<10>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jobs {
    jobs: List<Job, 3>,
}

const ID: &str = r#""jobId":"00000000-0000-8000-8000-000000000001""#;

fn refused(body: &str) -> Problem {
    let parsed = parse::one_or_many::<Job, Jobs>(body.as_bytes(), "jobs");
    parsed.expect_err(body)
}

#[test]
fn the_field_at_fault_is_named() {
    for (body, field, reason) in [
        (format!("{{{ID}}}"), "name", "is required"),
        (
            format!(r#"{{{ID},"name":7}}"#),
            "name",
            "invalid type: integer `7`, expected a string",
        ),
        (
            format!(r#"{{{ID},"name":null}}"#),
            "name",
            "invalid type: null, expected a string",
        ),
        (
            format!(r#"{{{ID},"name":"a","name":"b"}}"#),
            "name",
            "is given twice",
        ),
        (
            format!(r#"{{{ID},"name":"a","nome":"b"}}"#),
            "nome",
            "is not a known field, expected one of",
        ),
        (
            format!(r#"{{{ID},"name":"a","size":10}}"#),
            "size",
            "invalid value: integer `10`, expected an integer from 0 to 9",
        ),
        (
            format!(r#"{{{ID},"name":"a","payload":{{"x":["\u0000"]}}}}"#),
            "payload",
            "holds the NUL character",
        ),
        (
            format!(r#"{{{ID},"name":"a","children":[{{"name":"b"}},{{}}]}}"#),
            "children[1].name",
            "is required",
        ),
        (
            format!(r#"{{{ID},"name":"a","children":[["b"]]}}"#),
            "children[0]",
            "invalid type: sequence, expected an object",
        ),
        (
            format!(r#"{{{ID},"name":"a","children":[]}}"#),
            "children",
            "has fewer than 1 items",
        ),
        (
            format!(r#"{{"jobs":[{{{ID},"name":"a"}},{{{ID},"name":"b","x":1}}]}}"#),
            "jobs[1].x",
            "is not a known field",
        ),
        (
            r#"{"jobs":[{"jobId":"7","name":"a"}]}"#.to_owned(),
            "jobs[0].jobId",
            "is not a UUID",
        ),
        (
            format!(r#"{{"jobs":[],{ID}}}"#),
            "jobs",
            "has fewer than 1 items",
        ),
        (
            format!(r#"{{"jobs":[{{{ID},"name":"a"}}],{ID}}}"#),
            "jobId",
            "is not a known field",
        ),
    ] {
        let problem = refused(&body);
        assert_eq!(problem.code(), "invalid_request", "{body}");
        assert_eq!(
            problem.details(),
            Some(field),
            "{body}: {}",
            problem.error()
        );
        let expected = format!("{field}: {reason}");
        assert!(
            problem.error().starts_with(&expected),
            "{body}: {}",
            problem.error()
        );
    }
}

#[test]
fn what_is_not_an_object_is_refused_as_a_whole() {
    for body in [
        "[]",
        "7",
        "null",
        r#"["00000000-0000-8000-8000-000000000001","a"]"#,
    ] {
        let problem = refused(body);
        assert_eq!(problem.code(), "invalid_request");
        assert!(
            problem.error().starts_with("the body: invalid type"),
            "{}",
            problem.error()
        );
        assert_eq!(problem.details(), None);
    }
}

#[test]
fn broken_json_is_told_from_a_wrong_request() {
    for body in [
        "",
        "{",
        "{\"name\":}",
        "{} {}",
        "nul",
        "{'a':1}",
        "{\"name\":\"\\ud800\"}",
    ] {
        let problem = parse::object::<Job>(body.as_bytes()).expect_err(body);
        let expected = if body == "{} {}" {
            "invalid_request"
        } else {
            "invalid_json"
        };
        assert_eq!(problem.code(), expected, "{body}: {}", problem.error());
    }
    let problem = parse::object::<Job>(b"{\"name\":\"\xff\"}").unwrap_err();
    assert_eq!(problem.code(), "invalid_json");
    let body = format!(r#"{{{ID},"name":"a"}} x"#);
    assert_eq!(refused(&body).code(), "invalid_json");
}

#[test]
fn what_a_client_sent_is_quoted_only_in_part() {
    let long = "x".repeat(500_000);
    for body in [
        format!(r#"{{"{long}":1}}"#),
        format!(r#"{{"size":"{long}"}}"#),
        format!(r#"{{"jobId":"{long}"}}"#),
    ] {
        assert!(refused(&body).error().len() < 2_000);
    }
}

#[test]
fn deep_nesting_is_refused_wherever_it_is() {
    for open in ["[", "{\"a\":"] {
        let deep = open.repeat(100_000);
        for body in [
            deep.clone(),
            format!(r#"{{"payload":{deep}"#),
            format!(r#"{{"name":{deep}"#),
            format!(r#"{{"unknown":{deep}"#),
            format!(r#"{{"jobs":{deep}"#),
        ] {
            refused(&body);
        }
    }
    let closed = format!(
        r#"{{"payload":{}{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(refused(&closed).details(), Some("payload"));
}

#[test]
fn a_payload_goes_on_digit_for_digit() {
    let payload = r#"{"n":12345678901234567890,"d":1.10,"e":1E+2,"s":"\u00e9\/","z":null}"#;
    let body = format!(r#"{{{ID},"name":"a","payload":{payload}}}"#);
    let job: Job = parse::object(body.as_bytes()).unwrap();
    assert!(serde_json::to_string(&job).unwrap().contains(payload));

    let body = format!(r#"{{{ID},"name":"a","payload":null}}"#);
    let job: Job = parse::object(body.as_bytes()).unwrap();
    assert_eq!(job.payload.unwrap().get(), "null");
}

#[test]
fn one_and_many_go_on_in_their_own_shape() {
    let job = format!(r#"{{{ID},"name":"a","leaseId":"7"}}"#);
    let one = parse::one_or_many::<Job, Jobs>(job.as_bytes(), "jobs").unwrap();
    assert!(matches!(one, OneOrMany::One(_)));
    let many = format!(r#"{{"jobs":[{job}]}}"#);
    let many = parse::one_or_many::<Job, Jobs>(many.as_bytes(), "jobs").unwrap();
    let text = serde_json::to_string(&many).unwrap();
    assert!(
        text.starts_with(r#"{"jobs":[{"#) && text.contains(r#""leaseId":7"#),
        "{text}"
    );
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Query {
    executor_id: Option<Text<10>>,
    job: Option<JobId>,
    limit: Option<Int<1, 100>>,
    open: Option<bool>,
    state: Option<State>,
    cursor: Option<Instant>,
    lease: Option<LeaseId>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Queued,
    Dead,
}

#[test]
fn a_query_string_is_a_typed_request() {
    let query = parse::query::<Query>(Some(
        "executorId=a%20b+c&job=00000000-0000-8000-8000-000000000001&limit=7&open=true&state=dead\
         &cursor=2030-01-31T09:30:00%2B02:00&lease=9&forceFunctionRegion=us-east-1",
    ))
    .unwrap();
    assert_eq!(query.executor_id.unwrap().as_str(), "a b c");
    assert_eq!(query.limit.unwrap().get(), 7);
    assert_eq!((query.open, query.state), (Some(true), Some(State::Dead)));
    assert!(query.job.is_some() && query.cursor.is_some() && query.lease.is_some());
    for nothing in [None, Some(""), Some("&")] {
        let query = parse::query::<Query>(nothing).unwrap();
        assert!(query.executor_id.is_none() && query.limit.is_none());
    }
}

#[test]
fn a_wrong_parameter_is_named() {
    for (text, field, reason) in [
        (
            "executor=a",
            "executor",
            "is not a known parameter, expected one of",
        ),
        ("executorId=a&executorId=a", "executorId", "is given twice"),
        ("executorId=", "executorId", "must not be blank"),
        ("executorId=%ff", "executorId", "is not UTF-8"),
        ("executorId=%00", "executorId", "holds the NUL"),
        ("executorId=12345678901", "executorId", "has more than 10"),
        (
            "limit=0",
            "limit",
            "invalid value: integer `0`, expected an integer from 1 to 100",
        ),
        ("limit=", "limit", "invalid type: string"),
        ("limit=+7", "limit", "invalid type: string"),
        ("limit=1.0", "limit", "invalid type: string"),
        (
            "limit=99999999999999999999",
            "limit",
            "invalid type: string",
        ),
        ("open=1", "open", "is neither true nor false"),
        (
            "state=Dead",
            "state",
            "unknown variant `Dead`, expected `queued` or `dead`",
        ),
        ("job=7", "job", "is not a UUID"),
        ("cursor=null", "cursor", "is not a time"),
        ("lease=-9", "lease", "invalid value"),
        ("limit=1&limit=2", "limit", "is given twice"),
    ] {
        let problem = parse::query::<Query>(Some(text)).unwrap_err();
        assert_eq!(problem.code(), "invalid_request");
        assert_eq!(
            problem.details(),
            Some(field),
            "{text}: {}",
            problem.error()
        );
        let expected = format!("{field}: {reason}");
        assert!(
            problem.error().starts_with(&expected),
            "{text}: {}",
            problem.error()
        );
    }
    let long = format!("{}=1&executorId={0}", "x".repeat(100_000));
    let problem = parse::query::<Query>(Some(&long)).unwrap_err();
    assert!(problem.error().len() < 2_000, "{}", problem.error());
}

#[test]
fn a_parameter_that_must_be_there_is_asked_for() {
    #[derive(Debug, Deserialize)]
    struct Signing {
        #[serde(rename = "bucket")]
        _bucket: Text<10>,
    }
    let problem = parse::query::<Signing>(None).unwrap_err();
    assert_eq!(problem.error(), "bucket: is required");
}

/// Bytes changed, dropped, doubled and cut at every place of a body that has everything in it: none of
/// the outcomes matters, but there must be one.
#[test]
fn no_mutation_of_a_request_panics() {
    let body = format!(
        r#"{{"jobs":[{{{ID},"name":"é\n","leaseId":"9","size":3,"payload":{{"a":[1.5e3,"\ud83d\ude00",null]}},"children":[{{"name":"c"}}]}}]}}"#
    );
    let bytes = body.as_bytes();
    let parse = |bytes: &[u8]| {
        let _ = parse::one_or_many::<Job, Jobs>(bytes, "jobs");
        let _ = parse::object::<Job>(bytes);
    };
    for at in 0..bytes.len() {
        parse(&bytes[..at]);
        parse(&bytes[at..]);
        for byte in [
            0, b'"', b'\\', b'{', b'}', b'[', b']', b',', b'-', b'9', b'u', b'e', 0x80, 0xff,
        ] {
            let mut changed = bytes.to_vec();
            changed[at] = byte;
            parse(&changed);
            changed.insert(at, bytes[at]);
            parse(&changed);
            let mut dropped = bytes.to_vec();
            dropped.remove(at);
            parse(&dropped);
        }
        let _ = parse::query::<Query>(std::str::from_utf8(&bytes[..at]).ok());
    }
}
