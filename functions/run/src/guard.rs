//! One run in an instance, and the note that asks it to look again.

use std::sync::atomic::{AtomicBool, Ordering};

static RUNNING: AtomicBool = AtomicBool::new(false);
static AGAIN: AtomicBool = AtomicBool::new(false);

/// The right to run; dropped, it is free for the next.
pub struct Turn(());

impl Turn {
    /// Takes the right to run, or leaves the note for whoever has it.
    pub fn take() -> Option<Self> {
        match RUNNING.swap(true, Ordering::Relaxed) {
            false => {
                AGAIN.store(false, Ordering::Relaxed);
                Some(Self(()))
            }
            true => {
                AGAIN.store(true, Ordering::Relaxed);
                None
            }
        }
    }

    /// Whether somebody has left a note since the last time that this was asked.
    pub fn asked_again(&self) -> bool {
        AGAIN.swap(false, Ordering::Relaxed)
    }

    /// The same without taking the note.
    pub fn has_note(&self) -> bool {
        AGAIN.load(Ordering::Relaxed)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        RUNNING.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_turn_and_a_note_is_found_once() {
        let turn = Turn::take().unwrap();
        assert!(!turn.asked_again());
        assert!(Turn::take().is_none());
        assert!(Turn::take().is_none());
        assert!(turn.has_note());
        assert!(turn.asked_again());
        assert!(!turn.asked_again());
        assert!(Turn::take().is_none());
        drop(turn);
        assert!(
            !Turn::take().unwrap().has_note(),
            "a note is for the run that it came to"
        );
    }
}
