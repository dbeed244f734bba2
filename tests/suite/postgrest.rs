//! The functions reach the database through a PostgREST: what they ask it, what each of its answers means to a client, and that
//! no answer shows what is inside. A double plays PostgREST by its documentation (v14); `MILLRACE_DATABASE=postgrest` runs
//! the rest of the suite with the application's own `/rpc` in its place.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use millrace::serve::Limits;
use millrace_tests::api::{Answer, Api};
use millrace_tests::app::{App, manifest};
use millrace_tests::database::{Database, refusal};
use millrace_tests::double::{Double, Reply, Seen};
use millrace_tests::keys::API_KEY;
use millrace_tests::local_store::LocalStore;
use millrace_tests::program::{Program, command};
use reqwest::Method;
use serde_json::{Value, json};

const SERVICE_KEY: &str = "SERVICE-KEY-that-nobody-may-see-51ba";
const HEALTH: &str = "/api/collab/health";

/// An application that is told that a PostgREST is at `url`.
async fn start(url: &str) -> App {
    App::start_with(&variables(&format!("{url}/rest/v1"), url, SERVICE_KEY)).await
}

fn variables<'a>(url: &'a str, host: &'a str, key: &'a str) -> [(&'static str, &'a str); 3] {
    [
        ("database_url", url),
        ("database_host", host),
        ("database_service_key", key),
    ]
}

/// One that answers every call with `reply`.
async fn answering(reply: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Double, App) {
    let double = Double::start(reply).await;
    let app = start(&double.url).await;
    (double, app)
}

/// Gives these replies, one after the other.
fn in_turn(replies: Vec<Reply>) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
    let replies = Mutex::new(replies.into_iter());
    move |_| {
        let next = replies.lock().expect("the replies").next();
        next.unwrap_or(Reply::HangUp)
    }
}

async fn health(app: &App) -> Answer {
    app.api.get(HEALTH).await
}

/// The same, whether or not the answer is one that the route's document knows.
async fn undocumented(app: &App) -> Answer {
    let answer = app.api.bare(Method::GET, HEALTH).send().await;
    let answer = answer.expect("an answer");
    Answer {
        status: answer.status().as_u16(),
        headers: answer.headers().clone(),
        text: answer.text().await.expect("a body"),
    }
}

/// PostgREST's error body.
fn error(code: &str, message: &str, details: Value, hint: Value) -> String {
    json!({"code": code, "message": message, "details": details, "hint": hint}).to_string()
}

#[tokio::test]
async fn a_call_is_asked_as_postgrest_wants_it_and_its_answer_passes_as_it_came() {
    let answer =
        r#"{"job": {"n": 12345678901234567890.1234567890123456789,   "text": "\u00e9 é"}}"#;
    let (double, app) = answering(move |_| Reply::json(200, answer)).await;
    let claim = json!({"executorId": "é", "workerId": "w"});
    let claimed = app
        .api
        .bare(Method::POST, "/api/collab/task.claim")
        .header("x-api-key", API_KEY)
        .json(&claim);
    let claimed = claimed.send().await.expect("an answer");
    assert_eq!(claimed.status(), 200);
    assert_eq!(claimed.text().await.expect("a body"), answer);

    let seen = double.seen();
    assert_eq!(seen.len(), 1, "one request is one call");
    let call = &seen[0];
    assert_eq!(
        (call.method.as_str(), call.target.as_str()),
        ("POST", "/rest/v1/rpc/collab_claim")
    );
    for (name, value) in [
        ("authorization", format!("Bearer {SERVICE_KEY}")),
        ("apikey", SERVICE_KEY.to_owned()),
        ("content-profile", "millrace_api".to_owned()),
        ("content-type", "application/json".to_owned()),
        ("accept", "application/json".to_owned()),
        ("content-length", call.body.len().to_string()),
        ("transfer-encoding", String::new()),
        ("x-api-key", String::new()),
    ] {
        assert_eq!(call.header(name), value, "{name}");
    }
    let body: Value = serde_json::from_str(&call.body).expect("JSON");
    assert_eq!(body["executorId"], "é");
    assert_eq!(body["workerId"], "w");
}

#[tokio::test]
async fn a_stored_key_and_its_call_go_together() {
    let (double, app) = answering(|_| Reply::json(200, "{}")).await;
    let key = format!("mr_{}", "0a".repeat(32));
    let digest: String = app
        .database
        .one("select encode(sha256($1::text::bytea), 'hex')", &[&key])
        .await
        .get(0);
    let call = app
        .api
        .bare(Method::GET, "/api/collab/workers/active?executorId=e")
        .header("x-api-key", &key);
    call.send().await.expect("an answer");
    let seen = double.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].target, "/rest/v1/rpc/admitted");
    let body: Value = serde_json::from_str(&seen[0].body).expect("JSON");
    assert_eq!(body["admit"], json!({"key": digest, "scope": "read"}));
    assert_eq!(body["function"], "collab_workers_active");
    assert_eq!(body["request"]["executorId"], "e");
    assert!(!seen[0].body.contains(&key), "the key itself stays here");
}

#[tokio::test]
async fn a_route_without_a_call_of_its_own_has_a_stored_key_admitted() {
    let double = Double::start(|_| {
        Reply::json(
            401,
            error(
                "PT401",
                "the API key is not valid",
                Value::Null,
                "invalid_api_key".into(),
            ),
        )
    })
    .await;
    let store = LocalStore::new();
    let url = format!("{}/rest/v1/", double.url);
    let app = store
        .serve(&variables(&url, &double.url, SERVICE_KEY))
        .await;
    let key = format!("mr_{}", "0a".repeat(32));
    let link = app
        .api
        .bare(
            Method::GET,
            "/functions/v1/sign-artifact?bucket=artifacts&path=a",
        )
        .header("apikey", &key);
    let answer = app.api.send(link).await;
    answer.assert_refused(401, "invalid_api_key");
    assert_eq!(
        answer.header("www-authenticate"),
        "Bearer error=\"invalid_token\""
    );
    let seen = double.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].target, "/rest/v1/rpc/admit");
}

/// What PostgREST, or what stands before it, answers: a name, status, headers and body; and what a client of ours is told.
fn refusals() -> Vec<(&'static str, u16, String, u16, &'static str)> {
    let plain = |code: &str| error(code, "inside", Value::Null, Value::Null);
    let text = |body: &str| body.to_owned();
    let mut all = vec![
        (
            "raised",
            409,
            error(
                "PT409",
                "a sentence",
                "more".into(),
                "not_lease_owner".into(),
            ),
            409,
            "not_lease_owner",
        ),
        (
            "raised without a code",
            409,
            plain("PT409"),
            500,
            "internal_error",
        ),
        (
            "raised with no status",
            500,
            plain("PTxyz"),
            500,
            "internal_error",
        ),
        (
            "raised: too many",
            429,
            error("PT429", "slowly", Value::Null, "slow_down".into()),
            429,
            "slow_down",
        ),
        (
            "no code",
            400,
            text(r#"{"message":"inside"}"#),
            500,
            "misconfigured",
        ),
        (
            "a number for a code",
            400,
            text(r#"{"code":400}"#),
            500,
            "misconfigured",
        ),
        (
            "the gateway does not know the key",
            401,
            format!(r#"{{"message":"Invalid API key","hint":"{SERVICE_KEY} is not one"}}"#),
            500,
            "misconfigured",
        ),
        ("forbidden", 403, text("<html>inside"), 500, "misconfigured"),
        (
            "another path",
            404,
            text("<html>inside"),
            500,
            "misconfigured",
        ),
        ("no content", 204, text(""), 500, "misconfigured"),
        ("created", 201, text("{}"), 500, "misconfigured"),
        ("broken", 500, text("<html>inside"), 500, "internal_error"),
        ("PGRSTX00", 500, plain("PGRSTX00"), 500, "internal_error"),
    ];
    for (status, code) in [
        (400, "22P02"),
        (409, "23505"),
        (401, "42501"),
        (404, "42883"),
        (400, "P0001"),
        (500, "XX000"),
    ] {
        all.push((code, status, plain(code), 500, "internal_error"));
    }
    for (status, code) in [
        (503, "08006"),
        (405, "25006"),
        (500, "57P01"),
        (500, "57P03"),
        (503, "53300"),
        (503, "PGRST000"),
        (503, "PGRST001"),
        (503, "PGRST002"),
        (504, "PGRST003"),
    ] {
        all.push((code, status, plain(code), 503, "database_unavailable"));
    }
    for status in [429, 502, 503, 504, 521, 540] {
        all.push((
            "a gateway",
            status,
            text("<html>inside"),
            503,
            "database_unavailable",
        ));
    }
    for (status, code) in [
        (500, "40001"),
        (500, "40P01"),
        (500, "55P03"),
        (500, "57014"),
    ] {
        all.push((code, status, plain(code), 503, "try_again"));
    }
    for (status, code) in [
        (400, "PGRST102"),
        (406, "PGRST106"),
        (404, "PGRST202"),
        (500, "PGRST300"),
        (401, "PGRST301"),
        (401, "PGRST302"),
    ] {
        all.push((code, status, plain(code), 500, "misconfigured"));
    }
    all
}

#[tokio::test]
async fn each_refusal_means_to_a_client_what_it_would_over_a_connection() {
    let rows = refusals();
    let replies = rows
        .iter()
        .map(|(_, status, body, ..)| Reply::json(*status, body.as_str()));
    let (double, app) = answering(in_turn(replies.collect())).await;
    for (name, answered, _, status, code) in &rows {
        println!("{answered} {name} -> {status} {code}");
        let answer = undocumented(&app).await;
        answer.assert_refused(*status, code);
        let retry_after = match status {
            429 | 503 => "1",
            _ => "",
        };
        assert_eq!(answer.header("retry-after"), retry_after, "{name}");
        for inside in ["inside", SERVICE_KEY, &double.url, "PGRST"] {
            assert!(!answer.text.contains(inside), "{name}: {}", answer.text);
        }
        if *name == "raised" {
            let body = answer.json();
            assert_eq!(
                (&body["error"], &body["details"]),
                (&json!("a sentence"), &json!("more"))
            );
        }
    }
    assert_eq!(double.seen().len(), rows.len(), "nothing is asked twice");
    println!("{} refusals", rows.len());
}

#[tokio::test]
async fn a_redirect_takes_the_key_nowhere() {
    let elsewhere = Double::start(|_| Reply::json(200, r#"{"ok": true}"#)).await;
    let location = format!("location: {}/rest/v1/rpc/collab_health\r\n", elsewhere.url);
    let location: &'static str = location.leak();
    let statuses = [301, 302, 303, 307, 308];
    let redirects = statuses.map(|status| Reply::Answer(status, location, Vec::new()));
    let (double, app) = answering(in_turn(redirects.into())).await;
    for _ in statuses {
        health(&app).await.assert_refused(500, "misconfigured");
    }
    assert_eq!(double.seen().len(), statuses.len());
    assert_eq!(elsewhere.seen().len(), 0);
}

#[tokio::test]
async fn half_an_answer_is_none() {
    let whole = r#"{"ok": true}"#;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let halves = [
        String::new(),
        "HTTP/1.1 200".to_owned(),
        head.to_owned(),
        format!("{head}content-length: {}\r\n\r\n{{\"ok\"", whole.len()),
        format!("{head}transfer-encoding: chunked\r\n\r\nc\r\n{whole}\r\n"),
        format!("{head}transfer-encoding: chunked\r\n\r\nc\r\n{{\"ok\""),
    ];
    let count = halves.len();
    let halves = halves.map(|half| Reply::Bytes(half.into_bytes()));
    let replies = halves.into_iter().chain([Reply::json(200, whole)]);
    let (_double, app) = answering(in_turn(replies.collect())).await;
    for _ in 0..count {
        let answer = health(&app).await;
        answer.assert_refused(503, "database_unavailable");
    }
    let answer = app.api.bare(Method::GET, HEALTH).send().await;
    assert_eq!(
        answer.expect("an answer").status(),
        200,
        "the next is whole"
    );
}

#[tokio::test]
async fn an_answer_may_be_large_but_not_without_end() {
    const LIMIT: usize = 16 * 1024 * 1024;
    let sized = |length: usize| format!("\"{}\"", "x".repeat(length - 2));
    let (_double, app) = answering(move |seen| match seen.target.contains("health") {
        true => Reply::json(200, sized(LIMIT + 1)),
        false => Reply::json(200, sized(LIMIT)),
    })
    .await;
    health(&app).await.assert_refused(500, "internal_error");
    let large = app.api.request(Method::GET, "/api/collab/jobs/recent");
    let large = large.send().await.expect("an answer");
    assert_eq!(large.status(), 200);
    assert_eq!(large.bytes().await.expect("a body").len(), LIMIT);
}

#[tokio::test]
async fn what_is_no_postgrest_is_not_taken_for_one() {
    let page = "content-type: text/html\r\n";
    let (_double, app) = answering(move |_| Reply::Answer(200, page, b"<p>hello".to_vec())).await;
    health(&app).await.assert_refused(500, "misconfigured");

    let (_double, app) = answering(|_| Reply::json(200, "null")).await;
    health(&app).await.assert_refused(500, "internal_error");
    let (_double, app) = answering(|_| Reply::json(200, b"\"\xff\"".to_vec())).await;
    health(&app).await.assert_refused(500, "internal_error");
}

#[tokio::test]
async fn one_that_is_gone_or_silent_is_not_waited_for() {
    let (double, app) = answering(|_| Reply::HangUp).await;
    health(&app)
        .await
        .assert_refused(503, "database_unavailable");
    drop(double);
    let gone = health(&app).await;
    gone.assert_refused(503, "database_unavailable");
    assert_eq!(gone.header("retry-after"), "1");

    // The function waits for 25 s, and a host may wait less.
    let silent = Double::start(|_| Reply::Silence).await;
    let limits = Limits {
        outbound_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let url = format!("{}/rest/v1", silent.url);
    let variables = variables(&url, &silent.url, SERVICE_KEY);
    let app = App::serve_limited(manifest(), Database::fresh().await, &variables, limits).await;
    let start_of_it = Instant::now();
    health(&app)
        .await
        .assert_refused(503, "database_unavailable");
    let waited = start_of_it.elapsed().as_secs_f64();
    assert!((0.9..20.0).contains(&waited), "{waited} s");
}

#[tokio::test]
async fn what_is_set_wrongly_is_asked_of_nobody() {
    let double = Double::start(|_| Reply::json(200, r#"{"ok": true}"#)).await;
    let url = format!("{}/rest/v1", double.url);
    for (what, database_url, host, key) in [
        ("no key", url.as_str(), double.url.as_str(), ""),
        ("a key that is no header", &url, &double.url, "a\nb: c"),
        (
            "a host that is not allowed",
            &url,
            "https://db.invalid",
            SERVICE_KEY,
        ),
        ("no URL", "http://[", &double.url, SERVICE_KEY),
        (
            "another scheme",
            "ftp://127.0.0.1/rest/v1",
            &double.url,
            SERVICE_KEY,
        ),
        ("no scheme", "127.0.0.1", &double.url, SERVICE_KEY),
    ] {
        println!("{what}");
        let app = App::start_with(&variables(database_url, host, key)).await;
        health(&app).await.assert_refused(500, "misconfigured");
    }
    assert_eq!(double.seen().len(), 0);
}

#[tokio::test]
async fn the_log_names_what_is_wrong_and_shows_no_key() {
    let said_there = "words-of-somebody-elses-99d1";
    let rows = [
        (
            401,
            error("PGRST301", said_there, SERVICE_KEY.into(), Value::Null),
            "collab_health: PostgREST refuses with PGRST301",
        ),
        (
            401,
            format!(r#"{{"message":"{SERVICE_KEY} {said_there}"}}"#),
            "it answers 401 Unauthorized",
        ),
        (
            404,
            error("PGRST202", said_there, Value::Null, Value::Null),
            "PostgREST refuses with PGRST202",
        ),
        (
            503,
            error("PGRST000", said_there, Value::Null, Value::Null),
            "PostgREST has no connection",
        ),
        (
            502,
            said_there.to_owned(),
            "database_url answers 502 Bad Gateway",
        ),
        (
            400,
            error("22P02", said_there, Value::Null, Value::Null),
            "collab_health: SQLSTATE 22P02",
        ),
    ];
    let replies = rows
        .iter()
        .map(|(status, body, _)| Reply::json(*status, body.as_str()));
    // The start asks each channel, and channels ask the database too.
    let replies = in_turn(replies.collect());
    let double = Double::start(move |seen| match seen.target.ends_with("/collab_health") {
        true => replies(seen),
        false => Reply::json(200, "{}"),
    })
    .await;
    let mut serve = command(&["serve", "--listen", "127.0.0.1:0"]);
    for (name, value) in [
        ("DATABASE_URL", format!("{}/rest/v1", double.url)),
        ("DATABASE_HOST", double.url.clone()),
        ("DATABASE_SERVICE_KEY", SERVICE_KEY.to_owned()),
        ("COLLAB_API_KEY", "key".to_owned()),
    ] {
        serve.env(format!("SPIN_VARIABLE_{name}"), value);
    }
    serve.env("RUST_LOG", "debug");
    let program = Program::start(serve);
    let said = program.until("==> serving ").await;
    let base = said
        .split("==> serving ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    let api = Api::new(base.expect("an address"), "key");
    for _ in &rows {
        api.get(HEALTH).await;
    }
    let (_, said) = program.end("TERM").await;
    for (_, _, named) in &rows {
        assert!(said.contains(named), "{named}: {said}");
    }
    assert!(
        !said.contains(SERVICE_KEY),
        "the key shows in the log: {said}"
    );
    assert!(
        !said.contains(said_there),
        "an answer shows in the log: {said}"
    );
}

/// A digest of a stored key with these scopes.
async fn stored_key(database: &Database, scopes: &[&str]) -> String {
    let sql =
        "select encode(sha256(millrace.create_api_key(gen_random_uuid()::text, $1)::bytea), 'hex')";
    database.one(sql, &[&scopes]).await.get(0)
}

#[tokio::test]
async fn a_key_is_admitted_and_the_call_made_in_one_transaction_or_neither() {
    let database = Database::fresh().await;
    let functions = millrace::database::connect(&database.functions_url())
        .await
        .expect("the functions' login");
    let key = stored_key(&database, &["enqueue"]).await;
    let call = async |request: Value| {
        let sql = "select millrace_api.admitted($1::text::jsonb)::text";
        let answer = functions.query_one(sql, &[&request.to_string()]).await;
        answer
            .map(|row| serde_json::from_str::<Value>(row.get(0)).expect("JSON"))
            .map_err(|e| refusal(&e))
    };
    let refused = |status: &str, code: &str| Err((status.to_owned(), code.to_owned()));
    let good = json!({"key": key, "scope": "enqueue"});
    let job = json!({"type": "t", "executorId": "e", "payload": {}});

    let jobs = "select count(*) from millrace.job";
    let used = "select count(*) from millrace.api_key k where k.last_used_at is not null";
    let count = async |sql: &str| database.one(sql, &[]).await.get::<_, i64>(0);

    for (admit, status, code) in [
        (json!({"key": key, "scope": "work"}), "PT403", "forbidden"),
        (
            json!({"key": "00", "scope": "enqueue"}),
            "PT401",
            "invalid_api_key",
        ),
        (json!({"scope": "enqueue"}), "PT401", "invalid_api_key"),
        (json!({}), "PT401", "invalid_api_key"),
        (Value::Null, "PT401", "invalid_api_key"),
        (json!([good]), "PT401", "invalid_api_key"),
    ] {
        let answer =
            call(json!({"admit": admit, "function": "collab_assign", "request": job})).await;
        assert_eq!(answer, refused(status, code), "{admit}");
    }
    for name in [
        "admitted",
        "no_such_function",
        "pg_sleep",
        "Collab_assign",
        "collab_assign\"",
        "",
        "collab_assign(null)--",
    ] {
        let answer = call(json!({"admit": good, "function": name, "request": job})).await;
        assert_eq!(answer, refused("PT404", "function_not_found"), "{name}");
    }
    let answer = call(json!({"admit": good, "request": job})).await;
    assert_eq!(answer, refused("PT404", "function_not_found"));
    // What the function refuses takes the key's admission back as well.
    let answer = call(json!({"admit": good, "function": "collab_claim", "request": {}})).await;
    assert!(answer.is_err());
    assert_eq!((count(jobs).await, count(used).await), (0, 0));

    let answer = call(json!({"admit": good, "function": "collab_assign", "request": job})).await;
    assert_eq!(answer.expect("a job")["queued"], true);
    assert_eq!((count(jobs).await, count(used).await), (1, 1));
}

#[tokio::test]
async fn a_role_that_is_granted_the_api_can_call_it_and_nothing_else() {
    let database = Database::fresh().await;
    let key = stored_key(&database, &["all"]).await;
    let call = format!(
        r#"select millrace_api.admitted('{{"admit": {{"key": "{key}", "scope": "read"}}, "function": "collab_health", "request": {{}}}}')"#
    );
    let role = format!("service_role_{}", std::process::id());
    database
        .run(&format!("create role {role} nologin noinherit"))
        .await;
    let permitted = async |sql: &str| {
        database.run(&format!("set role {role}")).await;
        let outcome = database.client().batch_execute(sql).await;
        database.run("reset role").await;
        match outcome {
            Ok(()) => "yes".to_owned(),
            Err(e) => refusal(&e).0,
        }
    };
    // As its caller, and with no more than its caller may do.
    database
        .run(&format!(
            "grant usage on schema millrace_api to {role};
             grant execute on function millrace_api.admitted, millrace_api.admit to {role}"
        ))
        .await;
    assert_eq!(permitted(&call).await, "42501");

    database
        .run(&format!("select millrace.grant_api('{role}')"))
        .await;
    database
        .run("create function millrace_api.of_a_later_version(jsonb) returns jsonb language sql as 'select $1'")
        .await;
    database
        .run("revoke all on function millrace_api.of_a_later_version from public")
        .await;
    for (sql, expected) in [
        (call.as_str(), "yes"),
        ("select millrace_api.collab_health('{}')", "yes"),
        ("select millrace_api.of_a_later_version('{}')", "yes"),
        ("select count(*) from millrace.job", "42501"),
        ("select millrace.clock()", "42501"),
        ("select millrace.grant_api('postgres')", "42501"),
    ] {
        assert_eq!(permitted(sql).await, expected, "{sql}");
    }
    database
        .run(&format!("drop owned by {role}; drop role {role}"))
        .await;
}
