//! Running other programs: their output is shown, and a failure says which one it was.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// What every step returns; the error is a sentence for the person at the terminal.
pub type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// Tells what is going on, on stderr: stdout belongs to what the commands print.
pub fn step(what: &str) {
    eprintln!("==> {what}");
}

/// Runs `command` with its output shown; an exit status other than 0 is an error.
pub fn run(command: &mut Command) -> Outcome {
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|e| describe(command, &e))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} failed ({status})", name(command)).into())
    }
}

/// Runs `command` quietly and returns what it printed; its stderr is part of the error if it fails.
pub fn read(command: &mut Command) -> Outcome<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| describe(command, &e))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!(
            "{} failed ({}): {}",
            name(command),
            output.status,
            said.trim()
        )
        .into())
    }
}

/// Replaces this process by `program`, so that signals reach it directly.
#[cfg(unix)]
pub fn become_program(program: PathBuf, arguments: impl Iterator<Item = OsString>) -> Outcome {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    let error = command.args(arguments).exec();
    Err(describe(&command, &error).into())
}

fn describe(command: &Command, error: &io::Error) -> String {
    format!("{} could not be started: {error}", name(command))
}

fn name(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .take(4)
        .map(|w| w.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
