//! The outer shape of a request: its path and method, its media type, and a body of limited size.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Method, StatusCode};
use http_body::Body;
use http_body_util::BodyExt;

use crate::answer::Problem;

/// The largest body that is read, in bytes: 1 MiB.
pub const BODY_LIMIT: usize = 1 << 20;

/// Lets only `allowed` through; every other method is 405 with `Allow`.
pub fn only(method: &Method, allowed: &'static str) -> Result<(), Problem> {
    match method.as_str() == allowed {
        true => Ok(()),
        false => Err(Problem::method_not_allowed(allowed)),
    }
}

/// What stands between `prefix` and `suffix` in a path: one segment, not empty and not decoded. A slash
/// at the path's end is no part of it, since a host may match a route with or without one.
///
/// `segment("/api/collab/job/7/summary", "/api/collab/job/", "/summary")` is `7`.
pub fn segment<'a>(path: &'a str, prefix: &str, suffix: &str) -> Option<&'a str> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let segment = path.strip_prefix(prefix)?.strip_suffix(suffix)?;
    (!segment.is_empty() && !segment.contains('/')).then_some(segment)
}

/// Reads a JSON body whole.
///
/// # Errors
/// 415 unless it is declared as `application/json` in UTF-8, without a content encoding; 413 as soon
/// as more than [`BODY_LIMIT`] bytes are declared or have come; 400 `invalid_json` if it breaks off.
pub async fn json_body<B: Body>(headers: &HeaderMap, body: B) -> Result<Vec<u8>, Problem> {
    check_media_type(headers)?;
    whole_body(headers, body, BODY_LIMIT).await
}

/// Reads a JSON body that may be left out whole: without one it is `{}`, whatever media type is declared.
///
/// # Errors
/// As [`json_body`], of a body that is there.
pub async fn optional_json_body<B: Body>(headers: &HeaderMap, body: B) -> Result<Vec<u8>, Problem> {
    let body = whole_body(headers, body, BODY_LIMIT).await?;
    if body.is_empty() {
        return Ok(b"{}".to_vec());
    }
    check_media_type(headers)?;
    Ok(body)
}

/// Reads a body of any media type whole, up to `limit` bytes.
///
/// # Errors
/// 413 as soon as more bytes are declared or have come; 400 `invalid_json` if it breaks off.
pub async fn whole_body<B: Body>(
    headers: &HeaderMap,
    body: B,
    limit: usize,
) -> Result<Vec<u8>, Problem> {
    let declared = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let mut body = std::pin::pin!(body);
    let mut bytes = Vec::with_capacity(declared.unwrap_or_default());
    while let Some(frame) = body.frame().await {
        let broken_off = |_| {
            let error = "the body broke off before its end";
            Problem::new(StatusCode::BAD_REQUEST, "invalid_json", error)
        };
        let Ok(mut data) = frame.map_err(broken_off)?.into_data() else {
            continue;
        };
        if bytes.len().saturating_add(bytes::Buf::remaining(&data)) > limit {
            return Err(too_large(limit));
        }
        while bytes::Buf::has_remaining(&data) {
            let chunk = bytes::Buf::chunk(&data);
            let length = chunk.len();
            bytes.extend_from_slice(chunk);
            bytes::Buf::advance(&mut data, length);
        }
    }
    Ok(bytes)
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("the body has more than {limit} bytes"),
    )
}

fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let is_json = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(is_utf8_json);
    let is_plain = headers
        .get(CONTENT_ENCODING)
        .is_none_or(|value| value.as_bytes().eq_ignore_ascii_case(b"identity"));
    match is_json && is_plain {
        true => Ok(()),
        false => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "the body must be application/json in UTF-8, without a content encoding",
        )),
    }
}

fn is_utf8_json(media_type: &str) -> bool {
    let mut parts = media_type.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    essence.eq_ignore_ascii_case("application/json")
        && parts.all(|parameter| match parameter.split_once('=') {
            Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
                value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            _ => true,
        })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use futures::executor::block_on;
    use futures::stream;
    use http::HeaderValue;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn typed(media_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))])
    }

    #[test]
    fn a_segment_is_what_stands_between() {
        let of = |path| segment(path, "/job/", "/summary");
        assert_eq!(of("/job/7/summary"), Some("7"));
        assert_eq!(of("/job/7/summary/"), Some("7"));
        for other in [
            "/job//summary",
            "/job/7/8/summary",
            "/job/summary",
            "/job/7",
            "/jobs/7/summary",
        ] {
            assert_eq!(of(other), None, "{other}");
        }
        assert_eq!(segment("/job/7", "/job/", ""), Some("7"));
    }

    #[test]
    fn the_media_type_is_json_in_utf8() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
        ] {
            assert!(check_media_type(&typed(good)).is_ok(), "{good}");
        }
        for bad in [
            "text/plain",
            "application/json; charset=latin1",
            "application/jsonp",
            "",
        ] {
            let problem = check_media_type(&typed(bad)).unwrap_err();
            assert_eq!(
                problem.status(),
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "{bad}"
            );
        }
        assert!(check_media_type(&HeaderMap::new()).is_err());
        let mut zipped = typed("application/json");
        zipped.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(check_media_type(&zipped).is_err());
    }

    #[test]
    fn a_body_is_read_up_to_the_limit() {
        let read = |length: usize| {
            let body = Full::new(Bytes::from(vec![b' '; length]));
            block_on(json_body(&typed("application/json"), body))
        };
        assert_eq!(read(BODY_LIMIT).unwrap().len(), BODY_LIMIT);
        assert_eq!(read(BODY_LIMIT + 1).unwrap_err().code(), "body_too_large");
    }

    #[test]
    fn a_body_that_may_be_left_out_is_an_empty_object_then() {
        let read = |headers: &HeaderMap, body: &'static str| {
            block_on(optional_json_body(headers, Full::new(Bytes::from(body))))
        };
        assert_eq!(read(&HeaderMap::new(), "").unwrap(), b"{}");
        assert_eq!(read(&typed("text/plain"), "").unwrap(), b"{}");
        let json = typed("application/json");
        assert_eq!(read(&json, r#"{"a":1}"#).unwrap(), br#"{"a":1}"#);
        let problem = read(&HeaderMap::new(), "{}").unwrap_err();
        assert_eq!(problem.code(), "unsupported_media_type");
    }

    #[test]
    fn a_body_of_any_type_is_read_up_to_a_limit_of_its_own() {
        let read = |length: usize, limit| {
            let body = Full::new(Bytes::from(vec![0; length]));
            block_on(whole_body(&HeaderMap::new(), body, limit))
        };
        assert_eq!(read(7, 7).unwrap().len(), 7);
        let problem = read(8, 7).unwrap_err();
        assert_eq!(problem.error(), "the body has more than 7 bytes");
        assert_eq!(
            read(BODY_LIMIT + 1, 2 * BODY_LIMIT).unwrap().len(),
            BODY_LIMIT + 1
        );
    }

    #[test]
    fn a_body_without_end_is_cut_off_at_the_limit() {
        let chunk = || Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b' '; 4096])));
        let endless = StreamBody::new(stream::repeat_with(chunk));
        let problem = block_on(json_body(&typed("application/json"), endless)).unwrap_err();
        assert_eq!(problem.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_reading() {
        let mut headers = typed("application/json");
        headers.insert(CONTENT_LENGTH, HeaderValue::from(BODY_LIMIT + 1));
        let body = StreamBody::new(stream::poll_fn(
            |_| -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
                panic!("the body was read")
            },
        ));
        let problem = block_on(json_body(&headers, body)).unwrap_err();
        assert_eq!(problem.code(), "body_too_large");
    }
}
