//! The `millrace` program as its users run it: a process of its own, whose every word is kept.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::deadline::eventually;

/// A running `millrace`; it is killed if this is dropped before it has ended.
pub struct Program {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
    readers: [JoinHandle<()>; 2],
}

/// The program with `arguments`, in the workspace's folder, with nothing of its settings taken from this process's
/// environment.
pub fn command(arguments: &[&str]) -> Command {
    let tests = std::env::current_exe().expect("this program's path");
    let program = tests
        .ancestors()
        .nth(2)
        .expect("the target folder")
        .join("millrace");
    assert!(
        program.exists(),
        "{} is not there: cargo build -p millrace",
        program.display()
    );
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".."));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("SPIN_VARIABLE_")
            || ["DATABASE_URL", "RUST_LOG"].contains(&name.as_ref())
        {
            command.env_remove(name.as_ref());
        }
    }
    command
}

impl Program {
    /// Starts it.
    pub fn start(mut command: Command) -> Self {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().expect("millrace starts");
        let said = Arc::default();
        let readers = [
            tokio::spawn(keep(
                child.stdout.take().expect("a pipe"),
                Arc::clone(&said),
            )),
            tokio::spawn(keep(
                child.stderr.take().expect("a pipe"),
                Arc::clone(&said),
            )),
        ];
        Self {
            child,
            said,
            readers,
        }
    }

    /// Everything that it has said so far, on stdout and stderr.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().expect("what it said")).into_owned()
    }

    /// Waits until it has said `words` and what stands behind them in their line, and returns everything that it has said by
    /// then.
    pub async fn until(&self, words: &str) -> String {
        let said = || async {
            let is_over = self.readers.iter().all(JoinHandle::is_finished);
            let said = self.said();
            let rest = said.split_once(words).map(|(_, rest)| rest);
            assert!(
                rest.is_some() || !is_over,
                "it ended without {words:?}:\n{said}"
            );
            // A line comes in pieces.
            let is_said = rest.is_some_and(|rest| is_over || rest.contains('\n'));
            is_said.then_some(said)
        };
        eventually(words, said).await
    }

    /// Waits for its end, and returns how it ended and everything that it said.
    pub async fn finish(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().await.expect("its end");
        for reader in &mut self.readers {
            reader.await.expect("the rest of what it said");
        }
        (status, self.said())
    }

    /// Sends it a signal such as `TERM` and waits for its end.
    pub async fn end(self, signal: &str) -> (ExitStatus, String) {
        let pid = self.child.id().expect("it is running");
        assert!(send(signal, pid), "{signal} is sent");
        self.finish().await
    }
}

/// Runs it to its end.
pub async fn run(command: Command) -> (ExitStatus, String) {
    Program::start(command).finish().await
}

async fn keep(mut from: impl AsyncRead + Unpin, into: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        into.lock()
            .expect("what it said")
            .extend_from_slice(&buffer[..length]);
    }
}

/// Sends a signal to a process; false where there is no such process.
pub fn send(signal: &str, pid: u32) -> bool {
    let mut shell = std::process::Command::new("/bin/sh");
    shell
        .args(["-c", "kill -\"$0\" \"$1\"", signal, &pid.to_string()])
        .stderr(Stdio::null());
    shell.status().expect("a shell").success()
}

/// Whether a process has ended, even if its parent has not asked for it yet.
pub fn has_ended(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.contains(") Z ") || !send("0", pid)
}
