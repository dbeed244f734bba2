//! GraphQL over HTTP, the working draft of https://graphql.github.io/graphql-over-http/draft/: what a request asks for, in which form it takes the answer,
//! and how that is written.

use std::io;

use async_graphql::{ServerError, Value};
use bytes::Bytes;
use futures::stream::LocalBoxStream;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::{Either, Full, StreamBody};
use millrace_kit::{Problem, request};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::exact::Exact;
use crate::memory::{Held, Share};
use crate::refusal::{self, Refusal, code};

/// The longest answer, in bytes.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

/// How many errors an answer lists.
const MAX_ERRORS: usize = 50;

/// A body that is whole, or one that comes as things happen.
pub type Body = Either<Full<Bytes>, StreamBody<Chunks>>;

/// The chunks of a body. Nobody asks for one before the last has gone out, so a slow client costs one answer.
pub type Chunks = LocalBoxStream<'static, Result<Frame<Bytes>, std::convert::Infallible>>;

/// The forms of an answer that is whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// `application/graphql-response+json`: the status tells whether there is an answer.
    GraphQl,
    /// `application/json`, for older clients: 200 for whatever a GraphQL server had to say.
    Json,
}

/// What a client takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The form of whole answers that it likes best, if it takes one.
    pub form: Option<Form>,
    /// Whether it takes `text/event-stream`.
    pub events: bool,
    /// Whether it is a browser that wants a page.
    pub html: bool,
}

impl Accepted {
    /// Reads `Accept` (RFC 9110 section 12.5.1); without one anything is taken, and `application/json` given.
    pub fn of(headers: &HeaderMap) -> Self {
        let values = headers.get_all(ACCEPT).iter();
        let text: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
        let text = match text.is_empty() {
            true => "*/*".to_owned(),
            false => text.join(","),
        };
        let ranges: Vec<Range> = text.split(',').filter_map(Range::parse).collect();
        let (graphql, json) = (
            quality(&ranges, "application/graphql-response+json"),
            quality(&ranges, "application/json"),
        );
        let named = |name| {
            ranges
                .iter()
                .any(|range| range.name == name && range.quality > 0)
        };
        Self {
            form: match (graphql, json) {
                (0, 0) => None,
                // Where a client names neither, an older one is served (the draft's section 6.2).
                _ if graphql > json => Some(Form::GraphQl),
                _ if graphql == json && named("application/graphql-response+json") => {
                    Some(Form::GraphQl)
                }
                _ => Some(Form::Json),
            },
            events: named("text/event-stream"),
            html: named("text/html"),
        }
    }
}

/// A media range of `Accept` with its quality in thousandths.
struct Range {
    name: String,
    quality: u16,
}

impl Range {
    /// None for a range of another charset than UTF-8, in which nothing is written here.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next()?.to_ascii_lowercase();
        let mut quality = 1000;
        for part in parts {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key.trim().to_ascii_lowercase().as_str() {
                "q" => quality = thousandths(value.trim()),
                "charset" if !is_utf8(value) => return None,
                _ => {}
            }
        }
        (!name.is_empty()).then_some(Self { name, quality })
    }
}

fn is_utf8(charset: &str) -> bool {
    let charset = charset.trim().trim_matches('"');
    charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
}

/// A quality from 0 to 1; one that is none counts as 0.
fn thousandths(text: &str) -> u16 {
    match text.parse::<f32>() {
        // In the range, so no sign and no overflow.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Ok(quality) if (0.0..=1.0).contains(&quality) => (quality * 1000.0) as u16,
        _ => 0,
    }
}

/// How much a media type is liked: the range that names it best decides.
fn quality(ranges: &[Range], media_type: &str) -> u16 {
    let best = |name: &str| {
        let fitting = ranges.iter().filter(|range| range.name == name);
        fitting.map(|range| range.quality).max()
    };
    best(media_type)
        .or_else(|| best("application/*"))
        .or_else(|| best("*/*"))
        .unwrap_or_default()
}

/// What a client asks, not yet looked into.
#[derive(Debug, PartialEq, Eq)]
pub struct Params {
    pub query: String,
    pub operation: Option<String>,
    /// The JSON text of an object, or of null.
    pub variables: Option<String>,
}

/// A body as it came; the types of the fields are still to be checked, so that an error can name them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted<'a> {
    #[serde(borrow)]
    query: Option<&'a RawValue>,
    #[serde(borrow)]
    operation_name: Option<&'a RawValue>,
    #[serde(borrow)]
    variables: Option<&'a RawValue>,
    #[serde(borrow)]
    extensions: Option<&'a RawValue>,
}

/// Reads the parameters of a POST.
///
/// # Errors
/// 415 and 413, and 400 for a body that is no such object.
pub async fn posted(head: &Parts, body: impl http_body::Body) -> Result<Params, Problem> {
    let body = request::json_body(&head.headers, body).await?;
    let text = std::str::from_utf8(&body).map_err(|_| no_json("the body is not UTF-8"))?;
    if text.trim_start().starts_with('[') {
        return Err(bad(
            "the body is an array: requests are not taken in batches",
        ));
    }
    let posted: Posted = serde_json::from_str(text).map_err(|error| match error.is_data() {
        true => bad("the body is not an object, or has a field twice"),
        false => no_json("the body is not JSON"),
    })?;
    is_object("extensions", posted.extensions)?;
    is_object("variables", posted.variables)?;
    Params::new(
        text_of("query", posted.query)?,
        text_of("operationName", posted.operation_name)?,
        posted.variables.map(|raw| raw.get().to_owned()),
    )
}

/// Reads the parameters of a GET.
///
/// # Errors
/// 400 for a query string without a query, or with a parameter of another form.
pub fn got(query: Option<&str>) -> Result<Params, Problem> {
    let (mut text, mut operation, mut variables, mut extensions) = (None, None, None, None);
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let slot = match &*name {
            "query" => &mut text,
            "operationName" => &mut operation,
            "variables" => &mut variables,
            "extensions" => &mut extensions,
            _ => continue,
        };
        if slot.replace(value.into_owned()).is_some() {
            return Err(bad(&format!("{name}: is given twice")));
        }
    }
    for (name, value) in [("variables", &variables), ("extensions", &extensions)] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            let raw = serde_json::from_str::<&RawValue>(value)
                .map_err(|_| bad(&format!("{name}: is not JSON")))?;
            is_object(name, (raw.get() != "null").then_some(raw))?;
        }
    }
    Params::new(text, operation, variables.filter(|value| !value.is_empty()))
}

impl Params {
    fn new(
        query: Option<String>,
        operation: Option<String>,
        variables: Option<String>,
    ) -> Result<Self, Problem> {
        let query = query.ok_or_else(|| bad("query: is required"))?;
        Ok(Self {
            query,
            // Tools send an empty one for none.
            operation: operation.filter(|name| !name.is_empty()),
            variables,
        })
    }
}

fn text_of(name: &str, raw: Option<&RawValue>) -> Result<Option<String>, Problem> {
    let text = raw.map(|raw| serde_json::from_str(raw.get())).transpose();
    text.map_err(|_| bad(&format!("{name}: is not a text")))
}

fn is_object(name: &str, raw: Option<&RawValue>) -> Result<(), Problem> {
    match raw.is_none_or(|raw| raw.get().starts_with('{')) {
        true => Ok(()),
        false => Err(bad(&format!("{name}: is not an object"))),
    }
}

/// 400: the request itself is malformed.
fn bad(why: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_request", why)
}

/// 400: what should be JSON is none.
fn no_json(why: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "invalid_json", why)
}

/// 406: nothing that the client takes can be given.
pub fn not_acceptable(why: &str) -> Problem {
    Problem::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", why)
}

/// The response to a request that is not one of GraphQL's, or not now, in the form that the client takes, or in JSON: with the status and the header
/// that the kit gives it, the challenge of a 401 or when to come back after a 503.
pub fn refused(problem: Problem, form: Option<Form>) -> Response<Body> {
    let refusal = Refusal::of(&problem);
    let kit = millrace_kit::reply(Err(problem));
    let mut error = refusal.into_server_error();
    if !matches!(kit.status().as_u16(), 401 | 403 | 500..) {
        let extensions = error.extensions.get_or_insert_default();
        extensions.set("code", code::of_request(kit.status()));
    }
    let form = form.unwrap_or(Form::Json);
    let mut response = whole(form, kit.status(), &Outcome::refused(error));
    for (name, value) in kit.headers() {
        if !response.headers().contains_key(name) {
            response.headers_mut().insert(name.clone(), value.clone());
        }
    }
    response
}

/// The result of an operation: without `data` it was never executed.
pub struct Outcome {
    pub data: Option<Value>,
    pub errors: Vec<ServerError>,
    /// Another status than its form has for it.
    pub status: Option<StatusCode>,
}

impl Outcome {
    /// One that was never executed.
    pub fn refused(error: ServerError) -> Self {
        let is_busy = refusal::has_code(&error, code::UNAVAILABLE);
        Self {
            data: None,
            errors: vec![error],
            status: is_busy.then_some(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    /// One that was executed, and of whose data nothing can be told.
    fn withheld(code: &'static str, why: impl Into<String>) -> Self {
        let is_busy = code == code::UNAVAILABLE;
        Self {
            data: Some(Value::Null),
            errors: vec![refusal::error(code, why, None)],
            status: is_busy.then_some(StatusCode::SERVICE_UNAVAILABLE),
        }
    }

    pub fn response(&self, form: Form) -> Response<Body> {
        let status = match (form, &self.data) {
            (Form::GraphQl, None) => StatusCode::BAD_REQUEST,
            _ => StatusCode::OK,
        };
        whole(form, self.status.unwrap_or(status), self)
    }

    /// As JSON in one line, between these texts.
    pub fn within(&self, before: &str, after: &str) -> Bytes {
        let written = self.written(before, after);
        written.unwrap_or_else(|instead| instead.small(before, after))
    }

    /// The same, or what is to be answered instead.
    fn written(&self, before: &str, after: &str) -> Result<Bytes, Self> {
        let Some(length) = self.length() else {
            let why = format!("the answer is more than {ANSWER_LIMIT} bytes: ask for less at once");
            return Err(Self::withheld(code::TOO_COMPLEX, why));
        };
        let length = before.len() + length + after.len();
        let Some(share) = Share::take(length) else {
            let why = "too much is being answered: try again";
            return Err(Self::withheld(code::UNAVAILABLE, why));
        };
        let bytes = self.bytes(length, before, after);
        Ok(Bytes::from_owner(Held { bytes, share }))
    }

    /// An answer that needs no share.
    fn small(&self, before: &str, after: &str) -> Bytes {
        self.bytes(0, before, after).into()
    }

    fn bytes(&self, length: usize, before: &str, after: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(before.as_bytes());
        // Nothing in it fails: its length was taken by writing it to nowhere.
        _ = serde_json::to_writer(&mut bytes, &self.whole());
        bytes.extend_from_slice(after.as_bytes());
        bytes
    }

    /// How long it is as JSON, if it is not too long.
    fn length(&self) -> Option<usize> {
        let mut room = Room(ANSWER_LIMIT);
        serde_json::to_writer(&mut room, &self.whole()).ok()?;
        Some(ANSWER_LIMIT - room.0)
    }

    fn whole(&self) -> Whole<'_> {
        let (errors, rest) = self.errors.split_at(self.errors.len().min(MAX_ERRORS));
        let more = rest.first().map(|first| {
            let mut more = ServerError::new(format!("and {} errors more", rest.len()), None);
            more.extensions.clone_from(&first.extensions);
            more
        });
        let errors = errors.iter().cloned().chain(more).collect();
        let data = self.data.as_ref().map(Exact);
        Whole { errors, data }
    }
}

/// An outcome as it is written.
#[derive(Serialize)]
struct Whole<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ServerError>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Exact<'a>>,
}

/// Takes what is written as long as there is room, and keeps none of it.
struct Room(usize);

impl io::Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.checked_sub(bytes.len()) {
            Some(left) => self.0 = left,
            None => return Err(io::ErrorKind::StorageFull.into()),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn whole(form: Form, status: StatusCode, outcome: &Outcome) -> Response<Body> {
    let media_type = match form {
        Form::GraphQl => "application/graphql-response+json; charset=utf-8",
        Form::Json => "application/json; charset=utf-8",
    };
    match outcome.written("", "") {
        Ok(body) => of(status, media_type, body),
        Err(instead) => {
            let status = instead.status.unwrap_or(status);
            of(status, media_type, instead.small("", ""))
        }
    }
}

/// A whole response, which no cache may keep.
pub fn of(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let body = body.into();
    let length = body.len();
    let mut response = Response::new(Either::Left(Full::new(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A response of events. Nothing on the way may keep it, change it, or hold parts of it back.
pub fn events(chunks: Chunks) -> Response<Body> {
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

/// The methods that this face has.
///
/// # Errors
/// 405 for others.
pub fn is_get(method: &Method) -> Result<bool, Problem> {
    match *method {
        Method::GET => Ok(true),
        Method::POST => Ok(false),
        _ => Err(Problem::method_not_allowed("GET, POST")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(text: &str) -> Accepted {
        let value = HeaderValue::from_str(text).unwrap();
        Accepted::of(&HeaderMap::from_iter([(ACCEPT, value)]))
    }

    #[test]
    fn the_form_is_the_one_that_the_client_likes_best() {
        use Form::{GraphQl, Json};
        for (text, form) in [
            ("*/*", Some(Json)),
            ("application/*", Some(Json)),
            ("application/json", Some(Json)),
            ("application/json; charset=utf-8", Some(Json)),
            ("application/json; charset=utf-16", None),
            ("application/graphql-response+json", Some(GraphQl)),
            (
                "Application/GraphQL-Response+JSON, application/json",
                Some(GraphQl),
            ),
            (
                "application/graphql-response+json;q=0.5, application/json;q=0.4",
                Some(GraphQl),
            ),
            (
                "application/graphql-response+json;q=0.4, application/json;q=0.5",
                Some(Json),
            ),
            (
                "application/graphql-response+json;q=0, */*;q=0.1",
                Some(Json),
            ),
            (
                "application/json;q=0, application/graphql-response+json;q=0",
                None,
            ),
            (
                "application/graphql-response+json, */*;q=0.1",
                Some(GraphQl),
            ),
            ("text/html", None),
            ("", None),
        ] {
            assert_eq!(accepted(text).form, form, "{text}");
        }
        assert_eq!(Accepted::of(&HeaderMap::new()).form, Some(Json));
    }

    #[test]
    fn events_and_pages_are_for_those_who_name_them() {
        assert!(accepted("text/event-stream").events);
        assert!(accepted("application/json, text/event-stream;q=0.5").events);
        assert!(!accepted("text/event-stream;q=0").events);
        assert!(!accepted("*/*").events);
        assert!(accepted("text/html,application/xhtml+xml,*/*;q=0.8").html);
        assert!(!accepted("*/*").html);
    }

    #[test]
    fn parameters_of_a_get() {
        let params = got(Some(
            "query=%7Ba%7D&operationName=&variables=%7B%22a%22%3A1.10%7D&other=1",
        ));
        let params = params.unwrap();
        assert_eq!(params.query, "{a}");
        assert_eq!(params.operation, None);
        assert_eq!(params.variables.unwrap(), r#"{"a":1.10}"#);
        for bad in [
            "",
            "query=a&query=b",
            "query=a&variables=1",
            "query=a&variables=x",
            "query=a&extensions=[]",
        ] {
            assert!(got(Some(bad)).is_err(), "{bad}");
        }
        assert!(got(Some("query=a&variables=null&extensions={}")).is_ok());
    }
}
