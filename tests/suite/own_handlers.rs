//! Handlers that somebody else writes: what `millrace new-handler` begins, in a copy of this checkout, and the example in Python. Each
//! is built, composed into the drain, served, and given jobs.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use millrace_tests::app::App;
use millrace_tests::database::Database;
use millrace_tests::deadline::eventually;
use millrace_tests::program;
use millrace_tests::scratch::Scratch;
use serde_json::json;
use tokio::process::Command;

use crate::clients::are_installed_from_pypi;

/// A folder that is this checkout in all but the files that a newcomer changes, which are copies.
struct Checkout {
    scratch: Scratch,
}

/// The files at the top, and the folder, that are the copy's own.
const OWN: [&str; 4] = ["Cargo.toml", "Cargo.lock", "spin.toml", "functions"];

impl Checkout {
    fn new() -> Self {
        let scratch = Scratch::new();
        let linked = |from: &Path, to: &Path, but: &[&str]| {
            for entry in fs::read_dir(from).expect("a folder of the checkout") {
                let entry = entry.expect("an entry");
                let name = entry.file_name();
                if !but.iter().any(|own| *own == name) {
                    symlink(entry.path(), to.join(&name)).expect("a link");
                }
            }
        };
        let (real, copy) = (root(), scratch.path());
        linked(&real, copy, &[&OWN[..], &[".git", ".millrace"]].concat());
        fs::create_dir(copy.join("functions")).expect("a folder");
        linked(&real.join("functions"), &copy.join("functions"), &[]);
        for file in ["Cargo.toml", "Cargo.lock", "spin.toml"] {
            fs::copy(real.join(file), copy.join(file)).expect("a copy");
        }
        Self { scratch }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.scratch.path().join(file)
    }

    /// Runs `millrace new-handler NAME` there; whether it did it, and what it said.
    async fn new_handler(&self, name: &str) -> (bool, String) {
        let mut command = program::command(&["new-handler", name]);
        command.current_dir(self.scratch.path());
        let (status, said) = program::run(command).await;
        (status.success(), said)
    }

    /// Serves its `spin.toml`.
    async fn serve(&self) -> App {
        let database = Database::fresh().await;
        App::serve_manifest(self.path("spin.toml"), database, &[]).await
    }
}

fn root() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the checkout")
}

/// What README.md gives componentize-py to build the example.
const README_ARGUMENTS: &str = "-d wit/millrace-worker@0.1.0 -d wit/spin-variables@3.0.0 -d examples/handler-python/handler.wit \
    -w example:python/handler componentize -p examples/handler-python handler -o target/handler-python.wasm";

fn is_newer(file: &Path, than: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
    modified(file).is_ok_and(|at| at > modified(than).expect("a source"))
}

async fn succeeds(mut command: Command) {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = output.await.expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}

/// Enqueues a job and has the queue drained until it is over; its state, and what its last attempt came to.
async fn outcome(app: &App, queue: &str, payload: serde_json::Value) -> (String, String) {
    let task = json!({ "type": "greet", "executorId": queue, "payload": payload });
    let job = app.api.assign(task).await.ok()["jobId"].clone();
    let job = job.as_str().expect("an id").to_owned();
    let sql = "select a.outcome, coalesce(f.result::text, a.error_code) from millrace.attempt as a left join millrace.finished as f using (job_id) \
               where a.job_id = millrace.job_id($1::text::uuid)";
    eventually("the attempt's end", async || {
        let ran = app
            .api
            .post(&format!("/channels/{queue}"), &json!({}))
            .await;
        assert_eq!(ran.status, 200, "{}", ran.text);
        let rows = app.database.all(sql, &[&job]).await;
        let row = rows.first()?;
        Some((row.get(0), row.get(1)))
    })
    .await
}

/// What the two greeting handlers do about a job that is right and about one that is not.
async fn assert_greets(app: &App, queue: &str) {
    let (state, result) = outcome(app, queue, json!({ "name": "Ada" })).await;
    assert_eq!(state, "succeeded");
    assert!(result.contains("Hello, Ada!"), "{result}");
    let (state, code) = outcome(app, queue, json!({ "nome": "Ada" })).await;
    assert_eq!((state.as_str(), code.as_str()), ("failed", "bad_payload"));
    let sql = "select count(*) from millrace.dead_letter";
    let dead: i64 = app.database.one(sql, &[]).await.get(0);
    assert_eq!(dead, 1);
}

#[tokio::test]
async fn a_new_handler_builds_and_handles_jobs_as_it_is() {
    let checkout = Checkout::new();
    let (done, said) = checkout.new_handler("new-greeter").await;
    assert!(done, "{said}");
    assert!(said.contains("cargo xtask up"), "{said}");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--offline", "--target", "wasm32-wasip2"]);
    build.args(["--profile", "component", "-p", "channel-new-greeter"]);
    build.current_dir(checkout.scratch.path());
    // Set by cargo for this test alone; inherited, it would make every crate look changed.
    build.env_remove("CARGO_MANIFEST_DIR");
    build.env("CARGO_TARGET_DIR", root().join("target"));
    succeeds(build).await;
    let app = checkout.serve().await;
    assert_greets(&app, "new-greeter").await;
}

#[tokio::test]
async fn what_is_no_name_or_is_taken_is_refused_and_nothing_is_written() {
    let checkout = Checkout::new();
    let (done, said) = checkout.new_handler("email").await;
    assert!(!done && said.contains("already"), "{said}");
    let (done, said) = checkout.new_handler("No-Name").await;
    assert!(!done && said.contains("is no name for a handler"), "{said}");
    for file in ["Cargo.toml", "spin.toml"] {
        let text = |path| fs::read_to_string(path).expect("a file");
        assert_eq!(text(checkout.path(file)), text(root().join(file)), "{file}");
    }
    let mut elsewhere = program::command(&["new-handler", "slack"]);
    let empty = Scratch::new();
    elsewhere.current_dir(empty.path());
    let (status, said) = program::run(elsewhere).await;
    assert!(!status.success() && said.contains("a checkout"), "{said}");
}

#[tokio::test]
async fn the_example_in_python_handles_jobs() {
    if !are_installed_from_pypi("the_example_in_python_handles_jobs") {
        return;
    }
    let example = root().join("examples/handler-python");
    let wasm = root().join("target/handler-python.wasm");
    let sources = [
        "handler.py",
        "handler.wit",
        "../../wit/millrace-worker@0.1.0/worker.wit",
    ];
    // Compiled code is kept by the component's bytes, and each build has others.
    if sources
        .iter()
        .any(|source| !is_newer(&wasm, &example.join(source)))
    {
        let mut build = Command::new(root().join("tests/clients/.venv/bin/componentize-py"));
        build.args(README_ARGUMENTS.split_whitespace());
        build.current_dir(root());
        succeeds(build).await;
    }
    let size = fs::metadata(&wasm).expect("the component").len();
    println!("handler-python.wasm: {} MB", size / 1_000_000);
    let checkout = Checkout::new();
    let manifest = fs::read_to_string(checkout.path("spin.toml")).expect("spin.toml");
    let component = fs::read_to_string(example.join("component.toml")).expect("its component");
    fs::write(checkout.path("spin.toml"), manifest + &component).expect("spin.toml");
    let app = checkout.serve().await;
    assert_greets(&app, "python").await;
}
