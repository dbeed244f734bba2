//! The explorer at `GET /graphql`: a page for browsers that takes everything from this server. What its scripts do is tried by programs in
//! `tests/clients/`, also in a browser where there is one.

use std::collections::BTreeSet;
use std::env;
use std::path::PathBuf;

use millrace_tests::api::Answer;
use millrace_tests::app::App;
use millrace_tests::keys::token;
use reqwest::Method;

use crate::clients::are_installed;
use crate::generated_clients::line_with;

/// What a browser gets at this path.
async fn browse(app: &App, path: &str) -> Answer {
    let request = app.api.bare(Method::GET, path);
    let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    app.api.send(request.header("accept", accept)).await
}

/// The places on this server that a text of the page's names: between quotes, and what a script imports from beside it.
fn places(text: &str) -> impl Iterator<Item = String> {
    text.split(['"', '\'', '`'])
        .filter(|quoted| quoted.starts_with("/graphql/") || quoted.starts_with("./"))
        .map(|place| place.replacen("./", "/graphql/", 1))
}

#[tokio::test]
async fn the_page_takes_everything_from_this_server() {
    let app = App::start().await;
    let mut todo = vec!["/graphql".to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(place) = todo.pop() {
        if place == "/graphql/schema.graphql" || !seen.insert(place.clone()) {
            continue;
        }
        let answer = browse(&app, &place).await;
        assert_eq!(answer.status, 200, "{place}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let policy = answer.header("content-security-policy");
        let strict = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self';";
        assert!(policy.starts_with(strict), "{place}: {policy}");
        let kind = match place.rsplit_once('.') {
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(answer.header("content-type"), kind, "{place}");
        assert!(!answer.text.contains("://"), "{place} names another server");
        todo.extend(places(&answer.text));
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
    let missing = browse(&app, "/graphql/start.php").await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn the_page_can_be_switched_off() {
    let app = App::start_with(&[("graphql_explorer", "0")]).await;
    let page = browse(&app, "/graphql").await;
    assert!((400..500).contains(&page.status), "{}", page.status);
    assert!(!page.header("content-type").starts_with("text/html"));
    for file in ["/graphql/start.js", "/graphql/explorer.css"] {
        assert_eq!(browse(&app, file).await.status, 404, "{file}");
    }
}

#[tokio::test]
async fn its_scripts_know_the_schema_and_the_protocol() {
    if !are_installed("its_scripts_know_the_schema_and_the_protocol") {
        return;
    }
    let app = App::start().await;
    let counts = line_with(&app, "explorer-parts.mjs", &[], " checks, ").await;
    println!("explorer: {counts}");
}

#[tokio::test]
async fn it_works_in_a_browser() {
    if !are_installed("it_works_in_a_browser") {
        return;
    }
    let Some(browser) = browser() else {
        println!("LEFT OUT it_works_in_a_browser: there is no Chromium on the path");
        return;
    };
    let app = App::start().await;
    let token = token("service_role");
    let variables = [("CHROMIUM", browser.as_str()), ("TOKEN", &token)];
    let counts = line_with(&app, "explorer.mjs", &variables, " requests, ").await;
    println!("explorer: {counts}");
}

/// The program of a Chromium, if there is one.
fn browser() -> Option<String> {
    let folders: Vec<PathBuf> = env::split_paths(&env::var_os("PATH")?).collect();
    let programs = ["chromium", "chromium-browser", "google-chrome"];
    let mut found = programs
        .iter()
        .flat_map(|program| folders.iter().map(move |folder| folder.join(program)));
    found
        .find(|program| program.is_file())
        .map(|program| program.display().to_string())
}
