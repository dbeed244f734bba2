//! `GET /files/BUCKET/PATH?expires=…&signature=…`: a file of the local store, for whoever has a link that `sign-artifact` made.
//! The link is all there is to check: this component knows neither the database nor any other key than that of the links.

mod file;
mod target;

use std::time::{SystemTime, UNIX_EPOCH};

use http::{Method, Response, StatusCode};
use millrace_kit::link::Key;
use millrace_kit::{Problem, reply, variable};
use spin_sdk::http::{BoxBody, Request, box_body};
use spin_sdk::http_service;

use crate::file::File;
use crate::target::Target;

/// Serves the component's one route.
#[http_service]
async fn handle(request: Request) -> Response<BoxBody> {
    match file(&request).await {
        Ok(file) => file.response(),
        Err(problem) => reply(Err(problem)).map(box_body),
    }
}

/// The file that a request's link is for. HEAD is GET whose body the host leaves out.
async fn file(request: &Request) -> Result<File, Problem> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(Problem::method_not_allowed("GET, HEAD"));
    }
    let key = Key::new(&variable::get("artifact_signing_key").await?)?;

    let target = Target::of(request.uri()).ok_or_else(invalid_signature)?;
    if !key.has_signed(&target.link(), &target.signature) {
        return Err(invalid_signature());
    }
    // Only now: whoever has no good link learns nothing of his own expiry either.
    if target.expires <= now() {
        let error = "the link has expired";
        return Err(Problem::new(StatusCode::FORBIDDEN, "link_expired", error));
    }

    let file = target.is_well_formed().then(|| File::open(&target.link()));
    file.flatten().ok_or_else(|| {
        let error = "there is no such file";
        Problem::new(StatusCode::NOT_FOUND, "object_not_found", error)
    })
}

fn invalid_signature() -> Problem {
    let error = "the link is not one that was signed here";
    Problem::new(StatusCode::FORBIDDEN, "invalid_signature", error)
}

/// Seconds since 1970; a clock before that would be one at which nothing has expired, so it counts as the end of time.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(u64::MAX, |since| since.as_secs())
}
