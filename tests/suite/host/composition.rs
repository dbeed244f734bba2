//! Components with dependencies: calls across the seam, what a dependency may use of the configuration, and the errors of a
//! composition that does not fit. `composed` passes on what it is asked to its dependency, which is `part`.

use std::collections::BTreeMap;
use std::time::Instant;

use millrace::serve::Limits;
use millrace_tests::app::{host, options};
use reqwest::Client;

use super::{Manifest, Probe};

/// `composed` on the routes of the probe, with `lines` in its table and `dependencies` in that of its dependencies.
fn composed(lines: &str, dependencies: &str) -> Manifest {
    Manifest::write(&format!(
        r#"
        [variables]
        word = {{ default = "hello" }}
        [[trigger.http]]
        route = "/probe/:name/..."
        component = "c"
        [component.c]
        source = "FIXTURES/fixture_composed.wasm"
        {lines}
        [component.c.dependencies]
        {dependencies}
        "#
    ))
}

async fn served(manifest: Manifest) -> Probe {
    let host = host().await;
    let server = host.serve(options(manifest.path(), BTreeMap::new())).await;
    Probe {
        server: server.expect("the composition serves"),
        client: Client::new(),
    }
}

/// Why a manifest is not served.
async fn refused(manifest: Manifest) -> String {
    let host = host().await;
    let served = host.serve(options(manifest.path(), BTreeMap::new())).await;
    let error = served.err().expect("the composition is refused");
    format!("{error:#}")
}

/// The dependency with more keys.
fn part(more: &str) -> String {
    format!(r#""millrace:fixture/part@1.2.0" = {{ path = "FIXTURES/fixture_part.wasm"{more} }}"#)
}

const INHERITS: &str = ", inherit_configuration = true";
const CONFIGURED: &str = r#"
    variables = { word = "{{ word }}" }
    environment = { WORD = "hello" }
"#;

#[tokio::test]
async fn fifty_calls_across_the_seam_are_under_way_at_once() {
    let probe = served(composed("", &part(INHERITS))).await;
    let start = Instant::now();
    assert_eq!(probe.text("meet", "50").await, "50 of 50");
    let elapsed = start.elapsed();
    println!("50 concurrent calls into a dependency in {elapsed:?}");
    assert!(elapsed < Limits::default().request_timeout);
}

#[tokio::test]
async fn a_dependency_that_inherits_everything_has_what_its_component_has() {
    let probe = served(composed(CONFIGURED, &part(INHERITS))).await;
    assert_eq!(probe.text("variable", "word").await, "hello");
    assert_eq!(probe.text("environment", "WORD").await, "hello");
    let fetched = probe.text("fetch", "http://127.0.0.1:9/").await;
    assert!(fetched.contains("HttpRequestDenied"), "{fetched}");
    let all = format!("dependencies_inherit_configuration = true\n{CONFIGURED}");
    let probe = served(composed(&all, &part(""))).await;
    assert_eq!(probe.text("variable", "word").await, "hello");
}

#[tokio::test]
async fn a_dependency_reaches_the_hosts_of_its_component() {
    let other = Probe::start("").await;
    let lines = format!(
        "allowed_outbound_hosts = [\"http://{}\"]",
        other.server.addr()
    );
    let probe = served(composed(&lines, &part(INHERITS))).await;
    assert_eq!(
        probe.text("fetch", &other.url("served")).await,
        "status: 200"
    );
}

#[tokio::test]
async fn a_dependency_that_inherits_nothing_gets_nothing() {
    for (configured, import, set) in [
        (
            "variables = { word = \"{{ word }}\" }",
            "spin:variables/variables@",
            "variables",
        ),
        (
            "environment = { WORD = \"x\" }",
            "wasi:cli/environment@",
            "environment",
        ),
        (
            "allowed_outbound_hosts = [\"http://a\"]",
            "wasi:http/client@",
            "allowed_outbound_hosts",
        ),
    ] {
        for inherits in [
            "",
            ", inherit_configuration = false",
            ", inherit_configuration = []",
        ] {
            let error = refused(composed(configured, &part(inherits))).await;
            for word in [
                "component c",
                "millrace:fixture/part@1.2.0",
                "fixture_part.wasm",
                import,
                set,
            ] {
                assert!(error.contains(word), "{word:?} is not in {error:?}");
            }
        }
        let only = format!(", inherit_configuration = [\"{set}\"]");
        served(composed(configured, &part(&only))).await;
    }
    // With nothing to inherit there is nothing to keep from it: variables are unknown, hosts are denied.
    let probe = served(composed("", &part(""))).await;
    assert!(probe.text("variable", "word").await.starts_with("error: "));
    assert_eq!(probe.text("environment", "WORD").await, "");
    assert!(
        probe
            .text("fetch", "http://127.0.0.1:9/")
            .await
            .contains("HttpRequestDenied")
    );
}

#[tokio::test]
async fn a_name_need_not_say_the_interface_or_the_version() {
    for name in [
        "millrace:fixture",
        "millrace:fixture@1.2.0",
        "millrace:fixture/part",
    ] {
        let dependency = part(INHERITS).replace("millrace:fixture/part@1.2.0", name);
        let probe = served(composed("", &dependency)).await;
        assert_eq!(probe.text("meet", "2").await, "2 of 2");
    }
    let other = r#""millrace:fixture/part" = { component = "p", inherit_configuration = true }
        [component.p]
        source = "FIXTURES/fixture_part.wasm""#;
    let probe = served(composed("", other)).await;
    assert_eq!(probe.text("meet", "2").await, "2 of 2");
}

#[tokio::test]
async fn what_does_not_fit_together_is_an_error_that_names_both() {
    let at = |name: &str, file: &str, more: &str| {
        format!(r#""{name}" = {{ path = "{file}", inherit_configuration = true{more} }}"#)
    };
    let good = "FIXTURES/fixture_part.wasm";
    for (dependencies, words) in [
        (at("a:b/c", good, ""), ["a:b/c", "no such import"]),
        (
            at("millrace:fixture/part@1.3.0", good, ""),
            ["part@1.3.0", "no such import"],
        ),
        (
            at("millrace:fixture/part", "nowhere.wasm", ""),
            ["nowhere.wasm", "is it built?"],
        ),
        (
            at("millrace:fixture/part", "spin.toml", ""),
            ["spin.toml", "its dependency millrace:fixture/part"],
        ),
        (
            at("millrace:fixture/part", "FIXTURES/fixture_clock.wasm", ""),
            [
                "fixture_clock.wasm",
                "no export millrace:fixture/part@1.2.0",
            ],
        ),
        (
            at("millrace:fixture/part", good, ", export = \"a:b/c\""),
            ["fixture_part.wasm", "no export a:b/c"],
        ),
        (
            at(
                "millrace:fixture/part",
                "FIXTURES/fixture_probe.wasm",
                ", export = \"wasi:http/handler@0.3.0\"",
            ),
            [
                "fixture_probe.wasm",
                "is not what the import millrace:fixture/part@1.2.0 wants",
            ],
        ),
        (
            format!(
                "{}\n{}",
                at("millrace:fixture/part", good, ""),
                at("millrace:fixture", good, "")
            ),
            ["two dependencies", "millrace:fixture/part"],
        ),
    ] {
        let error = refused(composed("", &dependencies)).await;
        assert!(error.contains("component c "), "{error}");
        for word in words {
            assert!(error.contains(word), "{word:?} is not in {error:?}");
        }
    }
    let error = refused(Manifest::write(
        "[[trigger.http]]\nroute = \"/\"\ncomponent = \"c\"\n[component.c]\nsource = \"FIXTURES/fixture_composed.wasm\"\n",
    ))
    .await;
    assert!(
        error.contains("component c ") && error.contains("millrace:fixture/part"),
        "{error}"
    );
}

#[tokio::test]
async fn a_changed_dependency_is_composed_anew() {
    let manifest = composed(
        "",
        r#""millrace:fixture/part" = { path = "part.wasm", inherit_configuration = true }"#,
    );
    let fixtures = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target/wasm32-wasip2/component"
    );
    let place = manifest.0.join("part.wasm");
    std::fs::copy(format!("{fixtures}/fixture_part.wasm"), &place).expect("a file");
    let start = || async {
        let server = host()
            .await
            .serve(options(manifest.path(), BTreeMap::new()))
            .await;
        server.map(|server| Probe {
            server,
            client: Client::new(),
        })
    };
    let probe = start().await.expect("the composition serves");
    assert_eq!(probe.text("meet", "3").await, "3 of 3");
    std::fs::copy(format!("{fixtures}/fixture_clock.wasm"), &place).expect("a file");
    assert!(start().await.is_err(), "the file is another one now");
}
