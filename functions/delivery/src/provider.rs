//! A provider, as a channel sees it.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;

use crate::ruling::Ruling;

/// Somebody who sends messages of the type `M` when asked to over HTTP.
pub trait Provider<M> {
    /// Its name, as people write it.
    fn name(&self) -> &'static str;

    /// Whether it sends a message once however often it is asked under the same key, so that asking again is safe.
    fn is_idempotent(&self) -> bool {
        false
    }

    /// The request that sends `message`. It says `job_id` wherever the provider takes an idempotency key or a reference of the
    /// client's, and is the same for each attempt, but for what a signature needs.
    ///
    /// # Errors
    /// The message cannot be written in the provider's form.
    fn request(&self, message: &M, job_id: &str) -> Result<Request<Full<Bytes>>, Impossible>;

    /// What an answer means.
    fn ruling(&self, answer: &Response<Vec<u8>>) -> Ruling;
}

/// There is no such request.
#[derive(Debug)]
pub struct Impossible;

impl From<http::Error> for Impossible {
    fn from(_: http::Error) -> Self {
        Self
    }
}
