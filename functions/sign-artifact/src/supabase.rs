//! Supabase Storage: its own endpoint makes the link (`POST /storage/v1/object/sign/BUCKET/PATH`), asked as storage-js asks it.
//! It refuses with status 400, or 404 in some versions, and tells the real status as text in the body.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Request, StatusCode};
use http_body_util::Full;
use millrace_contract::signing::Wanted;
use millrace_kit::outbound::{self, Bounds, Broken};
use millrace_kit::{Problem, log, variable};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

/// A link has a few hundred bytes.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(5),
    length: 64 * 1024,
};

/// What JavaScript's `encodeURI` encodes. The storage gives its link's path decoded, and storage-js encodes it so.
const URI: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b';')
    .remove(b'/')
    .remove(b'?')
    .remove(b':')
    .remove(b'@')
    .remove(b'&')
    .remove(b'=')
    .remove(b'+')
    .remove(b'$')
    .remove(b',')
    .remove(b'#');

/// The same for a path, where a question mark or a number sign would end it. More may not be encoded: the storage signs what
/// JavaScript's `decodeURI` makes of it, which leaves the others as they are.
const PATH: &AsciiSet = &URI.add(b'?').add(b'#');

/// A link that the storage made.
///
/// # Errors
/// 404 if it has no such object; 502 `storage_error` if it answers anything else; 503 `storage_unavailable` if it can't be
/// reached or takes longer than 5 s; 503 `signing_not_configured` without URL or key. Nothing of its answer is shown.
pub async fn link(wanted: &Wanted) -> Result<String, Problem> {
    let base = variable::get("supabase_url").await?;
    let base = base.trim_end_matches('/');
    let key = variable::get("supabase_service_key").await?;
    if base.is_empty() || key.is_empty() {
        let hint = "set the variables supabase_url and supabase_service_key";
        return Err(super::not_configured(hint));
    }
    let request = request(base, &key, wanted)
        .map_err(|_| variable::wrong("supabase_url or supabase_service_key", "can't be sent"))?;
    let answer = outbound::ask(request, BOUNDS).await.map_err(unanswered)?;
    let signed = read(answer.status(), answer.body())?;
    let signed = utf8_percent_encode(&signed, URI);
    Ok(format!("{base}/storage/v1{signed}"))
}

fn request(base: &str, key: &str, wanted: &Wanted) -> Result<Request<Full<Bytes>>, http::Error> {
    let (bucket, path) = (wanted.bucket(), utf8_percent_encode(wanted.path(), PATH));
    let body = format!(r#"{{"expiresIn":{}}}"#, wanted.expires());
    Request::post(format!("{base}/storage/v1/object/sign/{bucket}/{path}"))
        .header(AUTHORIZATION, format!("Bearer {key}"))
        .header("apikey", key)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
}

fn unanswered(broken: Broken) -> Problem {
    match broken {
        Broken::Denied => {
            variable::wrong("supabase_host", "does not allow the host of supabase_url")
        }
        Broken::Unreachable => unavailable("could not be reached"),
        Broken::TooSlow => unavailable("took too long"),
        Broken::BrokenOff => unavailable("broke off its answer"),
        Broken::TooLong => failed("with more than fits"),
    }
}

/// What the storage answers with 200.
#[derive(Deserialize)]
struct Signed {
    #[serde(rename = "signedURL")]
    signed_url: String,
}

/// What it answers otherwise, as far as it matters. Its router, which knows nothing of objects, gives a number instead of text.
#[derive(Deserialize)]
struct Refused {
    #[serde(rename = "statusCode")]
    status_code: String,
}

/// The link that an answer holds, from its `/object/sign/` on.
fn read(status: StatusCode, body: &[u8]) -> Result<String, Problem> {
    if status == StatusCode::OK {
        let Ok(Signed { signed_url }) = serde_json::from_slice(body) else {
            return Err(failed(&format!("{status} with no link")));
        };
        return match signed_url.starts_with("/object/sign/") {
            true => Ok(signed_url),
            false => Err(failed(&format!("{status} with a link to somewhere else"))),
        };
    }
    let says_so = matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND);
    match serde_json::from_slice(body) {
        Ok(Refused { status_code }) if says_so && status_code == "404" => Err(super::not_found()),
        _ => Err(failed(&format!("{status} with a refusal"))),
    }
}

/// What the storage said is for nobody's eyes: it may quote the key.
fn failed(what: &str) -> Problem {
    log::line(format_args!("the storage answered {what}"));
    let error = "the storage did not make a link";
    Problem::new(StatusCode::BAD_GATEWAY, "storage_error", error)
}

fn unavailable(what: &str) -> Problem {
    log::line(format_args!("the storage {what}"));
    Problem::unavailable("storage_unavailable", "the storage does not answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(status: u16, body: &str) -> String {
        let problem = read(StatusCode::from_u16(status).unwrap(), body.as_bytes()).unwrap_err();
        format!("{} {}", problem.status().as_u16(), problem.code())
    }

    #[test]
    fn a_link_is_taken_as_it_comes() {
        let body = br#"{"signedURL":"/object/sign/artifacts/a b.txt?token=t"}"#;
        let link = read(StatusCode::OK, body).unwrap();
        assert_eq!(link, "/object/sign/artifacts/a b.txt?token=t");
        assert_eq!(
            utf8_percent_encode(&link, URI).to_string(),
            "/object/sign/artifacts/a%20b.txt?token=t"
        );
    }

    #[test]
    fn an_object_that_is_not_there_is_told_from_other_refusals() {
        let refused = r#"{"statusCode":"404","error":"not_found","message":"Object not found"}"#;
        for status in [400, 404] {
            assert_eq!(code(status, refused), "404 object_not_found");
        }
        for (status, body) in [
            (500, refused),
            (
                400,
                r#"{"statusCode":"403","error":"Unauthorized","message":"signature verification failed"}"#,
            ),
            (
                400,
                r#"{"statusCode":"400","error":"TenantNotFound","message":"Missing tenant config"}"#,
            ),
            (
                404,
                r#"{"statusCode":404,"error":"Not Found","message":"Route POST:/object/sign/a not found"}"#,
            ),
            (404, "<html>"),
            (404, ""),
            (200, "{}"),
            (200, "<html>"),
            (200, r#"{"signedURL":null}"#),
            (200, r#"{"signedURL":"https://evil.example/object/sign/a"}"#),
            (200, r#"{"signedURL":"@evil.example/object/sign/a"}"#),
            (302, r#"{"signedURL":"/object/sign/a"}"#),
        ] {
            assert_eq!(code(status, body), "502 storage_error", "{status} {body}");
        }
    }

    #[test]
    fn a_path_is_encoded_as_storage_js_sends_it() {
        for (path, encoded) in [
            (
                "runs/1/a b+c&d=e,f;g:h@i$j.txt",
                "runs/1/a%20b+c&d=e,f;g:h@i$j.txt",
            ),
            ("it's (1)!*~.txt", "it's%20(1)!*~.txt"),
            ("a?b#c%d", "a%3Fb%23c%25d"),
            ("ключ", "%D0%BA%D0%BB%D1%8E%D1%87"),
        ] {
            assert_eq!(utf8_percent_encode(path, PATH).to_string(), encoded);
        }
    }
}
