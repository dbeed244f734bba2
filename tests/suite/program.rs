//! The `millrace` program: what `up` promises on the screen, what it leaves behind, and the database's chores.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use millrace_tests::api::Api;
use millrace_tests::database::Database;
use millrace_tests::deadline::eventually;
use millrace_tests::program::{Program, command, has_ended, run};
use millrace_tests::scratch::Scratch;
use millrace_tests::up::{READY, api, export, share_compiled, up};
use serde_json::{Value, json};

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
async fn up_has_stored_keys_that_the_database_knows_and_ticks() {
    let scratch = Scratch::new();
    let (first, _) = up(&scratch).await;
    let (url, key) = (
        export(&scratch, "MILLRACE_URL"),
        export(&scratch, "SERVICE_API_KEY"),
    );
    assert_eq!(
        export(&scratch, "SUPABASE_SERVICE_ROLE_KEY"),
        export(&scratch, "TOKEN")
    );
    let worker = Api::new(&url, &key);
    worker.assign_one("demo", "t").await;
    assert!(worker.claim_one("demo", "w").await.is_some());
    let listing = worker.get("/functions/v1/dlq-list").await;
    listing.assert_refused(403, "forbidden");

    // Nobody calls for a round but `tick`, at the port that the server got.
    let database = Database::open(&export(&scratch, "DATABASE_URL")).await;
    database
        .run("select millrace.create_schedule('s', '* * * * * *', 'fed', 't')")
        .await;
    eventually("a schedule is enqueued by itself", async || {
        let made = "select from millrace.schedule where last_job_id is not null";
        database.all(made, &[]).await.pop()
    })
    .await;
    first.end("TERM").await;

    let (second, _) = up(&scratch).await;
    assert_eq!(export(&scratch, "SERVICE_API_KEY"), key, "it is kept");
    let database = Database::open(&export(&scratch, "DATABASE_URL")).await;
    database
        .run("select millrace.revoke_api_key(name) from millrace.api_key where 'work' = any (scopes)")
        .await;
    second.end("TERM").await;

    // The file of keys is written beside the old one, which is whole until the new one is.
    let (file, old) = (
        scratch.path().join("keys.json"),
        scratch.path().join("old keys.json"),
    );
    std::fs::hard_link(&file, &old).expect("a link to the file as it is");
    let (third, _) = up(&scratch).await;
    let keys = std::fs::read_to_string(&file).expect("the keys");
    let before = std::fs::read_to_string(&old).expect("the keys of before");
    assert!(before.contains(&key) && !keys.contains(&key));
    assert!(!scratch.path().join("keys.json.new").exists());
    let mode = std::fs::metadata(&file).expect("a file").permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let renewed = export(&scratch, "SERVICE_API_KEY");
    assert_ne!(renewed, key);
    Api::new(&export(&scratch, "MILLRACE_URL"), &renewed)
        .assign_one("demo", "t")
        .await;
    let database = Database::open(&export(&scratch, "DATABASE_URL")).await;
    let live =
        "select count(*), count(distinct scopes) from millrace.api_key where revoked_at is null";
    let live = database.one(live, &[]).await;
    assert_eq!((live.get::<_, i64>(0), live.get::<_, i64>(1)), (2, 2));
    third.end("TERM").await;
}

#[tokio::test]
async fn up_over_the_database_of_an_unreleased_version_says_what_to_do() {
    let scratch = Scratch::new();
    let (first, _) = up(&scratch).await;
    let database = Database::open(&export(&scratch, "DATABASE_URL")).await;
    database
        .run("update millrace.migration set checksum = '1' where version = 3")
        .await;
    first.end("TERM").await;
    let mut again = command(&["up", "--listen", "127.0.0.1:0", "--state"]);
    again.arg(scratch.path());
    let (status, said) = run(again).await;
    assert!(!status.success());
    let folder = scratch.path().join("postgres");
    for words in [
        "made by an earlier version",
        &format!("remove {}", folder.display()),
        "another --state",
        "V3__",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(folder.join("data").exists(), "nothing was touched");
}

#[tokio::test]
async fn up_over_a_database_of_the_users_own_starts_none() {
    let (scratch, database) = (Scratch::new(), Database::fresh().await);
    let mut command = command(&["up", "--listen", "127.0.0.1:0", "--state"]);
    command
        .arg(scratch.path())
        .env("DATABASE_URL", database.url());
    share_compiled(&scratch).await;
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
        status.success() && said.matches(": good").count() == 5,
        "{said}"
    );

    let database = Database::open(&url).await;
    database
        .run("select millrace.create_schedule('s', '* * * * *', 'q', 't')")
        .await;
    database.set_clock_ahead(600.0).await;
    let (status, said) = chore("doctor").await;
    assert!(
        !status.success() && said.contains("schedules in time: 1 are overdue"),
        "{said}"
    );
}

#[tokio::test]
async fn doctor_says_what_channels_said_and_whether_jobs_wait_for_them() {
    let database = Database::fresh().await;
    let doctor = async || {
        let mut command = command(&["doctor"]);
        command.env("DATABASE_URL", database.url());
        run(command).await
    };
    for (queue, state, detail) in [
        ("a", "ready", "as told"),
        ("b", "idle", "set the variable b_url"),
        ("c", "misconfigured", "c_url"),
    ] {
        let seen = json!({ "queue": queue, "state": state, "detail": detail });
        database
            .one("select millrace_api.channel_seen($1)", &[&seen])
            .await;
    }
    let (status, said) = doctor().await;
    assert!(!status.success(), "{said}");
    for line in [
        "channel a: good",
        "channel b: good",
        "channel c: misconfigured: c_url",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }

    let enqueue = "select millrace.enqueue(q, 't') from unnest(array['a', 'b']) as q";
    database.run(enqueue).await;
    let (_, said) = doctor().await;
    let idle = "channel b: jobs are due, and it is idle: set the variable b_url";
    assert!(said.contains("channel a: good"), "{said}");
    assert!(said.contains(idle), "{said}");
    database.set_clock_ahead(600.0).await;
    let (_, said) = doctor().await;
    let late = "channel a: jobs are due, and its drain last looked 10 minutes ago";
    assert!(said.contains(late), "{said}");
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
