//! No secret comes out: not in an answer, not in the log, not in what the program says when it can't start.

use millrace::database::outbound_host;
use millrace_tests::api::{Answer, Api};
use millrace_tests::database::Database;
use millrace_tests::keys::{now, signed};
use millrace_tests::program::{Program, command, run};
use reqwest::Method;
use serde_json::json;
use url::Url;

const KEY: &str = "KEY-that-nobody-may-see-4c1f";
const SECRET: &str = "SECRET-that-nobody-may-see-0d2e-and-that-is-long-enough";
const PASSWORD: &str = "PASSWORD-that-nobody-may-see-77ab";
const WRONG: &str = "WRONG-credentials-are-somebodys-elsewhere-91cd";
const QUERY: &str = "QUERY-that-stays-out-of-the-log-5e5e";
const PAYLOAD: &str = "PAYLOAD-that-stays-out-of-the-log-3b3b";

/// The URL of the functions' login with another password, which the server does not take.
fn with_password(url: &str, password: &str) -> String {
    let mut url = Url::parse(url).expect("a URL");
    url.set_password(Some(password)).expect("a password");
    url.into()
}

/// `millrace serve` over a database, and its address.
async fn serve(database_url: &str, log: &str) -> (Program, String) {
    let mut command = command(&["serve", "--listen", "127.0.0.1:0"]);
    command
        .env("RUST_LOG", log)
        .env("SPIN_VARIABLE_DATABASE_URL", database_url)
        .env(
            "SPIN_VARIABLE_DATABASE_HOST",
            outbound_host(database_url).expect("an address"),
        )
        .env("SPIN_VARIABLE_SUPABASE_JWT_SECRET", SECRET)
        .env("SPIN_VARIABLE_COLLAB_API_KEY", KEY);
    let program = Program::start(command);
    let said = program.until("==> serving ").await;
    let url = said
        .split("==> serving ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    (program, url.expect("an address").to_owned())
}

/// Good requests, refused ones and broken ones, each with something secret in it; returns the answers.
async fn provoke(base: &str, token: &str, stored: &str) -> Vec<Answer> {
    let api = Api::new(base, KEY);
    let bare = || api.bare(Method::POST, "/api/collab/task.assign");
    let task = json!({"type": "t", "executorId": "e", "payload": {"inside": PAYLOAD}});
    let failure = json!({"jobId": "00000000-0000-4000-8000-000000000000", "type": "t", "ok": false, "error": PAYLOAD});
    let requests = [
        api.bare(Method::GET, "/api/collab/health"),
        bare().header("x-api-key", KEY).json(&task),
        bare().bearer_auth(token).json(&task),
        bare().header("apikey", token).json(&task),
        bare().header("x-api-key", WRONG).json(&task),
        bare().bearer_auth(WRONG).json(&task),
        bare().bearer_auth(format!("{token}{WRONG}")).json(&task),
        bare().bearer_auth(KEY).json(&task),
        bare().header("x-api-key", stored).json(&task),
        bare().bearer_auth(stored).json(&task),
        bare().bearer_auth(format!("{stored}0")).json(&task),
        bare()
            .header("x-api-key", KEY)
            .header("content-type", "application/json")
            .body(PAYLOAD),
        bare()
            .header("x-api-key", KEY)
            .json(&json!({"type": "t", "executorId": "e", "priority": 1000, "payload": PAYLOAD})),
        api.request(Method::POST, "/api/collab/task.result")
            .json(&failure),
        api.request(
            Method::GET,
            &format!("/api/collab/workers/active?executorId={QUERY}"),
        ),
        api.request(Method::GET, &format!("/nowhere?token={QUERY}")),
    ];
    let mut answers = Vec::new();
    for request in requests {
        answers.push(api.send(request).await);
    }
    answers
}

fn assert_hidden(place: &str, text: &str, secrets: &[&str]) {
    for secret in secrets {
        if let Some(line) = text.lines().find(|line| line.contains(secret)) {
            panic!("{place} shows {secret}: {line}");
        }
    }
}

#[tokio::test]
async fn no_answer_and_no_line_of_the_log_shows_a_secret() {
    let database = Database::fresh().await;
    let good = database.functions_url();
    let password = Url::parse(&good)
        .expect("a URL")
        .password()
        .expect("a password")
        .to_owned();
    let gone = format!("postgres://millrace_app:{PASSWORD}@127.0.0.1:1/millrace");
    let refused = with_password(&good, PASSWORD);
    let token = signed(
        &json!({"role": "service_role", "exp": now() + 3600}),
        SECRET,
    );
    let create = "select millrace.create_api_key('k', '{enqueue}')";
    let stored: String = database.one(create, &[]).await.get(0);
    let keys = [KEY, SECRET, PASSWORD, &password, &token, &stored, WRONG];

    let mut statuses = Vec::new();
    for (url, log) in [
        (&good, "info"),
        (&good, "debug"),
        (&gone, "debug"),
        (&refused, "debug"),
    ] {
        let (program, base) = serve(url, log).await;
        for answer in provoke(&base, &token, &stored).await {
            assert_hidden(
                "an answer",
                &format!("{}\n{:?}", answer.text, answer.headers),
                &keys,
            );
            statuses.push(answer.status);
        }
        let (_, said) = program.end("TERM").await;
        assert!(
            said.contains("path=\"/api/collab/health\""),
            "the access log is there: {said}"
        );
        assert_hidden("the log", &said, &keys);
        if log == "info" {
            assert_hidden("the log", &said, &[QUERY, PAYLOAD]);
        }
    }
    for status in [200, 400, 401, 404, 503] {
        assert!(
            statuses.contains(&status),
            "{status} was among the answers: {statuses:?}"
        );
    }
    println!(
        "{} answers and the log of 4 servers show none of {} secrets",
        statuses.len(),
        keys.len()
    );
}

#[tokio::test]
async fn a_program_that_cannot_start_does_not_say_the_password() {
    let url = format!("postgres://owner:{PASSWORD}@127.0.0.1:1/db");
    for broken in [
        url.clone(),
        format!("postgres://owner:{PASSWORD}@127.0.0.1:port/db"),
        format!("postgres://owner:{PASSWORD}@/db?host"),
        format!("owner:{PASSWORD}@127.0.0.1/db"),
        format!("host=127.0.0.1 port=1 user=owner password={PASSWORD} nonsense=1"),
        format!("host=127.0.0.1 port=1 user=owner password='{PASSWORD}"),
    ] {
        for chore in ["migrate", "doctor"] {
            let mut command = command(&[chore]);
            command
                .env("DATABASE_URL", &broken)
                .env("RUST_LOG", "debug");
            let (status, said) = run(command).await;
            assert!(!status.success() && !said.is_empty(), "{chore}: {said}");
            assert_hidden(chore, &said, &[PASSWORD]);
        }
    }

    // A whole connection string where only the address belongs.
    let mut serve = command(&["serve", "--listen", "127.0.0.1:0"]);
    serve
        .env("SPIN_VARIABLE_DATABASE_URL", &url)
        .env("SPIN_VARIABLE_DATABASE_HOST", &url)
        .env("RUST_LOG", "debug");
    let (status, said) = run(serve).await;
    assert!(
        !status.success() && said.contains("allowed_outbound_hosts"),
        "{said}"
    );
    assert_hidden("serve", &said, &[PASSWORD]);
}
