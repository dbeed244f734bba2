//! A reply that an instance keeps for a second, and that one request at a time gets from the database. Anybody may ask, and as often as he
//! likes: what that costs the database depends neither on how often, nor on how long the statement takes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_kit::Reply;
use spin_sdk::time::sleep;

/// For how long nobody is asked, from the reply on.
const KEPT: Duration = Duration::from_secs(1);

/// How old a reply may be that others are given while one request asks.
const SHOWN_MEANWHILE: Duration = Duration::from_secs(10);

/// How often those look who have nothing to be given. One request can't wake another's task in this runtime.
const LOOK: Duration = Duration::from_millis(10);

/// What the instance knows.
pub struct Kept {
    /// It is never locked across an await.
    state: Mutex<State>,
}

struct State {
    last: Option<Last>,
    is_asked: bool,
}

/// A reply, of success or not, and when it was there.
struct Last {
    reply: Reply,
    at: Instant,
}

/// What a request does next.
enum Step<'a> {
    Show(Reply),
    Ask(Turn<'a>),
    Wait,
}

impl Kept {
    pub const fn new() -> Self {
        let state = State {
            last: None,
            is_asked: false,
        };
        Self {
            state: Mutex::new(state),
        }
    }

    /// The reply that is kept, or what `ask` comes to.
    pub async fn reply(&self, ask: impl AsyncFnOnce() -> Reply) -> Reply {
        loop {
            match self.step(Instant::now()) {
                Step::Show(reply) => return reply,
                Step::Wait => sleep(LOOK).await,
                Step::Ask(turn) => {
                    let reply = ask().await;
                    turn.end(reply.clone(), Instant::now());
                    return reply;
                }
            }
        }
    }

    fn step(&self, now: Instant) -> Step<'_> {
        let mut state = self.state();
        let good_for = match state.is_asked {
            true => SHOWN_MEANWHILE,
            false => KEPT,
        };
        let good = |last: &&Last| now.saturating_duration_since(last.at) < good_for;
        if let Some(last) = state.last.as_ref().filter(good) {
            return Step::Show(last.reply.clone());
        }
        match std::mem::replace(&mut state.is_asked, true) {
            true => Step::Wait,
            false => Step::Ask(Turn(self)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to ask. It is free for the next also where the host ends the request before there is a reply.
struct Turn<'a>(&'a Kept);

impl Turn<'_> {
    fn end(self, reply: Reply, at: Instant) {
        self.0.state().last = Some(Last { reply, at });
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.state().is_asked = false;
    }
}

#[cfg(test)]
mod tests {
    use millrace_kit::{Answer, gateway};

    use super::*;

    fn reply(text: &'static str) -> Reply {
        gateway::reply(Ok(Answer::json(text)))
    }

    fn turn(kept: &Kept, now: Instant) -> Turn<'_> {
        match kept.step(now) {
            Step::Ask(turn) => turn,
            Step::Show(_) => panic!("something is shown"),
            Step::Wait => panic!("somebody is asking"),
        }
    }

    fn is_shown(kept: &Kept, now: Instant) -> bool {
        matches!(kept.step(now), Step::Show(_))
    }

    fn waits(kept: &Kept, now: Instant) -> bool {
        matches!(kept.step(now), Step::Wait)
    }

    #[test]
    fn a_reply_is_kept_for_a_second_from_when_it_was_there() {
        let (kept, start) = (Kept::new(), Instant::now());
        let there = start + Duration::from_secs(5);
        turn(&kept, start).end(reply("1"), there);
        assert!(is_shown(&kept, there + KEPT / 2));
        drop(turn(&kept, there + KEPT));
    }

    #[test]
    fn one_asks_while_others_wait_or_are_shown_what_is_not_too_old() {
        let (kept, start) = (Kept::new(), Instant::now());
        let first = turn(&kept, start);
        assert!(waits(&kept, start));
        first.end(reply("1"), start);

        let second = turn(&kept, start + KEPT);
        assert!(is_shown(&kept, start + SHOWN_MEANWHILE - LOOK));
        assert!(waits(&kept, start + SHOWN_MEANWHILE));
        drop(second);
        drop(turn(&kept, start + SHOWN_MEANWHILE));
    }

    #[test]
    fn whoever_is_ended_leaves_the_turn_to_the_next() {
        let (kept, now) = (Kept::new(), Instant::now());
        drop(turn(&kept, now));
        drop(turn(&kept, now));
    }
}
