//! A call of the handler, which ends at its deadline whatever the handler does.

use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_worker::Job;
use spin_sdk::time::sleep;

use crate::statements::Leased;

/// A call that goes on behind its deadline. Dropping it cancels the callee, and blocks this instance until that has reacted.
pub type Late<T> = Pin<Box<dyn Future<Output = T>>>;

/// How a call ended.
pub enum Ended<T> {
    /// With an answer.
    Answered(T),
    /// At its deadline.
    Late(Late<T>),
}

/// What `call` comes to within `time`.
pub async fn within<T: 'static>(
    call: impl Future<Output = T> + 'static,
    time: Duration,
) -> Ended<T> {
    let mut call: Option<Late<T>> = Some(Box::pin(call));
    let mut alarm = Box::pin(sleep(time));
    std::future::poll_fn(move |context| {
        let polled = call.as_mut().map(|call| call.as_mut().poll(context));
        if let Some(Poll::Ready(answer)) = polled {
            return Poll::Ready(Ended::Answered(answer));
        }
        match (alarm.as_mut().poll(context), call.take()) {
            (Poll::Ready(()), Some(late)) => Poll::Ready(Ended::Late(late)),
            (_, still) => {
                call = still;
                Poll::Pending
            }
        }
    })
    .await
}

/// What the handler is told about an attempt that ends `time` from now.
pub fn job(queue: &str, leased: Leased, time: Duration) -> Job {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let deadline = (now.unwrap_or_default() + time).as_millis();
    let payload = match leased.payload.get() {
        "null" => "{}".to_owned(),
        _ => Box::<str>::from(leased.payload).into_string(),
    };
    Job {
        id: leased.id,
        queue: queue.to_owned(),
        type_: leased.kind,
        attempt: leased.attempt,
        max_attempts: leased.max_attempts,
        payload,
        traceparent: leased.traceparent,
        deadline: u64::try_from(deadline).unwrap_or(u64::MAX),
        resumed: leased.resumed,
    }
}
