//! Requests of a function to somebody else over HTTP. An answer is read whole, within a time and up to a length. A redirect
//! is an answer like any other and is not followed, so what a request carries goes nowhere else.

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Full};
use spin_sdk::time::sleep;
use spin_sdk::wasip3::http::types::ErrorCode;

/// How long an answer may take, from the first byte sent to the last one received, and how many bytes it may have.
#[derive(Clone, Copy)]
pub struct Bounds {
    pub time: Duration,
    pub length: usize,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// The component may not call that host.
    Denied,
    /// Nobody answers there.
    Unreachable,
    /// It takes longer than it may.
    TooSlow,
    /// It ended in the middle.
    BrokenOff,
    /// It has more bytes than it may.
    TooLong,
}

/// Sends a request and reads the answer whole.
///
/// # Errors
/// Why there is none. Whatever has been sent may have been done all the same, unless it is [`Broken::Denied`].
pub async fn ask(
    request: Request<Full<Bytes>>,
    bounds: Bounds,
) -> Result<Response<Vec<u8>>, Broken> {
    let asked = within(bounds.time, async {
        let answer = spin_sdk::http::send(request).await;
        let (head, body) = answer.map_err(unanswered)?.into_parts();
        let body = whole(body, bounds.length).await?;
        Ok(Response::from_parts(head, body))
    });
    asked.await.unwrap_or(Err(Broken::TooSlow))
}

fn unanswered(error: ErrorCode) -> Broken {
    match error {
        ErrorCode::HttpRequestDenied => Broken::Denied,
        _ => Broken::Unreachable,
    }
}

/// What `work` comes to, unless it takes longer than `time`.
async fn within<T>(time: Duration, work: impl Future<Output = T>) -> Option<T> {
    let (mut work, mut alarm) = (pin!(work), pin!(sleep(time)));
    std::future::poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => alarm.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// A body of at most `length` bytes.
async fn whole<B: Body>(body: B, length: usize) -> Result<Vec<u8>, Broken> {
    let mut body = pin!(body);
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame.map_err(|_| Broken::BrokenOff)?.into_data() else {
            continue;
        };
        if bytes.len().saturating_add(data.remaining()) > length {
            return Err(Broken::TooLong);
        }
        while data.has_remaining() {
            let chunk = data.chunk().len();
            bytes.extend_from_slice(data.chunk());
            data.advance(chunk);
        }
    }
    Ok(bytes)
}
