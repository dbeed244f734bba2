//! The life of a stream: page after page while there is more, then a look every so often, until its time is up.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::{Stream, stream};
use http_body::Frame;
use millrace_contract::event::{Place, Source};
use millrace_kit::auth::Caller;
use millrace_kit::{Problem, database, log};
use serde::Serialize;
use spin_sdk::time;

use crate::frame::{self, Page};

/// How many events are read at once. An event may hold an error of 10,000 characters, and an instance serves many streams.
const PAGE: usize = 100;

/// Between two looks for something new: the first pause, and what it grows to while nothing comes.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How long a stream goes on, and how long it may be silent.
pub struct Times {
    /// Then it ends and the client comes back: hosts give a request only so long.
    pub stream: Duration,
    /// Then it says that it lives.
    pub heartbeat: Duration,
}

/// What a request to follow something comes to.
pub enum Open {
    /// A stream.
    Stream(Followed),
    /// There is nothing to read and never will be.
    Over,
}

/// Somebody who follows a job or a queue. He is admitted again with every page, so a stored key that is revoked ends it.
pub struct Followed {
    caller: Caller,
    source: Source,
    until_end: bool,
    /// The place behind what was sent; none before the first page.
    after: Option<String>,
    times: Times,
    start: Instant,
    /// When something was sent last.
    spoke: Instant,
    pause: Duration,
    /// What goes out before anything else is read.
    ready: Option<String>,
    is_over: bool,
}

/// What `millrace_api.collab_events` is asked.
#[derive(Serialize)]
struct Request<'a> {
    #[serde(flatten)]
    source: &'a Source,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a str>,
    limit: usize,
}

impl Followed {
    /// `source`, followed from behind `after` on.
    pub fn new(
        caller: Caller,
        source: Source,
        until_end: bool,
        after: Option<Place>,
        times: Times,
    ) -> Self {
        let now = Instant::now();
        Self {
            caller,
            source,
            until_end,
            after: after.map(|place| place.as_str().to_owned()),
            times,
            start: now,
            spoke: now,
            pause: Duration::ZERO,
            ready: None,
            is_over: false,
        }
    }

    /// Reads the first page.
    ///
    /// # Errors
    /// Why nothing can be followed: 404 `job_not_found`, 400 `invalid_cursor`, and what any statement may be refused with.
    pub async fn open(mut self) -> Result<Open, Problem> {
        let is_return = self.after.is_some();
        let page = self.read().await?;
        if self.until_end && page.ended && page.count == 0 && is_return {
            return Ok(Open::Over);
        }
        let mut text = frame::RETRY.to_owned();
        // A client that is cut off before the first event must know its place too.
        match page.count {
            0 => text += &frame::heartbeat(&page.cursor),
            _ => text += &page.text,
        }
        self.take(&page, &mut text);
        self.ready = Some(text);
        Ok(Open::Stream(self))
    }

    /// The body, chunk by chunk. Each is some whole frames, so wherever it ends nothing is lost.
    pub fn chunks(self) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
        stream::unfold(self, async |mut followed: Self| {
            let text = followed.next().await?;
            Some((Ok(Frame::data(text.into())), followed))
        })
    }

    async fn next(&mut self) -> Option<String> {
        if let Some(text) = self.ready.take() {
            return Some(text);
        }
        while !self.is_over && self.start.elapsed() < self.times.stream {
            time::sleep(self.pause.min(self.time_left())).await;
            let page = match self.read().await {
                Ok(page) => page,
                Err(problem) => {
                    // The head is out: all that is left is to end, and to refuse the client when it comes back.
                    log::line(format_args!("a stream ends early: {}", problem.code()));
                    return None;
                }
            };
            let mut text = String::new();
            if self.spoke.elapsed() >= self.times.heartbeat && page.count == 0 {
                text = frame::heartbeat(&page.cursor);
            }
            text += &page.text;
            self.take(&page, &mut text);
            if !text.is_empty() {
                self.spoke = Instant::now();
                return Some(text);
            }
        }
        None
    }

    async fn read(&self) -> Result<Page, Problem> {
        let request = Request {
            source: &self.source,
            after: self.after.as_deref(),
            limit: PAGE,
        };
        let answer = database::call_text(&self.caller, "collab_events", &request).await?;
        Page::of(&answer).map_err(|error| {
            // Its place and kind; what was read is not in it.
            let (line, column) = (error.line(), error.column());
            log::line(format_args!("collab_events: not a page at {line}:{column}"));
            Problem::internal()
        })
    }

    /// Notes what a page means for the next look, and adds the end to `text` if that is reached.
    fn take(&mut self, page: &Page, text: &mut String) {
        self.after = Some(page.cursor.clone());
        self.pause = match page.count {
            PAGE => Duration::ZERO,
            0 => (self.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE),
            _ => FIRST_PAUSE,
        };
        if self.until_end && page.ended {
            text.push_str(frame::END);
            self.is_over = true;
        }
    }

    /// Until the stream ends, or has been silent for too long.
    fn time_left(&self) -> Duration {
        let until = |limit: Duration, since: Instant| limit.saturating_sub(since.elapsed());
        let (end, heartbeat) = (
            until(self.times.stream, self.start),
            until(self.times.heartbeat, self.spoke),
        );
        end.min(heartbeat)
    }
}
