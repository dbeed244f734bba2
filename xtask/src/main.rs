//! The developer's commands: `cargo xtask setup | build | up | env | test | ci | bench`.
//!
//! They only prepare the machine, build, and start what the workspace builds; what the application does
//! is in `host/` and `functions/`. The dependency tree is kept tiny, since these run before anything is built.

mod build;
mod command;
mod debian;
mod node;
mod postgres;
#[path = "../../host/src/postgres_programs.rs"]
mod postgres_programs;
mod postgrest;
mod python;
mod wasm_target;

use std::ffi::OsString;
use std::process::ExitCode;

use command::{Outcome, run};

const HELP: &str = "\
Usage: cargo xtask COMMAND

  setup                       install what is missing: the wasm32-wasip2 target, Postgres, and Node.js and Python for the tests
  build                       set up, and build the functions and the program `millrace`
  up [--listen HOST:PORT]     build, migrate and serve the application (127.0.0.1:3000); with --open, programs of
     [--open]                 this machine need no key
  env                         print the exports of what `up` serves: eval \"$(cargo xtask env)\"
  test [--against URL] [NAME] run every test, or those whose name contains NAME; with --against, the
                              black-box tests against a running instance (see CONTRIBUTING.md)
  ci                          check format and lints, then run every test
  bench [ARGS]                load the SQL functions, then the same work over HTTP; print the ratio
";

fn main() -> ExitCode {
    match dispatch() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch() -> Outcome {
    std::env::set_current_dir(build::root())
        .map_err(|e| format!("{}: {e}", build::root().display()))?;
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<OsString> = arguments.collect();
    match command.to_str() {
        Some("setup") => setup().and_then(|()| others_programs()),
        Some("build") => build(),
        Some("up") => up(rest),
        Some("env") => env(),
        Some("test") => test(rest),
        Some("ci") => ci(),
        Some("bench") => bench(rest),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(())
        }
        _ => Err(format!("no such command\n\n{HELP}").into()),
    }
}

/// What every command needs.
fn setup() -> Outcome {
    wasm_target::ensure()?;
    postgres::ensure()
}

/// What runs the other people's clients of the tests.
fn others_programs() -> Outcome {
    node::ensure()?;
    python::ensure()
}

fn build() -> Outcome {
    setup()?;
    build::functions()?;
    build::program("millrace")
}

fn up(arguments: Vec<OsString>) -> Outcome {
    build()?;
    command::become_program(
        build::program_path("millrace"),
        ["up".into()].into_iter().chain(arguments),
    )
}

fn env() -> Outcome {
    let nothing = "nothing is running here: start it with `cargo xtask up`";
    let exports = std::fs::read_to_string(".millrace/env").map_err(|_| nothing)?;
    // A killed `up` leaves its file behind.
    let url = exports
        .lines()
        .find_map(|line| line.strip_prefix("export MILLRACE_URL='http://"));
    let address = url.and_then(|url| url.strip_suffix('\'')).ok_or(nothing)?;
    std::net::TcpStream::connect(address).map_err(|_| nothing)?;
    print!("{exports}");
    Ok(())
}

/// What `cargo xtask test` was asked for.
#[derive(Default)]
struct TestRequest {
    against: Option<String>,
    filters: Vec<String>,
}

fn parse_test(arguments: Vec<OsString>) -> Result<TestRequest, lexopt::Error> {
    use lexopt::prelude::*;
    let mut request = TestRequest::default();
    let mut parser = lexopt::Parser::from_args(arguments);
    while let Some(argument) = parser.next()? {
        match argument {
            Long("against") => request.against = Some(parser.value()?.string()?),
            Value(filter) => request.filters.push(filter.string()?),
            other => return Err(other.unexpected()),
        }
    }
    Ok(request)
}

fn test(arguments: Vec<OsString>) -> Outcome {
    let request = parse_test(arguments).map_err(|e| e.to_string())?;
    if let Some(url) = request.against {
        // Filters are alternatives: each must keep to the black-box tests by itself.
        let all = vec![String::new()];
        let names = if request.filters.is_empty() {
            &all
        } else {
            &request.filters
        };
        let filters = names.iter().map(|name| format!("black_box::{name}"));
        let mut command = build::cargo(["test", "--workspace", "--test", "suite", "--"]);
        return run(command.args(filters).env("MILLRACE_AGAINST", url));
    }
    setup()?;
    others_programs()?;
    let no_npm = node::packages()?.map(|reason| ("MILLRACE_NO_NPM", reason));
    let no_pypi = python::packages()?.map(|reason| ("MILLRACE_NO_PYPI", reason));
    let left_out: Vec<_> = no_npm.into_iter().chain(no_pypi).collect();
    build::functions()?;
    build::fixtures()?;
    build::program("millrace")?;
    // The tests print how much they did; that is part of what a run says.
    run(build::cargo(["test", "--workspace", "--", "--show-output"])
        .args(&request.filters)
        .envs(left_out.clone()))?;
    // With names it is only those tests that are wanted. They run over a PostgREST where MILLRACE_DATABASE says so.
    match request.filters.is_empty() {
        true => postgrest::test(left_out),
        false => Ok(()),
    }
}

fn ci() -> Outcome {
    setup()?;
    run(&mut build::cargo(["fmt", "--all", "--check"]))?;
    build::functions()?;
    run(&mut build::cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ]))?;
    build::lint_functions()?;
    test(Vec::new())
}

fn bench(arguments: Vec<OsString>) -> Outcome {
    setup()?;
    build::functions()?;
    build::program("bench")?;
    command::become_program(build::program_path("bench"), arguments.into_iter())
}
