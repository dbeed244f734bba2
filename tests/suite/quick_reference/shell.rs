//! The terminal in which the page's commands are typed: one bash, so that what a command sets is there for the next ones.

use std::path::Path;
use std::process::Stdio;

use millrace_tests::deadline::PATIENCE;
use millrace_tests::scratch::Scratch;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// What stands before a command's exit status.
const END: &str = "the command has ended:";

/// What `curl` is told beside its command line: to end what it prints with the answer's status, in a line of its own.
const CURLRC: &str = "silent\nshow-error\nwrite-out = \"\\n%{http_code}\"\n";

/// A bash in the workspace's folder. It is killed when this is dropped.
pub struct Shell {
    _child: Child,
    types: ChildStdin,
    prints: Lines<BufReader<ChildStdout>>,
}

impl Shell {
    /// Starts it; what it needs lies in `scratch`. Complaints go where this process's own go.
    pub fn start(scratch: &Scratch) -> Self {
        std::fs::write(scratch.path().join(".curlrc"), CURLRC).expect("a file");
        let mut command = Command::new("bash");
        command
            .args(["--noprofile", "--norc"])
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
            .env("CURL_HOME", scratch.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        for name in ["MILLRACE_URL", "COLLAB_API_KEY", "DATABASE_URL"] {
            command.env_remove(name);
        }
        let mut child = command.spawn().expect("bash");
        let (types, prints) = (child.stdin.take(), child.stdout.take());
        Self {
            _child: child,
            types: types.expect("a pipe"),
            prints: BufReader::new(prints.expect("a pipe")).lines(),
        }
    }

    /// Runs a command to its end, and returns what it printed. A command that fails fails the test.
    pub async fn run(&mut self, command: &str) -> String {
        let typed = format!("{{ {command}\n}} < /dev/null\nprintf '\\n%s %s\\n' '{END}' $?\n");
        let written = self.types.write_all(typed.as_bytes()).await;
        written.expect("bash reads");
        let mut printed: Vec<String> = Vec::new();
        loop {
            let line = timeout(PATIENCE, self.prints.next_line()).await;
            let line = line.unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {command}"));
            let line = line.expect("what bash prints");
            let line = line.unwrap_or_else(|| panic!("bash ended over {command}"));
            if let Some(status) = line.strip_prefix(END) {
                let printed = printed.join("\n");
                assert_eq!(status.trim(), "0", "{command}: {printed}");
                return printed.trim().to_owned();
            }
            printed.push(line);
        }
    }
}
