//! `GET /preview`: what channels would have sent, had they been told to send; `GET /preview/JOB`: one of them; `GET /preview/JOB/html`: an email as it
//! looks. For browsers (`Accept: text/html`) these are pages, for everybody else JSON.
//!
//! A message is a stranger's text. Pages escape it; the email itself is served under a policy that runs no script, loads nothing from
//! anywhere and gives it an origin of its own, whether it is looked at in its frame or alone.

mod page;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_SECURITY_POLICY, REFERRER_POLICY, VARY, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use millrace_contract::job::NoParameters;
use millrace_contract::preview::{PreviewListing, PreviewOf};
use millrace_kit::auth::{Caller, Scope};
use millrace_kit::field::JobId;
use millrace_kit::{Answer, Problem, Reply, database, parse, reply, request, variable};
use spin_sdk::http::Request;
use spin_sdk::http_service;

/// What a browser may do with a page of ours: show it, with the style sheet and the frame that it has.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'self'; frame-src 'self'; base-uri 'none'; \
                           form-action 'none'; frame-ancestors 'none'";

/// What a browser may do with an email: show it, with the styles and pictures that are in it. `sandbox` without a word after it allows no
/// scripts, no forms, no windows, and makes it a stranger to this server.
const EMAIL_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; \
                            base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox";

/// The style sheet of the pages: nobody's secret.
const STYLE: &str = include_str!("../style.css");

/// Serves the component's routes.
#[http_service]
async fn handle(request: Request) -> Reply {
    let path = request.uri().path().trim_end_matches('/').to_owned();
    let policy = match path.ends_with("/html") {
        true => EMAIL_POLICY,
        false => PAGE_POLICY,
    };
    let mut response = reply(answer(&request, &path).await);
    guard(&mut response, policy);
    response
}

async fn answer(request: &Request, path: &str) -> Result<Answer, Problem> {
    request::only(request.method(), "GET")?;
    if path == "/preview/files/style.css" {
        return Ok(Answer::of("text/css; charset=utf-8", STYLE));
    }
    let caller = variable::caller(&credentials(request.headers()), Scope::Read).await?;
    let is_browser = wants_html(request.headers());
    if path == "/preview" {
        list(&caller, request.uri().query(), is_browser).await
    } else if let Some(id) = request::segment(path, "/preview/", "/html") {
        let json = kept(&caller, id, request.uri().query()).await?;
        page::email(&json)
    } else if let Some(id) = request::segment(path, "/preview/", "") {
        let json = kept(&caller, id, request.uri().query()).await?;
        match is_browser {
            true => page::one(&json),
            false => Ok(Answer::json(json)),
        }
    } else {
        Err(Problem::not_found())
    }
}

async fn list(caller: &Caller, query: Option<&str>, is_browser: bool) -> Result<Answer, Problem> {
    let listing: PreviewListing = parse::query(query)?;
    let json = database::call_text(caller, "previews", &listing).await?;
    match is_browser {
        true => page::list(&json),
        false => Ok(Answer::json(json)),
    }
}

/// What the job with this id would have sent, as the database tells it.
async fn kept(caller: &Caller, id: &str, query: Option<&str>) -> Result<String, Problem> {
    let job_id = JobId::try_from(id.to_owned()).map_err(|why| Problem::invalid("jobId", why))?;
    let NoParameters {} = parse::query(query)?;
    database::call_text(caller, "preview", &PreviewOf { job_id }).await
}

fn wants_html(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter();
    accepted.any(|value| value.as_bytes().windows(9).any(|part| part == b"text/html"))
}

/// The headers with what a browser asks its user for, a name and a password, as the key or the token that the password is. (Not in
/// the URL, where it would be in histories and logs.)
fn credentials(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    let password = headers.get(AUTHORIZATION).and_then(password);
    if let Some(password) = password {
        headers.insert(AUTHORIZATION, password);
    }
    headers
}

/// `Basic` and base64 of `name:password` (RFC 7617) as `Bearer password`; none for any other scheme, and for what cannot be read.
fn password(header: &HeaderValue) -> Option<HeaderValue> {
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    let is_basic = scheme.eq_ignore_ascii_case("basic");
    let decoded = STANDARD.decode(is_basic.then(|| encoded.trim())?).ok()?;
    let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    HeaderValue::from_str(&format!("Bearer {password}")).ok()
}

/// Adds what every answer here has: the policy, and that its form depends on what was accepted. Somebody without credentials is told that a
/// browser may ask for them.
fn guard(response: &mut Reply, policy: &'static str) {
    let is_unauthorized = response.status() == StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    let guards: [(HeaderName, &'static str); 4] = [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (VARY, "accept, authorization"),
    ];
    for (name, value) in guards {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if is_unauthorized {
        let challenge =
            "Basic realm=\"Millrace: any name, and a key as the password\", charset=\"UTF-8\"";
        headers.append(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
}
