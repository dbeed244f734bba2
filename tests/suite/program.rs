//! The `millrace` program: what `up` promises on the screen, what it leaves behind, and the database's chores.

use std::process::Command;

use millrace_tests::api::Api;
use millrace_tests::database::Database;
use millrace_tests::deadline::eventually;
use millrace_tests::program::{Program, command, has_ended, run};
use millrace_tests::scratch::Scratch;
use serde_json::{Value, json};

/// The last line of what `up` prints once it serves.
const READY: &str = "Ctrl-C ends it";

/// Runs `up` over the state in a folder, and returns it with what it said once it serves.
async fn up(scratch: &Scratch) -> (Program, String) {
    let mut command = command(&["up", "--listen", "127.0.0.1:0", "--state"]);
    command.arg(scratch.path());
    let program = Program::start(command);
    let said = program.until(READY).await;
    (program, said)
}

/// A client with the key and at the address that `up` printed.
fn api(said: &str) -> Api {
    let word_after = |words: &str| {
        said.split(words)
            .nth(1)
            .and_then(|rest| rest.split_whitespace().next())
    };
    let (url, key) = (word_after("Millrace serves "), word_after("API key "));
    Api::new(url.expect("an address"), key.expect("a key"))
}

fn server_pid(scratch: &Scratch) -> u32 {
    let file = scratch.path().join("postgres/data/postmaster.pid");
    let text = std::fs::read_to_string(file).expect("the server's pid file");
    text.lines()
        .next()
        .and_then(|line| line.trim().parse().ok())
        .expect("a pid")
}

async fn assert_server_ends(pid: u32) {
    eventually("Postgres ends with the program", async || {
        has_ended(pid).then_some(())
    })
    .await;
}

/// Runs a script in a shell and returns what it printed.
fn shell(script: &str, argument: &str) -> String {
    let output = Command::new("/bin/sh")
        .args(["-euc", script, argument])
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {said}");
    String::from_utf8(output.stdout).expect("text")
}

fn has_curl() -> bool {
    let has = Command::new("curl").arg("--version").output().is_ok();
    if !has {
        println!("skipped: there is no curl on this machine");
    }
    has
}

#[tokio::test]
async fn up_serves_ends_with_its_server_and_keeps_what_was_enqueued() {
    let scratch = Scratch::new();
    let (first, said) = up(&scratch).await;
    let id = api(&said).assign_one("kept", "t").await;
    let pid = server_pid(&scratch);
    let (status, said) = first.end("TERM").await;
    assert!(status.success(), "{status}: {said}");
    assert!(has_ended(pid), "the server is gone when the program is");
    assert!(
        !scratch.path().join("env").exists(),
        "the exports go with what they speak of"
    );

    let (second, said) = up(&scratch).await;
    assert_eq!(
        api(&said).claim_one("kept", "w").await.expect("the job")["id"],
        id
    );
    let id = api(&said).assign_one("kept", "t").await;
    let pid = server_pid(&scratch);
    second.end("KILL").await;
    assert_server_ends(pid).await;

    let (third, said) = up(&scratch).await;
    assert_eq!(
        api(&said).claim_one("kept", "w").await.expect("the job")["id"],
        id
    );
    let pid = server_pid(&scratch);
    let (status, _) = third.end("INT").await;
    assert!(status.success() && has_ended(pid));
}

#[tokio::test]
async fn up_can_start_while_a_killed_predecessors_server_is_still_ending() {
    let scratch = Scratch::new();
    let (first, said) = up(&scratch).await;
    api(&said).assign_one("kept", "t").await;
    first.end("KILL").await;
    let (second, said) = up(&scratch).await;
    assert!(api(&said).claim_one("kept", "w").await.is_some());
    second.end("TERM").await;
}

#[tokio::test]
async fn the_curl_line_that_up_prints_works_as_printed() {
    if !has_curl() {
        return;
    }
    let scratch = Scratch::new();
    let (program, said) = up(&scratch).await;
    let line = said
        .split("A first job:")
        .nth(1)
        .and_then(|rest| rest.split(READY).next())
        .expect("a curl line");
    let answer: Value = serde_json::from_str(&shell(line, "curl")).expect("JSON");
    assert_eq!(answer["queued"], true, "{answer}");
    assert!(api(&said).claim_one("demo", "w").await.is_some());
    program.end("TERM").await;
}

/// Section 7 of the collab guide, with the address from the exports.
const GUIDE: &str = r#"
. "$0/env"
curl -s $MILLRACE_URL/api/collab/health; echo
curl -s -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d '{"type":"browser.run","executorId":"verify-demo","payload":{"url":"https://supabase.com"}}' \
  $MILLRACE_URL/api/collab/task.assign > "$0/assigned"; cat "$0/assigned"; echo
curl -s -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d '{"executorId":"verify-demo","workerId":"worker-01","leaseSeconds":60,"typePrefix":"browser."}' \
  $MILLRACE_URL/api/collab/task.claim; echo
JOB_ID=$(sed 's/.*"jobId": *"\([^"]*\)".*/\1/' "$0/assigned")
curl -s -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d '{"jobId":"'$JOB_ID'","type":"browser.run","ok":false,"error":"simulated-fail"}' \
  $MILLRACE_URL/api/collab/task.result; echo
curl -s -H "x-api-key: $COLLAB_API_KEY" $MILLRACE_URL/api/collab/workers/active; echo
"#;

#[tokio::test]
async fn the_guides_commands_work_with_the_exports() {
    if !has_curl() {
        return;
    }
    let scratch = Scratch::new();
    let (program, _) = up(&scratch).await;
    let printed = shell(GUIDE, &scratch.path().display().to_string());
    let answers: Vec<Value> = printed
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let [health, assigned, claimed, reported, active] = answers.as_slice() else {
        panic!("{printed}")
    };
    assert_eq!(
        (&health["ok"], &assigned["queued"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(claimed["job"]["id"], assigned["jobId"]);
    assert_eq!(
        (reported, &active["count"]),
        (&json!({"ok": true}), &json!(0))
    );

    let exports = std::fs::read_to_string(scratch.path().join("env")).expect("the exports");
    let url = exports
        .split("DATABASE_URL='")
        .nth(1)
        .and_then(|rest| rest.split('\'').next())
        .expect("a URL");
    let row = Database::open(url).await;
    let state = row
        .one(
            "select millrace.job_state(millrace.job_id($1::text::uuid))",
            &[&assigned["jobId"].as_str()],
        )
        .await;
    assert_eq!(
        state.get::<_, &str>(0),
        "queued",
        "it failed and is to be tried again"
    );
    program.end("TERM").await;
}

#[tokio::test]
async fn up_over_a_database_of_the_users_own_starts_none() {
    let (scratch, database) = (Scratch::new(), Database::fresh().await);
    let mut command = command(&["up", "--listen", "127.0.0.1:0", "--state"]);
    command
        .arg(scratch.path())
        .env("DATABASE_URL", database.url());
    // With a login of the user's own, or it would set the password of the one that the other tests use.
    command.env("SPIN_VARIABLE_DATABASE_URL", database.functions_url());
    let program = Program::start(command);
    let said = program.until(READY).await;
    api(&said).assign_one("e", "t").await;
    assert_eq!(
        database
            .one("select count(*) from millrace.job", &[])
            .await
            .get::<_, i64>(0),
        1
    );
    assert!(!scratch.path().join("postgres").exists());
    let (status, _) = program.end("TERM").await;
    assert!(status.success());
}

/// A database that nothing was done to yet.
async fn empty_database() -> String {
    let database = Database::fresh().await;
    let name = format!("millrace_empty_{}", uuid::Uuid::new_v4().simple());
    database.run(&format!("create database {name}")).await;
    let mut url = url::Url::parse(database.url()).expect("a URL");
    url.set_path(&name);
    url.into()
}

#[tokio::test]
async fn migrate_does_its_work_once_and_doctor_sees_whether_it_is_done() {
    let url = empty_database().await;
    let chore = async |name: &str| {
        let mut command = command(&[name]);
        command.env("DATABASE_URL", &url);
        run(command).await
    };
    let (status, said) = chore("doctor").await;
    assert!(
        !status.success() && said.contains("run `millrace migrate`"),
        "{said}"
    );

    let (first, second) = tokio::join!(chore("migrate"), chore("migrate"));
    assert!(
        first.0.success() && second.0.success(),
        "two at once: {first:?} {second:?}"
    );
    let idle = "0 migrations applied";
    assert!(
        first.1.contains(&format!(" {idle}")) != second.1.contains(&format!(" {idle}")),
        "one did it: {first:?} {second:?}"
    );
    let (status, said) = chore("migrate").await;
    assert!(
        status.success() && said.contains(&format!(" {idle}")),
        "{said}"
    );

    let (status, said) = chore("doctor").await;
    assert!(
        status.success() && said.matches(": good").count() == 4,
        "{said}"
    );
}

#[tokio::test]
async fn without_a_database_the_chores_say_what_is_missing() {
    for name in ["migrate", "doctor"] {
        let (status, said) = run(command(&[name])).await;
        assert!(
            !status.success() && said.contains("DATABASE_URL is not set"),
            "{said}"
        );
        let mut gone = command(&[name]);
        gone.env("DATABASE_URL", "postgres://owner:hidden@127.0.0.1:1/db");
        let (status, said) = run(gone).await;
        assert!(
            !status.success() && said.contains("127.0.0.1:1/db") && !said.contains("hidden"),
            "{said}"
        );
    }
}
