//! What can go wrong between a client and a provider, point by point of the exchange, and when.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::wire::Seen;

/// One way to misbehave. "Acts" is the provider's word for doing what it was asked to: sending the message, making the event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// The connection is reset before a byte of the request is read. It does not act.
    ResetBeforeReading,
    /// The request is read whole, then the connection is reset. It does not act.
    ResetBeforeActing,
    /// It acts, then the connection is reset without a byte of the answer.
    ResetAfterActing,
    /// It acts, sends the head and half of the body (half of the head where there is no body), and the connection ends.
    HalfAnswer,
    /// It acts at once, and answers after this time, if anybody still waits then.
    SlowAnswer(Duration),
    /// It acts after this time, whether or not anybody still waits, and answers then.
    SlowToAct(Duration),
    /// This status, as the provider words its errors. It does not act.
    ErrorBeforeActing(u16),
    /// It acts, and then answers this status all the same.
    ErrorAfterActing(u16),
    /// 429. It does not act.
    TooMany(RetryAfter),
    /// It acts, and answers 200 with HTML where a machine expects something else.
    Garbage,
    /// It acts, and answers bytes that are not HTTP.
    NotHttp,
    /// It acts, and answers as it should, except that the body goes on with so many bytes of spaces.
    Oversized(usize),
    /// What only this provider does: its service decides (`Service::told`) under this name, such as "expired token".
    Told(&'static str),
}

/// How an answer says when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryAfter {
    /// Not at all.
    Unsaid,
    /// `Retry-After: N`.
    Seconds(u64),
    /// `Retry-After: Sun, 06 Nov 1994 08:49:37 GMT`, so many seconds from now.
    Date(i64),
}

impl RetryAfter {
    /// The header's value.
    pub fn value(self) -> Option<String> {
        match self {
            Self::Unsaid => None,
            Self::Seconds(seconds) => Some(seconds.to_string()),
            Self::Date(seconds) => {
                let then = chrono::Utc::now() + chrono::Duration::seconds(seconds);
                Some(then.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
            }
        }
    }
}

impl Fault {
    /// The name that faults of this kind are counted under.
    pub fn kind(self) -> &'static str {
        match self {
            Self::ResetBeforeReading => "reset before reading",
            Self::ResetBeforeActing => "reset before acting",
            Self::ResetAfterActing => "reset after acting",
            Self::HalfAnswer => "half an answer",
            Self::SlowAnswer(_) => "slow answer",
            Self::SlowToAct(_) => "slow to act",
            Self::ErrorBeforeActing(_) => "error before acting",
            Self::ErrorAfterActing(_) => "error after acting",
            Self::TooMany(_) => "429",
            Self::Garbage => "garbage",
            Self::NotHttp => "not HTTP",
            Self::Oversized(_) => "oversized",
            Self::Told(name) => name,
        }
    }
}

/// Which requests a fault is for.
pub type Concerns = Box<dyn Fn(&Seen) -> bool + Send>;

/// Which request meets which fault: what was scripted comes first, then chance.
#[derive(Default)]
pub(super) struct Plan {
    scripted: VecDeque<Option<Fault>>,
    scripted_for: Vec<(Concerns, VecDeque<Option<Fault>>)>,
    chance: Option<Chance>,
}

struct Chance {
    random: StdRng,
    rates: Vec<(Fault, f64)>,
    concerns: Concerns,
}

impl Plan {
    pub(super) fn script(&mut self, faults: impl Iterator<Item = Option<Fault>>) {
        self.scripted.extend(faults);
    }

    pub(super) fn script_for(
        &mut self,
        concerns: Concerns,
        faults: impl Iterator<Item = Option<Fault>>,
    ) {
        self.scripted_for.push((concerns, faults.collect()));
    }

    pub(super) fn by_chance(&mut self, seed: u64, rates: &[(Fault, f64)], concerns: Concerns) {
        let total: f64 = rates.iter().map(|(_, rate)| rate).sum();
        assert!(total <= 1.0, "faults at a rate of {total}");
        self.chance = (total > 0.0).then(|| Chance {
            random: StdRng::seed_from_u64(seed),
            rates: rates.to_vec(),
            concerns,
        });
    }

    /// Whether the next connection is to be reset before its request is read. A script for certain requests can't say so, since nobody
    /// knows the request by then: there the reset follows the reading, which a client can't tell apart.
    pub(super) fn resets_next(&mut self) -> bool {
        let is_next = self.scripted.front() == Some(&Some(Fault::ResetBeforeReading));
        if is_next {
            self.scripted.pop_front();
        }
        is_next
    }

    /// The fault for this request.
    pub(super) fn draw(&mut self, request: &Seen) -> Option<Fault> {
        if let Some(next) = self.scripted.pop_front() {
            return next;
        }
        for (concerns, faults) in &mut self.scripted_for {
            if !faults.is_empty() && concerns(request) {
                return faults.pop_front().flatten();
            }
        }
        self.chance.as_mut()?.draw(request)
    }
}

impl Chance {
    fn draw(&mut self, request: &Seen) -> Option<Fault> {
        if !(self.concerns)(request) {
            return None;
        }
        let mut drawn: f64 = self.random.random();
        for (fault, rate) in &self.rates {
            if drawn < *rate {
                return Some(*fault);
            }
            drawn -= rate;
        }
        None
    }
}
