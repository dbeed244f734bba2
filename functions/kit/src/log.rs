//! What a function says to whoever runs it: one line on standard error, which the host keeps.

use std::fmt::Arguments;
use std::io::Write;

/// Writes a line. `eprintln!` would panic where standard error is gone, and end other requests with it.
/// Nothing secret, and nothing that a client sent, may be in it.
pub fn line(line: Arguments) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
