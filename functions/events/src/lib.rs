//! `GET /api/collab/events/stream`: what happens to a job, or to the jobs of a queue, as it happens (server-sent events, WHATWG
//! HTML section 9.2).

mod frame;
mod stream;

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{Either, Full, StreamBody};
use millrace_contract::event::{EventStream, Place};
use millrace_kit::auth::Scope;
use millrace_kit::{Problem, parse, reply, request, variable};
use spin_sdk::http::Request;
use spin_sdk::http_service;

use crate::stream::{Followed, Open, Times};

/// A body that is whole, or one that comes as things happen.
type Body = Either<Full<Bytes>, StreamBody<Chunks>>;

/// The chunks of a body. Nobody asks for one before the last has gone out, so a slow client costs one page.
type Chunks = Pin<Box<dyn Stream<Item = Result<Frame<Bytes>, Infallible>>>>;

/// Serves the component's one route.
#[http_service]
async fn handle(request: Request) -> Response<Body> {
    match open(request).await {
        Ok(Open::Stream(chunks)) => streaming(Box::pin(chunks.chunks())),
        Ok(Open::Over) => no_content(),
        Err(problem) => reply(Err(problem)).map(Either::Left),
    }
}

/// Reads the first page before the response's head goes out, so that a refusal is an ordinary one.
async fn open(request: Request) -> Result<Open, Problem> {
    request::only(request.method(), "GET")?;
    let caller = variable::caller(request.headers(), Scope::Read).await?;

    let wanted: EventStream = parse::query(request.uri().query())?;
    let (source, until_end, place) = wanted.checked()?;
    let after = last_event_id(request.headers())?.or(place);

    let times = Times {
        stream: seconds("stream_seconds").await?,
        heartbeat: seconds("stream_heartbeat_seconds").await?,
    };
    Followed::new(caller, source, until_end, after, times)
        .open()
        .await
}

/// The place that a client brings back by itself when it reconnects; an empty one counts as none.
fn last_event_id(headers: &HeaderMap) -> Result<Option<Place>, Problem> {
    let Some(value) = headers
        .get("last-event-id")
        .filter(|value| !value.is_empty())
    else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().to_owned();
    match Place::try_from(text) {
        Ok(place) => Ok(Some(place)),
        Err(why) => Err(Problem::invalid("Last-Event-ID", &why)),
    }
}

/// A variable that is a number of seconds, of an hour at most.
async fn seconds(name: &'static str) -> Result<Duration, Problem> {
    match variable::get(name).await?.parse() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err(variable::wrong(name, "is no integer from 1 to 3600")),
    }
}

/// The head of a stream. Nothing on the way may keep it, change it, or hold parts of it back.
fn streaming(chunks: Chunks) -> Response<Body> {
    let mut response = Response::new(Either::Right(StreamBody::new(chunks)));
    for (name, value) in [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store, no-transform"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// 204: what a client understands that would else reconnect for ever.
fn no_content() -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
