//! `/health` and `/api/health`: figures for anybody, whether the functions live, and whether they can serve.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millrace::cluster::{Cluster, Keep};
use millrace::database::ensure_functions_login;
use millrace::migrate::migrate;
use millrace_tests::api::Answer;
use millrace_tests::app::App;
use millrace_tests::database::Database;
use millrace_tests::deadline::eventually;
use millrace_tests::scratch::Scratch;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// What a prober must hear from within.
const SOON: Duration = Duration::from_secs(5);

async fn get(app: &App, path: &str) -> Answer {
    app.api.send(app.api.bare(Method::GET, path)).await
}

async fn readiness(app: &App) -> (u16, Value) {
    let answer = get(app, "/health/ready").await;
    answer.assert_form();
    if answer.status == 503 {
        assert_eq!(answer.header("retry-after"), "1");
    }
    (answer.status, answer.json())
}

/// The first readiness of which `holds` is true: what was found before is kept for a second.
async fn readiness_soon(app: &App, holds: impl Fn(&Value) -> bool) -> (u16, Value) {
    eventually("a readiness that was found later", async || {
        let found = readiness(app).await;
        holds(&found.1).then_some(found)
    })
    .await
}

async fn is_ready_soon(app: &App) {
    readiness_soon(app, |body| body["status"] == "ready").await;
}

/// The number of the newest migration, by the folder that they lie in.
fn newest_migration() -> i32 {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../sql");
    let files = std::fs::read_dir(folder).expect("the migrations");
    let names = files.map(|file| file.expect("a file").file_name());
    let number = |name: &str| name.strip_prefix('V')?.split_once("__")?.0.parse().ok();
    let newest = names.filter_map(|name| number(name.to_str()?)).max();
    newest.expect("a migration")
}

/// What is said of one check that fails.
fn fault<'a>(body: &'a Value, check: &str) -> &'a str {
    assert_eq!(body["status"], "not_ready", "{body}");
    let check = &body["checks"][check];
    assert_eq!(check["ok"], false, "{body}");
    assert!(check["message"].as_str().is_some_and(|m| !m.is_empty()));
    check["code"].as_str().expect("a code")
}

fn queue<'a>(figures: &'a Value, name: &str) -> &'a Value {
    let queues = figures["queues"].as_array().expect("queues");
    let found = queues.iter().find(|queue| queue["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not in {figures}"))
}

/// Jobs of every status in the queue `q`, with words that nobody may see.
async fn every_status(app: &App) {
    let database = &app.database;
    database
        .run("select millrace.configure_queue('q', max_attempts => 2, backoff_base => '0')")
        .await;
    let claim = async || {
        let job = app.api.claim_one("q", "hidden-worker").await;
        job.expect("a job")
    };
    let report = async |job: &Value, ok: bool, permanent: bool| {
        let word = json!({"jobId": job["id"], "type": "hidden-type", "ok": ok, "leaseId": job["lease_id"], "permanent": permanent, "error": "hidden-error"});
        app.api.result(word).await.ok();
    };
    for _ in 0..2 {
        app.api.assign_one("q", "hidden-type").await;
        report(&claim().await, true, false).await;
    }
    app.api.assign_one("q", "hidden-type").await;
    report(&claim().await, false, true).await;
    let cancelled = app.api.assign_one("q", "hidden-type").await;
    let sql = "select millrace.cancel(millrace.job_id($1::text::uuid))";
    database.one(sql, &[&cancelled]).await;
    for _ in 0..2 {
        app.api.assign_one("q", "hidden-type").await;
    }
    let (retried, _running) = (claim().await, claim().await);
    report(&retried, false, false).await;
    for _ in 0..3 {
        let task = json!({"type": "hidden-type", "executorId": "q", "payload": {"secret": "hidden-payload"}});
        app.api.assign(task).await.ok();
    }
}

#[tokio::test]
async fn anybody_is_told_the_figures_of_the_queues_and_no_more() {
    let app = App::start().await;
    app.database.stop_clock_at("2030-01-07 12:00:00+00").await;
    every_status(&app).await;
    for (agent, queue) in [("hidden-1", "q"), ("hidden-2", "q"), ("hidden-3", "r")] {
        let beat = json!({"agentId": agent, "executorId": queue, "status": "idle"});
        app.api
            .post("/api/collab/workers/heartbeat", &beat)
            .await
            .ok();
    }
    app.database
        .run("select millrace.configure_queue('r'); select millrace.pause('r'); select millrace.configure_queue('millrace.own')")
        .await;
    app.database.stop_clock_at("2030-01-07 12:00:15.5+00").await;

    for path in ["/health", "/api/health", "/health/"] {
        let answer = get(&app, path).await;
        let inside = ["hidden", "millrace"].map(|word| answer.text.contains(word));
        assert_eq!(inside, [false, false], "{}", answer.text);
        let figures = answer.ok();
        assert_eq!(figures["status"], "ok");
        assert_eq!(figures["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(figures["timestamp"], "2030-01-07T12:00:15.5+00:00");
        let queues = figures["queues"].as_array().expect("queues").len();
        assert_eq!(figures["queueCount"], queues);
        let expected = json!({
            "name": "q", "paused": false, "pending": 3, "processing": 1, "retrying": 1, "completed": 2, "failed": 1, "cancelled": 1,
            "oldestPendingSeconds": 15.5, "workers": 2
        });
        assert_eq!(*queue(&figures, "q"), expected, "{path}");
        assert_eq!(queue(&figures, "r")["paused"], true);
        assert_eq!(queue(&figures, "r")["workers"], 1);
    }
    let wrong = app.api.bare(Method::GET, "/health").bearer_auth("wrong");
    app.api.send(wrong).await.ok();
}

#[tokio::test]
async fn whoever_asks_again_and_again_is_told_what_was_found_a_moment_ago() {
    let app = App::start().await;
    let start = Instant::now();
    let mut found = BTreeSet::new();
    for _ in 0..100 {
        let figures = get(&app, "/health").await.ok();
        found.insert(figures["timestamp"].to_string());
    }
    let most = start.elapsed().as_secs() as usize + 2;
    println!("100 calls, {} statements", found.len());
    assert!(
        found.len() <= most,
        "{} in {:?}",
        found.len(),
        start.elapsed()
    );
    let first = found.pop_first();
    eventually("figures of later", async || {
        let figures = get(&app, "/health").await.ok();
        (Some(figures["timestamp"].to_string()) > first).then_some(())
    })
    .await;
}

#[tokio::test]
async fn while_one_request_asks_others_are_told_what_was_found_before() {
    let app = App::start().await;
    for (path, table) in [
        ("/health", "millrace.queue"),
        ("/health/ready", "millrace.migration"),
    ] {
        let before = get(&app, path).await.ok();
        let client = app.database.connect().await;
        let lock = format!("begin; lock table {table} in access exclusive mode");
        client.batch_execute(&lock).await.expect("a lock");
        // Sooner or later one of these asks, and is stuck.
        let probing = eventually("the others' answers", async || {
            get(&app, path).await;
            None::<()>
        });
        let others = async {
            eventually("a statement that waits", async || {
                (statements_that_wait(&app).await == 1).then_some(())
            })
            .await;
            for _ in 0..10 {
                assert_eq!(get(&app, path).await.ok(), before, "{path}");
            }
            assert_eq!(statements_that_wait(&app).await, 1, "{path}");
        };
        tokio::select! {
            () = probing => {}
            () = others => {}
        }
        client.batch_execute("rollback").await.expect("an end");
    }
}

async fn statements_that_wait(app: &App) -> i64 {
    let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    app.database.one(sql, &[]).await.get(0)
}

#[tokio::test]
async fn head_tells_the_same_without_the_body() {
    let app = App::start().await;
    app.database.stop_clock_at("2030-01-07 12:00:00+00").await;
    for base in ["/health", "/api/health"] {
        for route in ["", "/live", "/ready"] {
            let path = format!("{base}{route}");
            let head = app.api.send(app.api.bare(Method::HEAD, &path)).await;
            assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
            assert_eq!(head.header("content-type"), "application/json", "{path}");
            let length = get(&app, &path).await.text.len().to_string();
            assert_eq!(head.header("content-length"), length, "{path}");
        }
    }
}

#[tokio::test]
async fn a_thousand_queues_are_listed_and_all_are_counted() {
    let app = App::start().await;
    let own = get(&app, "/health").await.ok()["queueCount"].as_i64();
    let own = own.expect("a count");
    let mut before = 0;
    for total in [300, 1001] {
        let sql = format!(
            "select millrace.configure_queue('test ' || n) from generate_series({}, {total}) as n; \
             select millrace.enqueue('test ' || n, 't', '{{}}') from generate_series({}, {total}) as n, generate_series(1, 5)",
            before + 1,
            before + 1,
        );
        app.database.run(&sql).await;
        before = total;
        let (figures, took) = eventually("the figures of now", async || {
            let start = Instant::now();
            let figures = get(&app, "/health").await.ok();
            (figures["queueCount"] == total + own).then(|| (figures, start.elapsed()))
        })
        .await;
        let queues = figures["queues"].as_array().expect("queues");
        assert_eq!(queues.len(), usize::min(1000, (total + own) as usize));
        assert_eq!(queue(&figures, "test 1")["pending"], 5);
        println!("{total} queues: {took:?}");
    }
}

#[tokio::test]
async fn what_lives_says_so_and_what_can_serve_is_ready() {
    let app = App::start().await;
    let newest = newest_migration();
    for base in ["/health", "/api/health"] {
        let live = get(&app, &format!("{base}/live")).await.ok();
        assert_eq!(live, json!({"status": "ok"}));
        let ready = get(&app, &format!("{base}/ready")).await.ok();
        let expected = json!({"status": "ready", "checks": {
            "database": {"ok": true}, "migrations": {"ok": true, "applied": newest, "expected": newest}}});
        assert_eq!(ready, expected);
    }
}

#[tokio::test]
async fn refusals_have_the_form_of_this_face() {
    let app = App::start().await;
    for (path, status, message, error) in [
        ("/health/other", 404, "there is no such route", "Not Found"),
        (
            "/api/health/live/x",
            404,
            "there is no such route",
            "Not Found",
        ),
    ] {
        let answer = get(&app, path).await;
        assert_eq!(answer.status, status);
        let body = json!({"statusCode": status, "message": message, "error": error});
        assert_eq!(answer.json(), body);
    }
    for path in ["/health", "/api/health", "/health/live", "/health/ready"] {
        for method in [Method::POST, Method::PUT, Method::DELETE] {
            let answer = app.api.send(app.api.bare(method, path)).await;
            answer.assert_form();
            assert_eq!((answer.status, answer.header("allow")), (405, "GET, HEAD"));
            let body = json!({"statusCode": 405, "message": "this route answers GET, HEAD only", "error": "Method Not Allowed"});
            assert_eq!(answer.json(), body);
        }
    }
}

#[tokio::test]
async fn a_database_that_lacks_migrations_is_not_ready_and_a_newer_one_is() {
    let app = App::start().await;
    let newest = newest_migration();
    let insert = "insert into millrace.migration select version + 1, 'later', applied_on, '1' from millrace.migration order by version desc limit 1";
    app.database.run(insert).await;
    let (status, body) = readiness(&app).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["checks"]["migrations"]["applied"], newest + 1);

    let delete = "delete from millrace.migration where version >= $1";
    app.database.all(delete, &[&newest]).await;
    let (status, body) = readiness_soon(&app, |body| body["status"] != "ready").await;
    assert_eq!((status, fault(&body, "migrations")), (503, "behind"));
    assert_eq!(body["checks"]["database"], json!({"ok": true}));
    assert_eq!(body["checks"]["migrations"]["applied"], newest - 1);
    assert_eq!(body["checks"]["migrations"]["expected"], newest);

    app.database.run("drop table millrace.migration").await;
    let without = |body: &Value| body["checks"]["migrations"]["applied"] == 0;
    let (status, body) = readiness_soon(&app, without).await;
    assert_eq!((status, fault(&body, "migrations")), (503, "behind"));
}

#[tokio::test]
async fn a_database_that_cannot_be_asked_for_its_version_is_behind() {
    let app = App::start().await;
    app.database
        .run("drop function millrace_api.readiness(jsonb)")
        .await;
    let (status, body) = readiness(&app).await;
    assert_eq!((status, fault(&body, "migrations")), (503, "behind"));
    assert_eq!(get(&app, "/health/live").await.status, 200);
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_not_ready() {
    let app = App::start().await;
    let sql = "do $$ begin execute format('alter database %I set default_transaction_read_only = on', current_database()); end $$; \
               select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    app.database.run(sql).await;
    let (status, body) = readiness(&app).await;
    assert_eq!((status, fault(&body, "database")), (503, "read_only"));
    assert_eq!(body["checks"]["migrations"]["ok"], true);
}

#[tokio::test]
async fn a_database_that_never_answers_is_told_of_soon() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = silent.local_addr().expect("an address");
    let (url, host) = (
        format!("postgres://u:p@{address}/d"),
        format!("postgres://{address}"),
    );
    let app = App::start_with(&[("database_url", &url), ("database_host", &host)]).await;
    let start = Instant::now();
    let (status, body) = readiness(&app).await;
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!((status, fault(&body, "database")), (503, "too_slow"));
    assert_eq!(fault(&body, "migrations"), "unknown");
}

#[tokio::test]
async fn a_statement_that_waits_for_a_lock_is_told_of_soon() {
    let app = App::start().await;
    let client = app.database.connect().await;
    let sql = "begin; lock table millrace.migration in access exclusive mode";
    client.batch_execute(sql).await.expect("a lock");
    let start = Instant::now();
    let (status, body) = readiness(&app).await;
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    assert_eq!((status, fault(&body, "database")), (503, "too_slow"));
    client.batch_execute("rollback").await.expect("an end");
    is_ready_soon(&app).await;
}

#[tokio::test]
async fn a_database_that_goes_and_comes_back_is_told_of_by_all_but_live() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("postgres");
    let mut cluster = Cluster::start(&folder, Keep::Durable)
        .await
        .expect("a cluster");
    let owner_url = cluster.url("postgres");
    migrate(&owner_url).await.expect("the schema");
    let url = ensure_functions_login(&owner_url, "millrace_app", "of-this-cluster")
        .await
        .expect("a login");
    let database = Database::open(&owner_url).await.with_functions_url(&url);
    let app = App::serve(database, &[]).await;
    assert_eq!(readiness(&app).await.0, 200);
    get(&app, "/health").await.ok();

    cluster.halt().expect("the server ends");
    for _ in 0..2 {
        let (status, body) = readiness_soon(&app, |body| body["status"] != "ready").await;
        assert_eq!((status, fault(&body, "database")), (503, "unavailable"));
        assert_eq!(fault(&body, "migrations"), "unknown");
        let figures = eventually("what was kept is too old", async || {
            let figures = get(&app, "/health").await;
            (figures.status != 200).then_some(figures)
        })
        .await;
        figures.assert_form();
        assert_eq!(figures.header("retry-after"), "1");
        let expected = json!({"statusCode": 503, "message": "Worker Service is unavailable", "error": "Service Unavailable"});
        assert_eq!((figures.status, figures.json()), (503, expected));
        assert_eq!(get(&app, "/health/live").await.status, 200);
    }

    cluster.restart().await.expect("the server is back");
    is_ready_soon(&app).await;
    eventually("figures of later", async || {
        (get(&app, "/health").await.status == 200).then_some(())
    })
    .await;
}
