//! What requests hold of the instance's memory for longer than a moment: variables while a statement runs, answers until they are sent. An
//! instance serves many at once, and whoever would take too much is told to come back, so that his neighbours live.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes all requests together may hold: half of what an instance has, as much again is used only while one of them is worked on.
const TOGETHER: usize = 128 * 1024 * 1024;

static HELD: AtomicUsize = AtomicUsize::new(0);

/// A share of the memory, given back when it is dropped.
#[derive(Debug)]
pub struct Share(usize);

impl Share {
    /// A share of so many bytes, if there is as much left.
    pub fn take(bytes: usize) -> Option<Self> {
        let add = |held: usize| {
            held.checked_add(bytes)
                .filter(|together| *together <= TOGETHER)
        };
        let taken = HELD.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        taken.is_ok().then_some(Self(bytes))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0, Ordering::Relaxed);
    }
}

/// Bytes with the share that they take, which is given back with them.
pub struct Held {
    pub bytes: Vec<u8>,
    #[expect(dead_code, reason = "dropped with the bytes")]
    pub share: Share,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
