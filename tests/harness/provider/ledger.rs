//! What a provider has done, and what it remembers of the keys under which it was asked to.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::Answer;

/// Something that a provider did to the world: a message that went out, an event that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    /// What identifies it to whoever counts: usually something of the job's that is in the request, never the provider's own id.
    pub key: String,
    /// What was done, in a word or in the message itself.
    pub what: String,
}

/// Where a service writes down that it acts. It is locked for as long as the service answers.
pub struct Ledger {
    pub(super) effects: Vec<Effect>,
    started: Instant,
    pub(super) ahead: Duration,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            effects: Vec::new(),
            started: Instant::now(),
            ahead: Duration::ZERO,
        }
    }

    /// The provider acts.
    pub fn act(&mut self, key: impl Into<String>, what: impl Into<String>) {
        self.effects.push(Effect {
            key: key.into(),
            what: what.into(),
        });
    }

    /// How often it has acted so far: made into an id, one that is new.
    pub fn acts(&self) -> usize {
        self.effects.len()
    }

    /// The provider's clock, from when it was started: `Provider::advance` moves it.
    pub fn now(&self) -> Duration {
        self.started.elapsed() + self.ahead
    }
}

/// How many effects each key has.
pub fn by_key(effects: &[Effect]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for effect in effects {
        *counts.entry(effect.key.as_str()).or_default() += 1;
    }
    counts
}

/// The memory of a provider that knows idempotency keys.
pub struct Idempotency {
    /// For how long a key is remembered.
    retention: Duration,
    known: HashMap<String, (Duration, String, Answer)>,
}

/// What a key is to the provider.
pub enum Key {
    /// It has not seen it, or forgot it since.
    New,
    /// It was asked the same under it, and answered this.
    Same(Answer),
    /// It was asked something else under it.
    Other,
}

impl Idempotency {
    /// Keys are remembered for as long as the provider's documents say.
    pub fn new(retention: Duration) -> Self {
        Self {
            retention,
            known: HashMap::new(),
        }
    }

    /// What is known of the key of a request with this body.
    pub fn look(&self, key: &str, body: &str, ledger: &Ledger) -> Key {
        match self.known.get(key) {
            Some((at, _, _)) if ledger.now() >= *at + self.retention => Key::New,
            Some((_, known, answer)) if known == body => Key::Same(answer.clone()),
            Some(_) => Key::Other,
            None => Key::New,
        }
    }

    /// Remembers what was answered under a key.
    pub fn remember(&mut self, key: &str, body: &str, answer: &Answer, ledger: &Ledger) {
        let entry = (ledger.now(), body.to_owned(), answer.clone());
        self.known.insert(key.to_owned(), entry);
    }
}
