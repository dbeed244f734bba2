//! Results as server-sent events, as the GraphQL-SSE protocol has them in its distinct connections mode: `next` for each result, and `complete`
//! behind the last. A stream whose time is up ends without `complete`, so that the client comes back.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use async_graphql::Response;
use bytes::Bytes;
use futures::future::{Either, Fuse, FutureExt, LocalBoxFuture, select};
use futures::stream::{self, BoxStream, StreamExt};
use http_body::Frame;
use millrace_kit::{Problem, log, variable};
use spin_sdk::time;

use crate::driver::Statements;
use crate::operation::{Answers, Following};
use crate::protocol::{Body, Outcome, events};

/// What a result stands behind. JSON has no line breaks in its strings, and neither serde_json nor Postgres writes any between them.
const NEXT: &str = "event: next\ndata: ";

const COMPLETE: &str = "event: complete\ndata:\n\n";

/// A comment, which says that the stream lives.
const HEARTBEAT: &str = ":\n\n";

/// How long a stream goes on, and how long it may be silent.
pub struct Times {
    stream: Duration,
    heartbeat: Duration,
}

impl Times {
    /// As the variables say.
    ///
    /// # Errors
    /// 500 where one means nothing.
    pub async fn read() -> Result<Self, Problem> {
        Ok(Self {
            stream: seconds("stream_seconds").await?,
            heartbeat: seconds("stream_heartbeat_seconds").await?,
        })
    }
}

/// A variable that is a number of seconds, of an hour at most.
async fn seconds(name: &'static str) -> Result<Duration, Problem> {
    match variable::get(name).await?.parse() {
        Ok(seconds @ 1..=3600) => Ok(Duration::from_secs(seconds)),
        _ => Err(variable::wrong(name, "is no integer from 1 to 3600")),
    }
}

/// One result, of a query or a mutation.
pub fn one(outcome: &Outcome) -> http::Response<Body> {
    let text = outcome.within(NEXT, concat!("\n\n", "event: complete\ndata:\n\n"));
    let frame = Ok(Frame::data(text));
    events(stream::once(async { frame }).boxed_local())
}

/// The results of a subscription, and what came of its first statements: the first result is there before the head goes out, so that nobody is
/// let in who should not be.
///
/// # Errors
/// As [`crate::operation::Operation::execute`].
pub async fn many(
    following: Following,
    times: Times,
) -> Result<(http::Response<Body>, Statements), Problem> {
    let mut live = Live::new(following, times);
    let first = live.response().await;
    let mut statements = live.statements.take();
    statements.fail_as_a_whole()?;
    live.ready = Some(live.text(first));
    let chunks = stream::unfold(live, async |mut live: Live| {
        let text = live.next().await?;
        Some((Ok(Frame::data(text)), live))
    });
    Ok((events(chunks.boxed_local()), statements))
}

/// A subscription while somebody listens.
struct Live {
    responses: BoxStream<'static, Response>,
    driver: Fuse<LocalBoxFuture<'static, ()>>,
    statements: Rc<RefCell<Statements>>,
    answers: Answers,
    times: Times,
    start: Instant,
    /// What goes out before anything else is asked.
    ready: Option<Bytes>,
    is_over: bool,
}

impl Live {
    fn new(following: Following, times: Times) -> Self {
        Self {
            responses: following.responses,
            driver: following.driver.run().boxed_local().fuse(),
            statements: following.statements,
            answers: following.answers,
            times,
            start: Instant::now(),
            ready: None,
            is_over: false,
        }
    }

    /// The next result, which the driver's statements lead to; none behind the last.
    async fn response(&mut self) -> Option<Response> {
        match select(self.responses.next(), &mut self.driver).await {
            Either::Left((response, _)) => response,
            Either::Right(((), responses)) => responses.await,
        }
    }

    /// What is said of a response, or of there being no more.
    fn text(&mut self, response: Option<Response>) -> Bytes {
        let Some(response) = response else {
            self.is_over = true;
            return COMPLETE.into();
        };
        self.answers.completed(response).within(NEXT, "\n\n")
    }

    async fn next(&mut self) -> Option<Bytes> {
        if let Some(text) = self.ready.take() {
            return Some(text);
        }
        let left = self.times.stream.saturating_sub(self.start.elapsed());
        if self.is_over || left.is_zero() {
            return None;
        }
        let alarm = time::sleep(self.times.heartbeat.min(left));
        let response = match select(Box::pin(self.response()), Box::pin(alarm)).await {
            Either::Left((response, _)) => response,
            Either::Right(((), _)) => return Some(HEARTBEAT.into()),
        };
        // The head is out, and what failed is no result: all that is left is to end, and to refuse the client when he comes back.
        if let Some(problem) = self.statements.borrow().failed.as_ref() {
            log::line(format_args!(
                "a subscription ends early: {}",
                problem.code()
            ));
            return None;
        }
        Some(self.text(response))
    }
}
