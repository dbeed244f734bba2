//! `millrace up --open`: programs of this machine need no key, strangers' pages and everybody else do.

use millrace::local_pass::LocalPass;
use millrace::serve::ServeOptions;
use millrace_tests::app::{host, manifest, options};
use millrace_tests::program::{command, run};
use millrace_tests::scratch::Scratch;
use millrace_tests::up::{api, export, share_compiled, up, up_with};
use reqwest::{Method, Version};

/// A route whose answer without credentials is 401.
const GUARDED: &str = "/api/collab/workers/active";

#[tokio::test]
async fn up_without_open_lets_nobody_in_without_a_key() {
    let scratch = Scratch::new();
    let (program, said) = up(&scratch).await;
    assert!(!said.contains("open  "), "{said}");
    let api = api(&said);
    let answer = api.send(api.bare(Method::GET, GUARDED)).await;
    answer.assert_refused(401, "missing_credentials");
    program.end("TERM").await;
}

#[tokio::test]
async fn up_open_lets_this_machines_programs_in_and_no_strangers_page() {
    let scratch = Scratch::new();
    let (program, said) = up_with(&scratch, &["--open"]).await;
    let lines = said
        .lines()
        .filter(|line| line.contains("without credentials they act"));
    assert_eq!(lines.count(), 1, "{said}");
    let url = export(&scratch, "MILLRACE_URL");
    let port = url.rsplit(':').next().expect("a port");
    let by_name = format!("localhost:{port}");
    let (own, named) = (
        format!("http://127.0.0.1:{port}"),
        format!("http://{by_name}"),
    );
    let (other_port, rebound) = ("localhost:1".to_owned(), format!("evil.example:{port}"));
    let rebound_origin = format!("http://{rebound}");

    let mut asked = 0;
    for (headers, status) in [
        ([].as_slice(), 200),
        (&[("host", by_name.as_str())], 200),
        (&[("origin", own.as_str())], 200),
        (&[("host", &by_name), ("origin", &named)], 200),
        (&[("origin", &own), ("sec-fetch-site", "same-origin")], 200),
        (&[("sec-fetch-site", "none")], 200),
        // A page of somebody else's: it fetches, shows a picture, was rebound to this address, or lies at another port.
        (&[("origin", "https://evil.example")], 401),
        (&[("origin", "null")], 401),
        (&[("sec-fetch-site", "cross-site")], 401),
        (
            &[("host", &rebound), ("sec-fetch-site", "same-origin")],
            401,
        ),
        (&[("host", &rebound), ("origin", &rebound_origin)], 401),
        (&[("origin", "http://localhost:5173")], 401),
        (&[("sec-fetch-site", "same-site")], 401),
        (&[("origin", &named)], 401),
        (&[("host", &other_port)], 401),
        // A WebSocket's handshake from such a page, and what a tunnel forwards.
        (
            &[
                ("connection", "upgrade"),
                ("upgrade", "websocket"),
                ("origin", "https://evil.example"),
            ],
            401,
        ),
        (&[("x-forwarded-for", "203.0.113.7")], 401),
        // Wrong credentials are none that are overlooked.
        (&[("x-api-key", "wrong")], 401),
        (&[("authorization", "Bearer wrong")], 401),
        (&[("apikey", "wrong")], 401),
    ] {
        let api = api(&said);
        let mut request = api.bare(Method::GET, GUARDED);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = api.send(request).await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text);
        asked += 1;
    }
    // As nginx forwards, unless told otherwise.
    let api = api(&said);
    let old = api.bare(Method::GET, GUARDED).version(Version::HTTP_10);
    let answer = api.send(old).await;
    answer.assert_refused(401, "missing_credentials");
    println!("{asked} requests without the key to an open application");

    // A key of narrow scopes keeps them.
    let worker = millrace_tests::api::Api::new(&url, &export(&scratch, "SERVICE_API_KEY"));
    let listing = worker.get("/functions/v1/dlq-list").await;
    listing.assert_refused(403, "forbidden");
    let (status, said) = program.end("TERM").await;
    assert!(status.success(), "{said}");
}

#[tokio::test]
async fn a_preflight_of_a_strangers_page_opens_nothing() {
    let scratch = Scratch::new();
    let (program, said) = up_with(&scratch, &["--open"]).await;
    let api = api(&said);
    let from_page = |method| {
        let request = api.bare(method, "/functions/v1/cron-enqueue");
        request.header("origin", "https://evil.example")
    };
    let preflight = from_page(Method::OPTIONS).header("access-control-request-method", "POST");
    assert_eq!(
        api.send(preflight).await.status,
        204,
        "these routes answer any page"
    );
    let answer = api.send(from_page(Method::POST)).await;
    answer.assert_refused(401, "missing_credentials");
    let own = api.bare(Method::POST, "/functions/v1/cron-enqueue");
    assert_eq!(api.send(own).await.status, 200);
    program.end("TERM").await;
}

#[tokio::test]
async fn up_open_is_refused_where_others_could_reach_it_or_the_key_does_not_count() {
    for (listen, variable, complaint) in [
        (
            "0.0.0.0:0",
            None,
            "listens on a loopback address such as 127.0.0.1:3000, not on 0.0.0.0:0",
        ),
        (
            "[::]:0",
            None,
            "listens on a loopback address such as 127.0.0.1:3000, not on [::]:0",
        ),
        (
            "127.0.0.1:0",
            Some(("SPIN_VARIABLE_COLLAB_API_KEY", "")),
            "there is no key to act with",
        ),
        (
            "127.0.0.1:0",
            Some(("SPIN_VARIABLE_COLLAB_REQUIRE_JWT", "1")),
            "the API key lets nobody in",
        ),
    ] {
        let scratch = Scratch::new();
        let mut command = command(&["up", "--open", "--listen", listen, "--state"]);
        command.arg(scratch.path()).envs(variable);
        share_compiled(&scratch).await;
        let (status, said) = run(command).await;
        assert!(!status.success(), "{listen}: {said}");
        assert!(
            said.contains("--open") && said.contains(complaint),
            "{complaint}: {said}"
        );
        let is_served = said.contains("Millrace serves");
        assert!(!is_served, "{said}");
    }
}

#[tokio::test]
async fn the_host_serves_no_local_pass_on_other_addresses() {
    let pass = LocalPass::new("x-api-key", "k", &["x-api-key"]).expect("a pass");
    let served = host().await.serve(ServeOptions {
        listen: ([0, 0, 0, 0], 0).into(),
        local_pass: Some(pass),
        ..options(manifest(), [].into())
    });
    let error = served.await.err().expect("a refusal").to_string();
    assert!(error.contains("loopback"), "{error}");
}
