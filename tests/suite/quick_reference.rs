//! `docs/quick-reference.md`: every command of the page, from top to bottom.
