//! `millrace watch`: what it prints of a job and of a queue, what it exits with, and that it goes on where a connection was cut.

use millrace_tests::app::App;
use millrace_tests::deadline::eventually;
use millrace_tests::double::{Double, Reply};
use millrace_tests::keys::{API_KEY, token};
use millrace_tests::program::{Program, command, run};
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::sync::watch;

/// The program, told where the application is and who it is.
fn watch_command(url: &str, arguments: &[&str]) -> Command {
    let mut command = command(&[&["watch"], arguments].concat());
    for name in [
        "TOKEN",
        "http_proxy",
        "HTTP_PROXY",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env_remove(name);
    }
    command
        .env("MILLRACE_URL", url)
        .env("COLLAB_API_KEY", API_KEY);
    command
}

fn url(app: &App) -> String {
    format!("http://{}", app.server().addr())
}

/// Claims the queue's next job and reports on it.
async fn work(app: &App, queue: &str, outcome: Value) {
    let job = app.api.claim_one(queue, "worker-1").await.expect("a job");
    let mut report = json!({ "jobId": job["id"], "type": job["type"] });
    for (name, value) in outcome.as_object().expect("an object") {
        report[name] = value.clone();
    }
    app.api.result(report).await.ok();
}

#[tokio::test]
async fn a_job_is_followed_to_its_success() {
    let app = App::start().await;
    let id = app.api.assign_one("q", "t").await;
    let program = Program::start(watch_command(&url(&app), &[&id]));
    program.until("queued").await;
    work(&app, "q", json!({ "ok": true })).await;
    let (status, said) = program.finish().await;
    assert_eq!(status.code(), Some(0), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 3, "{said}");
    for (line, kind) in lines.iter().zip(["queued", "started", "succeeded"]) {
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!((words[1], words[2]), (kind, id.as_str()), "{line}");
    }
    assert!(lines[1].contains("attempt 1  worker worker-1"), "{said}");
}

#[tokio::test]
async fn a_job_that_fails_or_is_cancelled_exits_with_1() {
    let app = App::start().await;
    let dead = app.api.assign_one("q", "t").await;
    let outcome =
        json!({ "ok": false, "permanent": true, "error": "no\u{1b}[31mluck", "errorCode": "E7" });
    work(&app, "q", outcome).await;
    let (status, said) = run(watch_command(&url(&app), &[&dead])).await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("error E7: no [31mluck") && !said.contains('\u{1b}'),
        "{said:?}"
    );

    let cancelled = app.api.assign_one("q", "t").await;
    let program = Program::start(watch_command(&url(&app), &[&cancelled]));
    program.until("queued").await;
    app.database
        .run("select millrace.cancel(max(id)) from millrace.job")
        .await;
    let (status, said) = program.finish().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("cancelled"), "{said}");
}

#[tokio::test]
async fn json_is_one_event_a_line() {
    let app = App::start().await;
    let id = app.api.assign_one("q", "t").await;
    work(&app, "q", json!({ "ok": true })).await;
    let mut command = watch_command("http://127.0.0.1:9", &[&id, "--json", "--url", &url(&app)]);
    command.env("TOKEN", token("reader"));
    let (status, said) = run(command).await;
    assert_eq!(status.code(), Some(0), "{said}");
    let events: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let path = format!("/api/collab/events/by-job/{id}");
    assert_eq!(Value::from(events), app.api.get(&path).await.ok()["items"]);
}

#[tokio::test]
async fn what_keeps_it_from_following_is_said_and_exits_with_2() {
    let app = App::start().await;
    let id = app.api.assign_one("q", "t").await;
    let url = url(&app);
    let with = |changes: &[(&str, &str)]| {
        let mut command = watch_command(&url, &[&id]);
        command.envs(changes.iter().copied());
        command
    };
    let no_job = "00000000-0000-8000-806d-696c6c726163";
    let other = Double::start(|_| Reply::Answer(200, "", b"hello".to_vec())).await;
    let cases = [
        (watch_command(&url, &[no_job]), "job_not_found"),
        (with(&[("COLLAB_API_KEY", "wrong")]), "invalid_api_key"),
        (with(&[("TOKEN", "wrong")]), "invalid_token"),
        (with(&[("TOKEN", &token("anon"))]), "forbidden"),
        (
            with(&[("COLLAB_API_KEY", "")]),
            "neither TOKEN nor COLLAB_API_KEY",
        ),
        (
            with(&[("MILLRACE_URL", "ftp://example")]),
            "no http:// or https:// URL",
        ),
        (
            with(&[("MILLRACE_URL", "http://127.0.0.1:9")]),
            "http://127.0.0.1:9 can't be reached",
        ),
        (
            watch_command(&url, &["not-a-job"]),
            "invalid value 'not-a-job'",
        ),
        (watch_command(&url, &[]), "JOB_ID"),
        (
            watch_command(&url, &[&id, "--queue", "q"]),
            "cannot be used with",
        ),
        (with(&[("MILLRACE_URL", &other.url)]), "no event stream"),
    ];
    let count = cases.len();
    for (command, word) in cases {
        let (status, said) = run(command).await;
        assert_eq!(status.code(), Some(2), "{word}: {said}");
        assert!(said.contains(word), "{word}: {said}");
        assert!(!said.contains(API_KEY), "{said}");
    }
    println!("watch: {count} refusals");
}

#[tokio::test]
async fn a_queue_is_followed_until_the_time_is_up_or_ctrl_c() {
    let app = App::start().await;
    let id = app.api.assign_one("q", "t").await;
    let (status, said) = run(watch_command(&url(&app), &[&id, "--seconds", "1"])).await;
    assert_eq!(status.code(), Some(124), "{said}");
    let (status, said) = run(watch_command(
        &url(&app),
        &["--queue", "q", "--seconds", "1"],
    ))
    .await;
    assert_eq!((status.code(), said.as_str()), (Some(0), ""), "from now on");

    let program = Program::start(watch_command(&url(&app), &["--queue", "q"]));
    // It is not heard when the program listens, so jobs come until one is seen.
    eventually("an event is printed", async || {
        app.api.assign_one("q", "t").await;
        program.said().contains("queued").then_some(())
    })
    .await;
    let (status, said) = program.end("INT").await;
    assert_eq!(status.code(), Some(130), "{said}");
    assert!(said.lines().all(|line| line.contains("queued")), "{said}");
}

/// What stands between the program and the application, and cuts all connections when it is told to.
struct Proxy {
    url: String,
    cut: watch::Sender<u32>,
}

impl Proxy {
    async fn start(to: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let (cut, cuts) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let mut server = TcpStream::connect(to).await.expect("the application");
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { url, cut }
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again_and_no_event_is_printed_twice() {
    let app = App::start().await;
    let proxy = Proxy::start(app.server().addr()).await;
    let id = app.api.assign_one("q", "t").await;
    let program = Program::start(watch_command(&proxy.url, &[&id]));
    program.until("queued").await;
    proxy.cut.send_modify(|cuts| *cuts += 1);
    program.until("trying again").await;
    let job = app.api.claim_one("q", "w").await.expect("a job");
    program.until("started").await;
    proxy.cut.send_modify(|cuts| *cuts += 1);
    let report = json!({ "jobId": job["id"], "type": "t", "ok": true });
    app.api.result(report).await.ok();
    let (status, said) = program.finish().await;
    assert_eq!(status.code(), Some(0), "{said}");
    for kind in ["queued", "started", "succeeded"] {
        let times = said.lines().filter(|line| line.contains(kind)).count();
        assert_eq!(times, 1, "{kind}: {said}");
    }
}
