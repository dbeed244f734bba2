//! The suite once more, with an application that has no connection to its database: it calls another instance's `/rpc`, which
//! stands in for a PostgREST. What a client gets must be the same.

use crate::build;
use crate::command::{Outcome, run, step};

/// The tests that ask an application over HTTP, whatever it is that answers.
const OVER_HTTP: [&str; 38] = [
    "alerts::",
    "api_keys::",
    "artifacts::",
    "assign::",
    "authentication::",
    "black_box::",
    "bounds::a_claim_stops_at_eight_mebibytes",
    "claim::",
    "clients::supabase_js",
    "cors::",
    "cron_enqueue::",
    "database_gone::a_database_that_is_gone",
    "database_gone::a_stream_ends",
    "dead_letters::",
    "deliveries::outcomes",
    "deliveries::previews",
    "deliveries::suppression",
    "drain::",
    "explorer::",
    "generated_clients::",
    "graphql::",
    "health::",
    "jobs::",
    "jwks::",
    "metrics::",
    "preview::",
    "readiness::",
    "recent::",
    "replays::",
    "result::",
    "sign_artifact::",
    "stream::",
    "task_schedules::",
    "tasks::",
    "traces::",
    "verification::",
    "webhook::",
    "workers::",
];

/// What asks one too, but is left out here, and why.
const LEFT_OUT: [(&str, &str); 8] = [
    (
        "clients::rpc, rpc, seeds, openapi::examples",
        "/rpc needs a connection, since it is what a PostgREST would be",
    ),
    (
        "deliveries::configuration, faults, impossible, templates",
        "what they are about happens before the database is asked, or after",
    ),
    (
        "denied",
        "its applications are told of a database, and of hosts, of their own",
    ),
    (
        "database_gone::connections_that_died, a_server_that_never_answers, under_load",
        "they are about the pool of connections",
    ),
    ("files", "nothing of it asks the database"),
    (
        "host, program, secrets, tick",
        "they start a host by themselves",
    ),
    ("postgrest", "a double plays PostgREST in it"),
    (
        "watch",
        "it is about the program, which reads the same stream",
    ),
];

/// Runs them.
pub fn test(left_out: impl IntoIterator<Item = (&'static str, String)>) -> Outcome {
    step(
        "the tests that ask an application, once more with one that has a PostgREST instead of a connection",
    );
    for (tests, reason) in LEFT_OUT {
        println!("LEFT OUT over PostgREST: {tests}: {reason}");
    }
    run(build::cargo([
        "test",
        "--workspace",
        "--test",
        "suite",
        "--",
        "--show-output",
    ])
    .args(OVER_HTTP)
    .envs(left_out)
    .env("MILLRACE_DATABASE", "postgrest"))
}
