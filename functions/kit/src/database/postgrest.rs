//! The same call through a PostgREST, as Supabase has one: `POST …/rpc/FUNCTION`, whose body is the function's one unnamed jsonb.
//! For platforms that allow no database connections, or too few. What PostgREST answers, and with which status, is in its
//! documentation (v14: Errors; Functions with a single unnamed JSON parameter).

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use serde::Deserialize;
use serde_json::Value;

use super::Failure;
use crate::outbound::{self, Bounds, Broken};
use crate::{log, variable};

/// The schema that is called; PostgREST must expose it (`db-schemas`).
const PROFILE: &str = "millrace_api";

/// A request has 30 s at most hosts. A claim answers with up to 8 MiB of payloads, and what stands around them.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(25),
    length: 16 * 1024 * 1024,
};

/// Calls a function with JSON text, and gives the JSON text that it answers; `None` is null.
pub(super) async fn call(
    base: &str,
    function: &'static str,
    body: String,
) -> Result<Option<String>, Failure> {
    let key = variable::get("database_service_key")
        .await
        .map_err(|_| Failure::Misconfigured)?;
    let request = match key.as_str() {
        "" => Err("database_service_key is empty"),
        key => request(base, function, key, body)
            .map_err(|_| "database_url or database_service_key can't be sent"),
    };
    let request = request.map_err(|why| misconfigured(function, why))?;
    match outbound::ask(request, BOUNDS).await {
        Ok(answer) => read(function, answer),
        Err(broken) => Err(unanswered(function, broken)),
    }
}

fn request(
    base: &str,
    function: &str,
    key: &str,
    body: String,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut secret = HeaderValue::try_from(format!("Bearer {key}"))?;
    secret.set_sensitive(true);
    let mut api_key = HeaderValue::try_from(key)?;
    api_key.set_sensitive(true);
    Request::post(format!("{}/rpc/{function}", base.trim_end_matches('/')))
        .header(AUTHORIZATION, secret)
        // Supabase's gateway looks here, PostgREST behind it there.
        .header("apikey", api_key)
        .header("content-profile", PROFILE)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/json")
        .header(CONTENT_LENGTH, body.len())
        .body(Full::new(Bytes::from(body)))
}

fn unanswered(function: &str, broken: Broken) -> Failure {
    let why = match broken {
        Broken::Denied => {
            return misconfigured(
                function,
                "database_host does not allow the host of database_url",
            );
        }
        Broken::TooLong => {
            log::line(format_args!("{function}: the answer has more than 16 MiB"));
            return Failure::Internal;
        }
        Broken::Unreachable => "nobody answers at database_url",
        Broken::TooSlow => "no answer from database_url within 25 s",
        Broken::BrokenOff => "the answer from database_url broke off",
    };
    log::line(format_args!("{function}: {why}"));
    Failure::Unavailable
}

/// What an answer says. Its words are for nobody's eyes until it is known whose they are: a gateway's may quote the key.
fn read(function: &str, answer: Response<Vec<u8>>) -> Result<Option<String>, Failure> {
    let status = answer.status();
    if status != StatusCode::OK {
        let refusal = serde_json::from_slice(answer.body()).unwrap_or_default();
        return Err(refused(function, status, refusal));
    }
    if !is_json(&answer) {
        return Err(misconfigured(function, "no PostgREST is at database_url"));
    }
    match String::from_utf8(answer.into_body()) {
        Ok(text) => Ok((text != "null").then_some(text)),
        Err(_) => Err(Failure::Internal),
    }
}

/// What PostgREST, or whoever stands before it, gives as the reason of a refusal.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Refusal {
    code: Value,
    message: Value,
    details: Value,
    hint: Value,
}

/// A refusal has a SQLSTATE if it is the database's, a code `PGRST…` if it is PostgREST's own, and anything if it is a gateway's.
fn refused(function: &str, status: StatusCode, refusal: Refusal) -> Failure {
    match refusal.code.as_str() {
        // Group 0: there is no connection to the database.
        Some("PGRST000" | "PGRST001" | "PGRST002" | "PGRST003") => {
            log::line(format_args!("{function}: PostgREST has no connection"));
            Failure::Unavailable
        }
        Some("PGRSTX00") => {
            log::line(format_args!("{function}: an internal error of PostgREST"));
            Failure::Internal
        }
        Some(code @ "PGRST202") => {
            log::line(format_args!("{function}: PostgREST refuses with {code}"));
            Failure::Unknown
        }
        // The schema is not exposed, or the key is not good: what we ask is right.
        Some(code) if is_own_code(code) => {
            misconfigured(function, &format!("PostgREST refuses with {code}"))
        }
        Some(code) if is_sqlstate(code) => Failure::Raised {
            sqlstate: code.to_owned(),
            message: text(refusal.message).unwrap_or_default(),
            detail: text(refusal.details),
            hint: text(refusal.hint),
        },
        _ => turned_away(function, status),
    }
}

/// A refusal that is neither the database's nor PostgREST's.
fn turned_away(function: &str, status: StatusCode) -> Failure {
    match status.as_u16() {
        // Too many requests, no way to PostgREST, and what Cloudflare says of a server that is not there (520 to 530); Supabase
        // answers 540 for a project that is paused.
        408 | 429 | 502..=504 | 520..=530 | 540 => {
            log::line(format_args!("{function}: database_url answers {status}"));
            Failure::Unavailable
        }
        500..=599 => {
            log::line(format_args!("{function}: database_url answers {status}"));
            Failure::Internal
        }
        _ => misconfigured(
            function,
            &format!(
                "no PostgREST, or none that knows the key, is at database_url: it answers {status}"
            ),
        ),
    }
}

fn misconfigured(function: &str, why: &str) -> Failure {
    log::line(format_args!("{function}: {why}"));
    Failure::Misconfigured
}

fn is_json(answer: &Response<Vec<u8>>) -> bool {
    let media_type = answer.headers().get(CONTENT_TYPE);
    media_type.is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}

/// `PGRSTgxx`, a group and a number.
fn is_own_code(code: &str) -> bool {
    code.strip_prefix("PGRST")
        .is_some_and(|rest| rest.len() == 3 && rest.bytes().all(is_sqlstate_byte))
}

/// Five digits and upper-case letters (PostgreSQL's appendix A).
fn is_sqlstate(code: &str) -> bool {
    code.len() == 5 && code.bytes().all(is_sqlstate_byte)
}

fn is_sqlstate_byte(byte: u8) -> bool {
    byte.is_ascii_digit() || byte.is_ascii_uppercase()
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, media_type: &str, body: &str) -> Response<Vec<u8>> {
        let answer = Response::builder()
            .status(status)
            .header(CONTENT_TYPE, media_type);
        answer.body(body.into()).expect("an answer")
    }

    fn failure(status: u16, body: &str) -> Failure {
        let answer = answer(status, "application/json; charset=utf-8", body);
        read("f", answer).expect_err("a refusal")
    }

    #[test]
    fn an_answer_passes_as_it_came() {
        let body = r#"{"n": 12345678901234567890.10, "text": "\u0000 é"}"#;
        for media_type in ["application/json", "application/json; charset=utf-8"] {
            let read = read("f", answer(200, media_type, body));
            assert_eq!(read, Ok(Some(body.to_owned())));
        }
        assert_eq!(read("f", answer(200, "application/json", "null")), Ok(None));
    }

    #[test]
    fn what_is_no_answer_of_postgrest_is_not_passed_on() {
        let page = answer(200, "text/html", "<p>");
        assert_eq!(read("f", page), Err(Failure::Misconfigured));
        for status in [201, 204, 301, 302, 307, 308, 400, 401, 403, 404, 405] {
            for body in ["", "<html>", r#"{"message":"Invalid API key"}"#, "[]"] {
                assert_eq!(failure(status, body), Failure::Misconfigured, "{status}");
            }
        }
    }

    #[test]
    fn an_error_of_the_database_is_one() {
        for (status, code) in [
            (409, "PT409"),
            (400, "22P02"),
            (500, "57P01"),
            (401, "42501"),
        ] {
            let body =
                format!(r#"{{"code":"{code}","message":"the message","details":null,"hint":"h"}}"#);
            let expected = Failure::Raised {
                sqlstate: code.to_owned(),
                message: "the message".to_owned(),
                detail: None,
                hint: Some("h".to_owned()),
            };
            assert_eq!(failure(status, &body), expected);
        }
    }

    #[test]
    fn an_error_of_postgrest_is_told_by_its_code() {
        for (status, code, expected) in [
            (503, "PGRST000", Failure::Unavailable),
            (503, "PGRST001", Failure::Unavailable),
            (503, "PGRST002", Failure::Unavailable),
            (504, "PGRST003", Failure::Unavailable),
            (400, "PGRST102", Failure::Misconfigured),
            (406, "PGRST106", Failure::Misconfigured),
            (404, "PGRST202", Failure::Unknown),
            (500, "PGRST300", Failure::Misconfigured),
            (401, "PGRST301", Failure::Misconfigured),
            (401, "PGRST302", Failure::Misconfigured),
            (500, "PGRSTX00", Failure::Internal),
        ] {
            let body = format!(r#"{{"code":"{code}","message":"secret","details":{{}}}}"#);
            assert_eq!(failure(status, &body), expected, "{code}");
        }
    }

    #[test]
    fn a_gateway_that_cannot_reach_it_is_worth_another_try() {
        for status in [408, 429, 502, 503, 504, 521, 525, 540] {
            assert_eq!(failure(status, "<html>"), Failure::Unavailable, "{status}");
        }
        for status in [500, 501, 505] {
            assert_eq!(failure(status, "<html>"), Failure::Internal, "{status}");
        }
    }
}
