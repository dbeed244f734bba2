//! Clients that others' generators make of the OpenAPI document and of the GraphQL schema, compiled as strictly as their compiler can and run; the
//! audits of GraphQL over HTTP; and the protocol's own client for subscriptions. All of them are programs in `tests/clients/`, which print what
//! they counted.

use millrace_tests::app::App;
use millrace_tests::keys::API_KEY;

use crate::clients::{are_installed, node};

/// Runs a program of `tests/clients/` against the application, with a key that may do everything and `variables`, and returns the line with
/// `what` that it must print.
pub(crate) async fn line_with(
    app: &App,
    program: &str,
    variables: &[(&str, &str)],
    what: &str,
) -> String {
    let url = format!("http://{}", app.server().addr());
    let mut all = vec![("MILLRACE_URL", url.as_str()), ("KEY", API_KEY)];
    all.extend(variables);
    let said = node(&[program], &all).await;
    let line = said.lines().find(|line| line.contains(what));
    line.unwrap_or_else(|| panic!("{program} said: {said}"))
        .to_owned()
}

#[tokio::test]
async fn every_must_and_should_of_graphql_over_http_passes() {
    if !are_installed("every_must_and_should_of_graphql_over_http_passes") {
        return;
    }
    let app = App::start().await;
    let counts = line_with(&app, "graphql-http.mjs", &[], "audits passed: ").await;
    println!("graphql-http: {counts}");
}

#[tokio::test]
async fn graphql_sse_follows_a_task() {
    if !are_installed("graphql_sse_follows_a_task") {
        return;
    }
    let app = App::start_with(&[("stream_seconds", "2")]).await;
    let counts = line_with(&app, "graphql-sse.mjs", &[], " answers over ").await;
    println!("graphql-sse: {counts}");
}

#[tokio::test]
async fn a_client_of_graphql_codegen_makes_a_round_trip() {
    if !are_installed("a_client_of_graphql_codegen_makes_a_round_trip") {
        return;
    }
    let app = App::start().await;
    let counts = line_with(&app, "graphql-codegen.mjs", &[], " calls").await;
    println!("graphql-codegen: {counts}");
}

#[tokio::test]
async fn a_client_of_the_openapi_document_makes_a_round_trip() {
    if !are_installed("a_client_of_the_openapi_document_makes_a_round_trip") {
        return;
    }
    let app = App::start().await;
    let counts = line_with(&app, "openapi-typescript.mjs", &[], " calls").await;
    println!("openapi-typescript: {counts}");
}
