//! What browsers ask of the functions under `/functions/v1/`: Supabase's clients call them from any
//! page (the Fetch standard's CORS protocol). Credentials are bearer tokens and keys in headers, never
//! cookies, so an origin proves nothing and `access-control-allow-credentials` is never sent.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use crate::answer::{Answer, Problem, Reply, reply};
use crate::request;
use crate::variable;

/// The headers that a page may send: those of supabase-js 2 (`authorization` to `baggage`), our own,
/// and by the asterisk any other. It stands last because `authorization` is not covered by it.
const REQUEST_HEADERS: &str = "authorization, apikey, content-type, x-client-info, x-region, x-retry-count, \
                               traceparent, tracestate, baggage, x-api-key, *";

/// The headers that a page may read beside those that it always may.
const RESPONSE_HEADERS: &str = "retry-after, www-authenticate";

/// For how long a browser need not ask again, in seconds: a day.
const MAX_AGE: &str = "86400";

/// Serves a function whose one method is `method`, `GET` or `POST`, to pages of the origins that the
/// variable `cors_allow_origin` names: `*`, or several with commas between them.
///
/// A preflight is answered without credentials. Every answer may be read by the page, the refusals
/// and the 405 of another method too.
pub async fn edge<B, F>(request: Request<B>, serve: F, method: &'static str) -> Reply
where
    F: AsyncFnOnce(Request<B>) -> Result<Answer, Problem>,
{
    let allowed = match variable::get("cors_allow_origin").await {
        Ok(allowed) => allowed,
        Err(problem) => return reply(Err(problem)),
    };
    let origin = request.headers().get(ORIGIN).cloned();
    let mut response = match *request.method() {
        Method::OPTIONS => preflight(method),
        _ => reply(match request::only(request.method(), method) {
            Ok(()) => serve(request).await,
            Err(problem) => Err(problem),
        }),
    };
    open(response.headers_mut(), &allowed, origin);
    response
}

/// Says which requests a page may make. That it is one from an allowed origin is said with all answers.
fn preflight(method: &'static str) -> Reply {
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    for (name, value) in [
        (ACCESS_CONTROL_ALLOW_METHODS, method),
        (ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS),
        (ACCESS_CONTROL_MAX_AGE, MAX_AGE),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// Lets the page of an allowed origin read the answer.
fn open(headers: &mut HeaderMap, allowed: &str, origin: Option<HeaderValue>) {
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(RESPONSE_HEADERS),
    );
    let mut allowed = allowed.split(',').map(str::trim);
    let origin = match allowed.clone().any(|origin| origin == "*") {
        true => Some(HeaderValue::from_static("*")),
        false => {
            // What is allowed depends on who asks, so a cache may not give it to somebody else.
            headers.insert(VARY, HeaderValue::from_static("origin"));
            origin.filter(|origin| allowed.any(|allowed| origin == allowed))
        }
    };
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands in `access-control-allow-origin` and `vary`.
    fn opened(allowed: &str, origin: Option<&'static str>) -> (Option<String>, bool) {
        let mut headers = HeaderMap::new();
        open(&mut headers, allowed, origin.map(HeaderValue::from_static));
        let allowed = headers.get(ACCESS_CONTROL_ALLOW_ORIGIN);
        let text = allowed.map(|value| value.to_str().unwrap().to_owned());
        (text, headers.contains_key(VARY))
    }

    #[test]
    fn any_origin_is_allowed_without_being_repeated() {
        let any = (Some("*".to_owned()), false);
        assert_eq!(opened("*", Some("https://page.example")), any);
        assert_eq!(opened("*", None), any);
    }

    #[test]
    fn of_several_origins_only_those_are_allowed() {
        let some = "https://one.example, http://localhost:5173";
        for origin in ["https://one.example", "http://localhost:5173"] {
            assert_eq!(opened(some, Some(origin)), (Some(origin.to_owned()), true));
        }
        for origin in [
            "https://two.example",
            "http://one.example",
            "https://one.example:8443",
            "https://one.example.evil.example",
            "null",
            "",
        ] {
            assert_eq!(opened(some, Some(origin)), (None, true), "{origin}");
        }
        assert_eq!(opened(some, None), (None, true));
        assert_eq!(opened("", Some("https://one.example")), (None, true));
    }

    #[test]
    fn a_preflight_names_what_supabase_js_sends() {
        let response = preflight("POST");
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert_eq!(response.headers()[ACCESS_CONTROL_ALLOW_METHODS], "POST");
        let headers = response.headers()[ACCESS_CONTROL_ALLOW_HEADERS].to_str();
        let names: Vec<_> = headers.unwrap().split(", ").collect();
        for name in [
            "authorization",
            "apikey",
            "content-type",
            "x-client-info",
            "x-region",
            "x-retry-count",
        ] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
    }
}
