//! What the host makes of components that misbehave, and what it lets them see and reach. The components are those
//! of `tests/fixtures`; each test serves a manifest of its own.

mod composition;
mod files;
mod neighbours;
mod postgres;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use millrace::serve::{Limits, ServeOptions, Server};
use millrace_tests::app::{host, options};
use reqwest::{Client, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use uuid::Uuid;

const PROBE: &str = r#"
    [[trigger.http]]
    route = "/probe/:name/..."
    component = "probe"
    [component.probe]
    source = "FIXTURES/fixture_probe.wasm"
"#;

/// A served manifest and a client for it.
struct Probe {
    server: Server,
    client: Client,
}

impl Probe {
    /// Serves the probe with more lines at the manifest's end, under the default limits.
    async fn start(lines: &str) -> Self {
        Self::limited(lines, Limits::default()).await
    }

    async fn limited(lines: &str, limits: Limits) -> Self {
        let manifest = Manifest::write(&format!("{PROBE}{lines}"));
        let options = ServeOptions {
            limits,
            cron: true,
            ..options(manifest.path(), BTreeMap::new())
        };
        let server = host()
            .await
            .serve(options)
            .await
            .expect("the fixture serves");
        Self {
            server,
            client: Client::new(),
        }
    }

    fn url(&self, action: &str) -> String {
        format!("http://{}/probe/x/{action}", self.server.addr())
    }

    async fn get(&self, action: &str, argument: &str) -> Response {
        let request = self
            .client
            .get(self.url(action))
            .header("argument", argument);
        request.send().await.expect("an answer")
    }

    async fn text(&self, action: &str, argument: &str) -> String {
        let response = self.get(action, argument).await;
        assert_eq!(response.status(), 200, "{action} {argument}");
        response.text().await.expect("a body")
    }
}

/// A manifest in a folder of its own, removed with it.
struct Manifest(PathBuf);

impl Manifest {
    fn write(lines: &str) -> Self {
        let fixtures = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../target/wasm32-wasip2/component"
        );
        let folder = std::env::temp_dir().join(format!("millrace-host-{}", Uuid::new_v4()));
        std::fs::create_dir(&folder).expect("a folder");
        let head = "spin_manifest_version = 2\n[application]\nname = \"fixture\"\n";
        let text = format!("{head}{lines}").replace("FIXTURES", fixtures);
        std::fs::write(folder.join("spin.toml"), text).expect("a manifest");
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.join("spin.toml")
    }
}

impl Drop for Manifest {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Everything that was logged in this process so far; tests look for what only they can have caused.
fn log() -> &'static Mutex<Vec<u8>> {
    static LOG: OnceLock<Mutex<Vec<u8>>> = OnceLock::new();
    struct Sink;
    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            log().lock().expect("the log").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    LOG.get_or_init(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(|| Sink);
        subscriber.try_init().expect("no other test logs");
        Mutex::default()
    })
}

fn logged(what: &str) -> Option<String> {
    let log = log().lock().expect("the log");
    let text = String::from_utf8_lossy(&log);
    text.lines()
        .find(|line| line.contains(what))
        .map(str::to_owned)
}

fn quick() -> Limits {
    Limits {
        request_timeout: Duration::from_secs(2),
        ..Limits::default()
    }
}

#[tokio::test]
async fn a_trap_is_a_500_whose_id_is_in_the_log_and_nothing_else_is_in_the_body() {
    log();
    let probe = Probe::start("").await;
    let response = probe.get("trap", "deepsecret").await;
    assert_eq!(response.status(), 500);
    let body: serde_json::Value = response.json().await.expect("JSON");
    let id = body["id"].as_str().expect("an id");
    assert!(Uuid::parse_str(id).is_ok());
    let expected = serde_json::json!({"error": "internal error", "code": "internal", "id": id});
    assert_eq!(body, expected);
    let line = logged(id).expect("the id is in the log");
    assert!(
        line.contains("probe") && line.contains("a request failed"),
        "{line}"
    );
    assert!(logged("wasm trap").is_some(), "the trap is in the log");
    assert_eq!(
        probe.get("served", "").await.status(),
        200,
        "the next request has a new instance"
    );
}

#[tokio::test]
async fn a_guest_in_a_loop_is_a_504_and_others_are_served_meanwhile() {
    let probe = Probe::limited("", quick()).await;
    let looping = probe.get("loop", "");
    let others = async {
        for _ in 0..20 {
            assert_eq!(probe.get("served", "").await.status(), 200);
        }
    };
    let (response, ()) = tokio::join!(looping, others);
    assert_eq!(response.status(), 504);
    let body: serde_json::Value = response.json().await.expect("JSON");
    assert_eq!(body["code"], "timeout");
}

#[tokio::test]
async fn a_guest_that_waits_too_long_is_a_504() {
    let probe = Probe::limited("", quick()).await;
    let start = Instant::now();
    assert_eq!(probe.get("hang", "").await.status(), 504);
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn memory_is_limited() {
    let limits = Limits {
        memory_bytes: 32 * 1024 * 1024,
        ..Limits::default()
    };
    let probe = Probe::limited("", limits).await;
    assert_eq!(
        probe.text("memory", "16").await,
        (16 * 1024 * 1024).to_string()
    );
    assert_eq!(probe.get("memory", "64").await.status(), 500);
    assert_eq!(probe.get("served", "").await.status(), 200);
}

#[tokio::test]
async fn outbound_http_reaches_only_what_is_allowed() {
    log();
    let target = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let allowed = target.local_addr().expect("its address");
    tokio::spawn(answer_each(target));
    let lines = format!("allowed_outbound_hosts = [\"http://{allowed}\", \"http://self\"]\n");
    let probe = Probe::start(&lines).await;
    let denied = probe.server.addr();

    assert_eq!(
        probe.text("fetch", &format!("http://{allowed}/")).await,
        "status: 200"
    );
    assert_eq!(
        probe.text("fetch", "http://self.alt/nothing-here").await,
        "status: 404"
    );
    let refusal = probe
        .text("fetch", &format!("http://user:pw@{denied}/?q=hidden"))
        .await;
    assert!(refusal.contains("HttpRequestDenied"), "{refusal}");
    let line = logged(&format!("port={}", denied.port())).expect("the refusal is logged");
    assert!(
        line.contains("probe") && !line.contains("pw") && !line.contains("hidden"),
        "{line}"
    );
    let refusal = probe.text("fetch", &format!("https://{allowed}/")).await;
    assert!(
        refusal.contains("HttpRequestDenied"),
        "another scheme: {refusal}"
    );
}

/// Answers every connection's first request with 200.
async fn answer_each(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = [0; 1024];
        _ = stream.read(&mut request).await;
        _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            .await;
    }
}

#[tokio::test]
async fn a_component_sees_its_own_variables_and_environment_only() {
    let lines = r#"
        variables = { greeting = "hello {{ name }}" }
        environment = { COLOUR = "blue" }
        [variables]
        name = { default = "miller" }
        password = { default = "flour", secret = true }
    "#;
    let probe = Probe::start(lines).await;
    assert_eq!(probe.text("variable", "greeting").await, "hello miller");
    let undefined = probe.text("variable", "password").await;
    assert!(
        undefined.contains("Undefined") && !undefined.contains("flour"),
        "{undefined}"
    );
    let invalid = probe.text("variable", "Not-A-Name").await;
    assert!(invalid.contains("InvalidName"), "{invalid}");
    assert_eq!(probe.text("environment", "").await, "COLOUR=blue\n");
}

#[tokio::test]
async fn the_guest_sees_spins_headers_and_no_forged_ones() {
    let probe = Probe::start("").await;
    let request = probe.client.get(probe.url("deep/headers?key=value"));
    let request = request
        .header("spin-client-addr", "forged")
        .header("spin-path-match-evil", "1");
    let text = request
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("a body");
    for line in [
        "spin-base-path: /",
        "spin-component-route: /probe/:name",
        "spin-matched-route: /probe/:name/...",
        "spin-path-info: /deep/headers",
        "spin-path-match-name: x",
        "spin-raw-component-route: /probe/:name/...",
        "spin-client-addr: 127.0.0.1:",
        &format!(
            "spin-full-url: http://{}/probe/x/deep/headers?key=value",
            probe.server.addr()
        ),
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("forged") && !text.contains("evil"), "{text}");
}

#[tokio::test]
async fn bodies_are_limited_and_unknown_routes_are_404() {
    let probe = Probe::limited(
        "",
        Limits {
            body_bytes: 1000,
            ..Limits::default()
        },
    )
    .await;
    let post = |length: usize| {
        probe
            .client
            .post(probe.url("length"))
            .body("x".repeat(length))
            .send()
    };
    let fits = post(1000).await.expect("an answer");
    assert_eq!(
        (fits.status().as_u16(), fits.text().await.expect("a body")),
        (200, "1000".to_owned())
    );
    assert_eq!(post(1001).await.expect("an answer").status(), 413);

    let response = reqwest::get(format!("http://{}/elsewhere", probe.server.addr()))
        .await
        .expect("an answer");
    assert_eq!(response.status(), 404);
    let body: serde_json::Value = response.json().await.expect("JSON");
    assert_eq!(body["code"], "not_found");
}

#[tokio::test]
async fn instances_are_reused_as_often_as_they_may_be() {
    let limits = Limits {
        requests_per_instance: 3,
        ..Limits::default()
    };
    let probe = Probe::limited("", limits).await;
    let mut served = Vec::new();
    for _ in 0..6 {
        served.push(probe.text("served", "").await);
    }
    assert_eq!(served, ["1", "2", "3", "1", "2", "3"]);
}

#[tokio::test]
async fn what_a_guest_prints_is_logged_with_its_name() {
    log();
    let probe = Probe::start("").await;
    let words = Uuid::new_v4().to_string();
    probe.text("print", &words).await;
    let line = logged(&words).expect("the line is in the log");
    assert!(
        line.contains("component=probe") && line.contains("stdout"),
        "{line}"
    );
}

#[tokio::test]
async fn a_shutdown_lets_requests_finish() {
    log();
    let probe = Probe::start("").await;
    let (client, url) = (probe.client.clone(), probe.url("nap"));
    let addr = probe.server.addr();
    let name = Uuid::new_v4().to_string();
    let napping = client
        .get(url)
        .header("argument", format!("300 {name}"))
        .send();
    let napping = tokio::spawn(napping);
    while logged(&name).is_none() {
        tokio::task::yield_now().await;
    }
    probe.server.shutdown().await;
    assert_eq!(
        napping.await.expect("a task").expect("an answer").status(),
        200
    );
    assert!(
        tokio::net::TcpStream::connect(addr).await.is_err(),
        "nothing listens any more"
    );
}

const CLOCK: &str = r#"
    [[trigger.cron]]
    component = "clock"
    cron_expression = "EXPRESSION"
    [component.clock]
    source = "FIXTURES/fixture_clock.wasm"
"#;
const NEVER: &str = "0 0 0 1 1 * 2099";

#[tokio::test]
async fn a_cron_component_runs_and_its_failures_are_told() {
    log();
    let clock = CLOCK.replace("EXPRESSION", NEVER);
    for (lines, outcome) in [
        (
            "environment = { TARGET = \"http://self.alt/probe/x/served\" }\nallowed_outbound_hosts = [\"http://self\"]\n",
            "",
        ),
        (
            "environment = { TARGET = \"http://self.alt/probe/x/served\" }\n",
            "HttpRequestDenied",
        ),
        ("environment = { TARGET = \"panic\" }\n", "trapped"),
        ("", "no TARGET is set"),
    ] {
        let probe = Probe::start(&format!("{clock}{lines}")).await;
        match probe.server.fire_cron("clock").await {
            Ok(()) => assert_eq!(outcome, ""),
            Err(error) => assert!(
                !outcome.is_empty() && format!("{error:?}").contains(outcome),
                "{error:?}"
            ),
        }
        assert!(
            probe.server.fire_cron("probe").await.is_err(),
            "no trigger names it"
        );
    }
    assert!(logged("a cron run failed").is_some());
}

#[tokio::test]
async fn a_cron_trigger_fires_by_itself() {
    let target = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let addr = target.local_addr().expect("its address");
    let lines = format!(
        "{}environment = {{ TARGET = \"http://{addr}/\" }}\nallowed_outbound_hosts = [\"http://{addr}\"]\n",
        CLOCK.replace("EXPRESSION", "* * * * * *")
    );
    let _probe = Probe::start(&lines).await;
    // Twice, though the first run is still waiting for its answer.
    for _ in 0..2 {
        let fired = tokio::time::timeout(Duration::from_secs(10), target.accept()).await;
        std::mem::forget(fired.expect("it fires every second").expect("a connection"));
    }
}

#[tokio::test]
async fn a_guest_that_may_not_wait_reads_its_variables_too_and_no_others() {
    let tick = CLOCK
        .replace("EXPRESSION", NEVER)
        .replace("clock", "tick")
        .replace("fixture_tick", "tick");
    for (lines, complaint) in [
        ("", "the variable tick_url cannot be read"),
        (
            "variables = { tick_url = \"http://a.invalid/\" }\n",
            "the variable tick_key cannot be read",
        ),
        (
            "variables = { tick_url = \"http://a.invalid/\", tick_key = \"\" }\n",
            "the variable tick_key is not set",
        ),
        (
            "variables = { tick_url = \"http://{{ at }}/\", tick_key = \"k\" }\n[variables]\nat = { default = \"a.invalid\" }\n",
            "tick_host does not allow the host of tick_url",
        ),
    ] {
        let probe = Probe::start(&format!("{tick}{lines}")).await;
        let error = probe.server.fire_cron("tick").await;
        let error = format!("{:?}", error.expect_err(complaint));
        assert!(error.contains(complaint), "{lines}: {error}");
    }
}

#[tokio::test]
async fn a_variable_may_name_the_port_and_yields_to_what_was_given() {
    let lines = "[variables]\nown = { default = \"at 127.0.0.1:3000\" }\nother = { default = \"manifest\" }\n[component.probe.variables]\nown = \"{{ own }}\"\nother = \"{{ other }}\"\n";
    let manifest = Manifest::write(&format!("{PROBE}{lines}"));
    for given in [None, Some("given")] {
        let given = given.map(|value| ("own".to_owned(), value.to_owned()));
        let options = ServeOptions {
            at_address: |address| {
                vec![
                    ("own", format!("at {address}")),
                    ("other", format!("at {address}")),
                    ("absent", "of no variable".to_owned()),
                ]
            },
            ..options(manifest.path(), given.clone().into_iter().collect())
        };
        let server = host().await.serve(options).await.expect("it serves");
        let probe = Probe {
            server,
            client: Client::new(),
        };
        let own = match given {
            Some((_, value)) => value,
            None => format!("at {}", probe.server.addr()),
        };
        assert_eq!(probe.text("variable", "own").await, own);
        let other = probe.text("variable", "other").await;
        assert_eq!(other, "manifest", "a default that somebody has changed");
    }
}

#[tokio::test]
async fn manifests_that_promise_too_much_do_not_start() {
    for (lines, complaint) in [
        (
            "[[trigger.cron]]\ncomponent = \"probe\"\ncron_expression = \"0 0 0 1 1 *\"\n",
            "handle-cron-event",
        ),
        (
            "[[trigger.http]]\nroute = \"/clock\"\ncomponent = \"clock\"\n[component.clock]\nsource = \"FIXTURES/fixture_clock.wasm\"\n",
            "http trigger needs",
        ),
        (
            "[[trigger.http]]\nroute = \"/a\"\ncomponent = \"absent\"\n[component.absent]\nsource = \"absent.wasm\"\n",
            "is it built?",
        ),
        (
            "[[trigger.http]]\nroute = \"/probe/:name/...\"\ncomponent = \"probe\"\n",
            "belongs to both",
        ),
        (
            "allowed_outbound_hosts = [\"{{ where }}\"]\n[variables]\nwhere = { default = \"sesame\" }\n",
            "{{ where }}",
        ),
        (
            "[variables]\nkey = { required = true }\n",
            "SPIN_VARIABLE_KEY",
        ),
        ("files = [\"x\"]\n", "the pattern \"x\" is not supported"),
        (
            "files = [{ source = \"absent\", destination = \"/a\" }]\n",
            "component.probe.files: the source \"absent\" is not a folder",
        ),
        (
            "files = [{ source = \"../up\", destination = \"/a\" }]\n",
            "component.probe.files: the source \"../up\" must be",
        ),
        (
            "files = [{ source = \"a\", destination = \"/a\", writable = true }]\n",
            "source = ",
        ),
        (
            "exclude_files = [\"x\"]\n",
            "`exclude_files` is not supported",
        ),
    ] {
        let manifest = Manifest::write(&format!("{PROBE}{lines}"));
        let refusal = host()
            .await
            .serve(options(manifest.path(), BTreeMap::new()))
            .await;
        let refusal = format!("{:#}", refusal.err().expect("it is refused"));
        assert!(
            refusal.contains(complaint) && !refusal.contains("sesame"),
            "{refusal}"
        );
    }
}
