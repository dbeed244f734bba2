//! Wake-up: after something was enqueued, the drains of the channels that have something due are called, so that a job reaches its
//! handler at once and not at the next tick. A wake-up that is lost harms nothing, since the tick follows; so none is repeated, and no answer waits for one.
//!
//! In an instance there is at most one under way, and what is enqueued meanwhile leads to exactly one more after it: a thousand enqueues do not
//! make a thousand runs. Which channels are meant is asked of the database after the answer has gone out, so that no answer has to say it, it
//! costs an enqueue nothing, and a job that is due later wakes nobody.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::header::CONTENT_LENGTH;
use http::{Request, StatusCode};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, Serialize};
use spin_sdk::{variables, wasip3};

use crate::auth::Caller;
use crate::outbound::{Bounds, Broken, ask};
use crate::{database, log};

/// A drain answers before it runs.
const BOUNDS: Bounds = Bounds {
    time: Duration::from_secs(5),
    length: 64 * 1024,
};

static UNDER_WAY: AtomicBool = AtomicBool::new(false);
static AGAIN: AtomicBool = AtomicBool::new(false);

/// Wakes the channels that have something due, once the function has answered. It does nothing where the component has no `wake_url` or
/// no `wake_key`.
pub fn channels() {
    AGAIN.store(true, Ordering::Relaxed);
    if UNDER_WAY.swap(true, Ordering::Relaxed) {
        return;
    }
    wasip3::spawn(async {
        let _turn = Turn;
        while AGAIN.swap(false, Ordering::Relaxed) {
            round().await;
        }
    });
}

/// Frees the way also where the host ends the task before it is done.
struct Turn;

impl Drop for Turn {
    fn drop(&mut self) {
        UNDER_WAY.store(false, Ordering::Relaxed);
    }
}

/// How a drain is called.
struct Way {
    url: String,
    key: String,
}

impl Way {
    async fn read() -> Option<Self> {
        let (url, key) = (variable("wake_url").await, variable("wake_key").await);
        (!url.is_empty() && !key.is_empty()).then_some(Self { url, key })
    }

    async fn call(&self, queue: &str) {
        let base = self.url.trim_end_matches('/');
        let queue = utf8_percent_encode(queue, NON_ALPHANUMERIC);
        let request = Request::post(format!("{base}/channels/{queue}"))
            .header("x-api-key", &self.key)
            .header("prefer", "respond-async")
            .header(CONTENT_LENGTH, 0)
            .body(Full::new(Bytes::new()));
        // The URL might hold a password, so it is not shown.
        let why = match request {
            Err(_) => "wake_url is no URL, or wake_key can't stand in a header",
            Ok(request) => match ask(request, BOUNDS).await {
                Err(Broken::Denied) => "wake_host does not allow the host of wake_url",
                Ok(answer) if is_refused(answer.status()) => "wake_key is not good for it",
                // Whatever else is made good by the tick.
                _ => return,
            },
        };
        log::line(format_args!("a channel cannot be woken: {why}"));
    }
}

fn is_refused(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

/// A variable's value; nothing where the component does not have it.
async fn variable(name: &str) -> String {
    let value = variables::get(name).await.unwrap_or_default();
    value.trim().to_owned()
}

/// The channels that the application is configured with; the database knows those that have run already.
#[derive(Serialize)]
struct Known {
    channels: Vec<String>,
}

/// Those of them that have something due.
#[derive(Deserialize)]
struct Due {
    channels: Vec<String>,
}

async fn round() {
    let Some(way) = Way::read().await else {
        return;
    };
    let known = Known {
        channels: names(&variable("channels").await),
    };
    // What went wrong has been logged.
    let Ok(text) = database::call_text(&Caller::anyone(), "due_channels", &known).await else {
        return;
    };
    if let Ok(due) = serde_json::from_str::<Due>(&text) {
        join_all(due.channels.iter().map(|queue| way.call(queue))).await;
    }
}

fn names(list: &str) -> Vec<String> {
    let names = list.split(',').map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_channels_may_be_loose_or_empty() {
        assert_eq!(names(" email, sms,,\n"), ["email", "sms"]);
        assert!(names("").is_empty());
    }
}
