//! What the requests of all providers have in common.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Request, request};
use http_body_util::Full;
use serde_json::Value;

use crate::provider::Impossible;

/// The head of a POST that wants JSON back. Resend refuses requests that don't say who they come from.
pub fn post(url: &str) -> request::Builder {
    Request::post(url)
        .header(USER_AGENT, concat!("millrace/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/json")
}

/// A header value that no `Debug` shows.
///
/// # Errors
/// It has characters that a header can't.
pub fn secret(value: &str) -> Result<HeaderValue, Impossible> {
    let mut value = HeaderValue::from_str(value).map_err(|_| Impossible)?;
    value.set_sensitive(true);
    Ok(value)
}

/// A request with a JSON body.
///
/// # Errors
/// The head is none.
pub fn with_json(head: request::Builder, body: &Value) -> Result<Request<Full<Bytes>>, Impossible> {
    let head = head.header(CONTENT_TYPE, "application/json");
    Ok(head.body(Full::new(Bytes::from(body.to_string())))?)
}

/// A request with a form as its body.
///
/// # Errors
/// The head is none.
pub fn with_form<'a>(
    head: request::Builder,
    fields: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Request<Full<Bytes>>, Impossible> {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.extend_pairs(fields);
    let head = head.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    Ok(head.body(Full::new(Bytes::from(form.finish())))?)
}

/// Leaves out the fields that are null: providers take a missing field for nothing, and not all of them a null.
pub fn without_nulls(mut body: Value) -> Value {
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    body
}
