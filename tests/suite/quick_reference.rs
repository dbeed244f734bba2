//! `docs/quick-reference.md`: every command of the page, from top to bottom, against `millrace up --open` over a fresh database.
//!
//! The table says what each is to answer, and has them all: a page that gains a command, loses one or changes their order fails.

mod page;
mod script;
mod shell;

use std::path::{Path, PathBuf};

use millrace_tests::api::Api;
use millrace_tests::program::{Program, command};
use millrace_tests::scratch::Scratch;
use millrace_tests::up::{export, up_with};
use page::{Language, Step, steps};
use reqwest::Method;
use serde_json::{Value, json};
use shell::Shell;

/// What a step is to come to.
enum Outcome {
    /// `curl` prints an answer of this status, which has this in it.
    Answer(u16, Value),
    /// A GraphQL operation has this in its data, and no error.
    Data(Value),
    /// These words stand in what it prints.
    Prints(&'static str),
    /// The application is started, or started again.
    Starts,
}

use Outcome::{Answer, Data, Prints, Starts};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn quick_reference() -> String {
    std::fs::read_to_string(root().join("docs/quick-reference.md")).expect("the page")
}

/// The page's steps by their titles, and what comes of them on a fresh database.
fn outcomes() -> Vec<(&'static str, Outcome)> {
    let task = |status: &str| json!({"id": "1", "type": "email", "status": status});
    let job = |status: &str| json!({"id": "1", "name": "Weekly Report", "status": status});
    [rest(&task, &job), graphql(), the_rest(&task)]
        .into_iter()
        .flatten()
        .collect()
}

fn rest(task: &dyn Fn(&str) -> Value, job: &dyn Fn(&str) -> Value) -> Vec<(&'static str, Outcome)> {
    let retried = json!({"taskId": "1", "total": 3});
    vec![
        (
            "Everything: Postgres, migrations, the functions, on port 3000",
            Starts,
        ),
        ("First task", Answer(201, task("pending"))),
        ("First job", Answer(201, job("active"))),
        (
            "Walk through REST, GraphQL and health",
            Prints("All tests passing ✅"),
        ),
        (
            "Create task",
            Answer(
                201,
                json!({"type": "email", "payload": {}, "priority": 5, "queue": "tasks"}),
            ),
        ),
        (
            "Get all tasks",
            Answer(200, json!({"limit": 10, "offset": 0, "total": 2})),
        ),
        ("Get task by ID", Answer(200, task("pending"))),
        ("Cancel task", Answer(201, task("cancelled"))),
        (
            "Retry task, which has failed or was cancelled",
            Answer(201, task("retrying")),
        ),
        ("Get task logs", Answer(200, retried)),
        (
            "Get stats",
            Answer(
                200,
                json!({"byStatus": {"pending": 1, "retrying": 1, "failed": 0}}),
            ),
        ),
        ("Create job, and keep its id", Prints("")),
        (
            "Get all jobs",
            Answer(
                200,
                json!([{"name": "Daily Backup"}, {"name": "Weekly Report"}]),
            ),
        ),
        ("Get job by ID", Answer(200, job("active"))),
        ("Pause job", Answer(201, job("paused"))),
        ("Resume job", Answer(201, job("active"))),
        ("Delete job", Answer(200, json!({}))),
    ]
}

fn graphql() -> Vec<(&'static str, Outcome)> {
    let task = |status: &str| json!({"id": "1", "status": status});
    vec![
        ("Get all tasks", Data(json!({"tasks": {}}))),
        (
            "Get specific task",
            Data(
                json!({"task": {"id": "1", "payload": {"to": "user@example.com"}, "error": null}}),
            ),
        ),
        (
            "Get all jobs",
            Data(json!({"jobs": [{"id": "1", "schedule": "0 6 * * 1", "status": "ACTIVE"}]})),
        ),
        (
            "Get specific job",
            Data(json!({"job": {"id": "1", "lastRun": null}})),
        ),
        (
            "Create task",
            Data(json!({"createTask": {"type": "email", "status": "PENDING"}})),
        ),
        ("Cancel task", Data(json!({"cancelTask": true}))),
        ("Retry task", Data(json!({"retryTask": task("RETRYING")}))),
        (
            "Create job",
            Data(json!({"createJob": {"name": "Daily Backup", "status": "ACTIVE"}})),
        ),
        ("Pause job", Data(json!({"pauseJob": true}))),
        ("Resume job", Data(json!({"resumeJob": true}))),
        ("Delete job", Data(json!({"deleteJob": true}))),
        (
            "A query by curl",
            Answer(200, json!({"data": {"task": task("RETRYING")}})),
        ),
    ]
}

fn the_rest(task: &dyn Fn(&str) -> Value) -> Vec<(&'static str, Outcome)> {
    let no_task = json!({"statusCode": 404, "message": "Task with ID 999999 not found", "error": "Not Found"});
    let cancelled = "Task with status cancelled cannot be cancelled. Only pending or processing tasks can be cancelled.";
    let cancelled = json!({"statusCode": 400, "message": cancelled, "error": "Bad Request"});
    vec![
        ("For the next start", Prints("")),
        ("For the next start", Prints("")),
        (
            "Health, with the queues' figures",
            Answer(200, json!({"status": "ok"})),
        ),
        (
            "The same, under the base URL",
            Answer(200, json!({"status": "ok"})),
        ),
        ("Alive: it answers at all", Answer(200, json!({}))),
        (
            "Ready: its database is there, and has the migrations that it needs",
            Answer(200, json!({"status": "ready"})),
        ),
        (
            "Create a task",
            Answer(
                201,
                json!({"type": "test-email", "payload": {"to": "user@example.com"}, "priority": 5}),
            ),
        ),
        ("Get all tasks", Answer(200, json!({"limit": 50}))),
        ("Cancel a task", Answer(201, task("cancelled"))),
        ("Run integration test suite", Prints("All tests passing ✅")),
        (
            "Check if it is running, and if its database is",
            Answer(200, json!({"status": "ready"})),
        ),
        (
            "Check the database: migrations, schedules, channels",
            Prints(""),
        ),
        (
            "Check the database: migrations, schedules, channels",
            Prints("migrations: good"),
        ),
        ("Check the metrics", Prints("millrace_queue_jobs")),
        ("Restart: Ctrl-C in that terminal, then", Starts),
        (
            "Check that nothing was lost",
            Answer(200, task("cancelled")),
        ),
        ("A task that is not there", Answer(404, no_task)),
        ("A task that was cancelled above", Answer(400, cancelled)),
    ]
}

/// The application as the page starts it, and the terminal in which the rest is typed.
struct Reader {
    shell: Shell,
    program: Option<Program>,
    /// Gone after what uses it.
    scratch: Scratch,
    /// The commands that were run with something else in their place.
    replaced: Vec<String>,
}

impl Reader {
    fn new() -> Self {
        let scratch = Scratch::new();
        Self {
            shell: Shell::start(&scratch),
            scratch,
            program: None,
            replaced: Vec::new(),
        }
    }

    fn url(&self) -> String {
        export(&self.scratch, "MILLRACE_URL")
    }

    /// Starts the application, ending the one that is there as Ctrl-C does.
    async fn start(&mut self, text: &str) {
        assert_eq!(text.trim(), "cargo xtask up --open");
        if let Some(program) = self.program.take() {
            let (status, said) = program.end("INT").await;
            assert!(status.success(), "{said}");
        }
        let (program, _) = up_with(&self.scratch, &["--open"]).await;
        self.program = Some(program);
        let how = "millrace up --open, over a state folder of its own and any free port, which takes the place of 3000";
        self.replaced.push(format!("{}: {how}", text.trim()));
    }

    /// What is run for a command: the same at this application's address, and where it is about the checkout's own state, of this application's.
    fn at_this_application(&mut self, text: &str) -> String {
        let url = self.url();
        let program = command(&[]).as_std().get_program().display().to_string();
        let exports = format!(". '{}'", self.scratch.path().join("env").display());
        let script = "./scripts/test-worker-gateway-integration.sh";
        let mut command = text.trim().replace("http://localhost:3000", &url);
        for (what, by) in [
            (r#"eval "$(cargo xtask env)""#, exports),
            ("target/debug/millrace", program),
            (script, format!("MILLRACE_URL={url} {script}")),
        ] {
            if command.contains(what) {
                command = command.replace(what, &by);
                self.replaced.push(format!("{}: {command}", text.trim()));
            }
        }
        command
    }

    async fn run(&mut self, step: &Step, outcome: &Outcome) {
        if let Starts = outcome {
            return self.start(&step.text).await;
        }
        let printed = match step.language {
            Language::Bash => {
                let command = self.at_this_application(&step.text);
                self.shell.run(&command).await
            }
            Language::GraphQl => post(&self.url(), &step.text).await,
        };
        assert_outcome(&step.title, &printed, outcome);
    }
}

/// The answer to an operation that is sent without credentials, and its status, as `curl` prints them here.
async fn post(url: &str, operation: &str) -> String {
    let api = Api::new(url, "");
    let request = api.bare(Method::POST, "/graphql");
    let answer = api.send(request.json(&json!({"query": operation}))).await;
    format!("{}\n{}", answer.text, answer.status)
}

fn assert_outcome(title: &str, printed: &str, outcome: &Outcome) {
    let (body, status) = printed.rsplit_once('\n').unwrap_or(("", printed));
    let answer = || -> Value {
        serde_json::from_str(body).unwrap_or_else(|e| panic!("{title}: {e} in {printed}"))
    };
    match outcome {
        Prints(words) => assert!(
            printed.contains(words),
            "{title}: {words} is not in {printed}"
        ),
        Answer(expected, part) => {
            assert_eq!(status, expected.to_string(), "{title}: {printed}");
            assert!(has(&answer(), part), "{title}: {part} is not in {printed}");
        }
        Data(part) => {
            let answer = answer();
            assert_eq!(
                (status, answer.get("errors")),
                ("200", None),
                "{title}: {printed}"
            );
            assert!(
                has(&answer["data"], part),
                "{title}: {part} is not in {printed}"
            );
        }
        Starts => unreachable!("a start has no answer"),
    }
}

/// Whether `part` is in a value: of an object some fields, of an array all elements.
fn has(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(name, part)| whole.get(name).is_some_and(|whole| has(whole, part))),
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len()
                && whole.iter().zip(part).all(|(whole, part)| has(whole, part))
        }
        (whole, part) => whole == part,
    }
}

#[tokio::test]
async fn every_command_of_the_page_works_from_top_to_bottom() {
    let page = quick_reference();
    let (steps, outcomes) = (steps(&page), outcomes());
    let titles: Vec<&str> = steps.iter().map(|step| step.title.as_str()).collect();
    let known: Vec<&str> = outcomes.iter().map(|(title, _)| *title).collect();
    assert_eq!(titles, known);

    let mut reader = Reader::new();
    for (step, (_, outcome)) in steps.iter().zip(&outcomes) {
        reader.run(step, outcome).await;
    }

    // The page's "Open http://localhost:3000/graphql in a browser".
    let api = Api::new(&reader.url(), "");
    let request = api
        .bare(Method::GET, "/graphql")
        .header("accept", "text/html");
    let explorer = api.send(request).await;
    assert_eq!(
        (explorer.status, explorer.header("content-type")),
        (200, "text/html; charset=utf-8"),
        "{}",
        explorer.text
    );

    let operations = steps
        .iter()
        .filter(|step| step.language == Language::GraphQl)
        .count();
    println!(
        "{} commands and {operations} GraphQL operations of the page ran, none was left out",
        steps.len() - operations
    );
    for replaced in &reader.replaced {
        println!("replaced: {replaced}");
    }
    let program = reader.program.take().expect("it was started");
    assert!(program.end("TERM").await.0.success());
}

#[test]
fn the_files_that_the_page_names_are_there() {
    let page = quick_reference();
    let mut names: Vec<&str> = page.split(['`', '(', ')']).collect();
    names.retain(|name| {
        let is_path = ["functions/", "sql/", "tests/", "scripts/", "../"];
        is_path.iter().any(|start| name.starts_with(start)) || name.ends_with(".md")
    });
    assert!(names.len() > 10, "{names:?}");
    for name in &names {
        assert!(
            root().join("docs").join(name).exists() || root().join(name).exists(),
            "{name}"
        );
    }
    println!("{} files that the page names", names.len());
}
