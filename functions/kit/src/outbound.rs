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
    /// The component may not call that host, or the address that its name leads to.
    Denied,
    /// Nobody answers there: there was no connection, so nothing of the request has left.
    Unreachable,
    /// It takes longer than it may.
    TooSlow,
    /// The connection ended before the answer was whole, or before it began.
    BrokenOff,
    /// It has more bytes than it may.
    TooLong,
}

impl Broken {
    /// Whether what was asked for may have been done all the same: the request, or some of it, may have arrived.
    pub fn may_have_acted(self) -> bool {
        !matches!(self, Self::Denied | Self::Unreachable)
    }
}

/// Sends a request and reads the answer whole.
///
/// # Errors
/// Why there is none. What was asked for may have been done all the same if [`Broken::may_have_acted`].
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

/// Sends a request and reads the answer's head alone, for callers to whom only that matters; its body is left where it is.
///
/// # Errors
/// As [`ask`].
pub async fn head(request: Request<Full<Bytes>>, time: Duration) -> Result<Response<()>, Broken> {
    let asked = within(time, async {
        let answer = spin_sdk::http::send(request).await;
        Ok(answer.map_err(unanswered)?.map(drop))
    });
    asked.await.unwrap_or(Err(Broken::TooSlow))
}

/// What the host's error says about the request: only those that come before there is a connection prove that nothing left.
fn unanswered(error: ErrorCode) -> Broken {
    match error {
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => Broken::Denied,
        ErrorCode::DnsTimeout
        | ErrorCode::DnsError(_)
        | ErrorCode::DestinationNotFound
        | ErrorCode::DestinationUnavailable
        | ErrorCode::DestinationIpUnroutable
        | ErrorCode::ConnectionRefused
        | ErrorCode::ConnectionTimeout
        | ErrorCode::ConnectionLimitReached
        | ErrorCode::TlsProtocolError
        | ErrorCode::TlsCertificateError
        | ErrorCode::HttpRequestUriInvalid => Broken::Unreachable,
        ErrorCode::ConnectionReadTimeout
        | ErrorCode::ConnectionWriteTimeout
        | ErrorCode::HttpResponseTimeout => Broken::TooSlow,
        _ => Broken::BrokenOff,
    }
}

/// What `work` comes to, unless it takes longer than `time`; what of it is under way then is given up.
pub async fn within<T>(time: Duration, work: impl Future<Output = T>) -> Option<T> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_before_the_connection_proves_that_nothing_left() {
        for (error, broken) in [
            (ErrorCode::HttpRequestDenied, Broken::Denied),
            (ErrorCode::ConnectionRefused, Broken::Unreachable),
            (ErrorCode::ConnectionTimeout, Broken::Unreachable),
            (ErrorCode::TlsCertificateError, Broken::Unreachable),
        ] {
            assert_eq!(unanswered(error), broken);
            assert!(!broken.may_have_acted());
        }
        for (error, broken) in [
            (ErrorCode::ConnectionTerminated, Broken::BrokenOff),
            (ErrorCode::HttpProtocolError, Broken::BrokenOff),
            (ErrorCode::InternalError(None), Broken::BrokenOff),
            (ErrorCode::ConnectionReadTimeout, Broken::TooSlow),
        ] {
            assert_eq!(unanswered(error), broken);
            assert!(broken.may_have_acted());
        }
        assert!(Broken::TooLong.may_have_acted());
    }
}
