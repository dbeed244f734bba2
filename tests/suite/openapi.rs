//! The OpenAPI document: that it is what the generator makes, that it names every route and no other, that each of its
//! examples works on a running application, and that what the harness holds against it can fail.
//!
//! `MILLRACE_RENEW=1 cargo test --workspace --test suite -- openapi::` writes `functions/docs/openapi.json` anew.

mod examples;

use std::collections::BTreeSet;
use std::{env, fs};

use millrace_tests::api::Api;
use millrace_tests::app::{App, manifest};
use millrace_tests::document::{Document, Exchange, ours};
use millrace_tests::double::{Double, Reply};
use serde_json::{Value, json};

const CHECKED_IN: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../functions/docs/openapi.json"
);

#[test]
fn the_document_that_is_checked_in_is_what_the_types_say() {
    let text = millrace_openapi::text();
    if env::var_os("MILLRACE_RENEW").is_some() {
        fs::write(CHECKED_IN, &text).expect("the document is written");
    }
    let checked_in = fs::read_to_string(CHECKED_IN).expect("the document");
    let different = text.lines().zip(checked_in.lines()).find(|(a, b)| a != b);
    assert!(
        checked_in == text,
        "functions/docs/openapi.json is out of date, first at {different:?}: MILLRACE_RENEW=1 cargo xtask test openapi"
    );
}

#[test]
fn no_reference_dangles_and_no_component_is_unused() {
    let document = ours().value();
    let mut used = BTreeSet::new();
    collect(document, "$ref", &mut used);
    for reference in &used {
        let pointer = reference.strip_prefix('#').expect("a local reference");
        assert!(document.pointer(pointer).is_some(), "{reference} dangles");
    }
    let schemas = document["components"]["schemas"]
        .as_object()
        .expect("schemas");
    for name in schemas.keys() {
        let reference = format!("#/components/schemas/{name}");
        assert!(used.contains(&reference), "{name} is used nowhere");
    }
    println!("{} schemas, all of them used", schemas.len());
}

/// The texts that stand under `key`, however deep.
fn collect(value: &Value, key: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == key => drop(found.insert(text.clone())),
                    _ => collect(value, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, key, found)),
        _ => {}
    }
}

#[test]
fn it_names_every_route_and_no_other() {
    let manifest = fs::read_to_string(manifest()).expect("spin.toml");
    let routes: Vec<&str> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("route = \"")?.strip_suffix('"'))
        .collect();
    let paths = ours().value()["paths"].as_object().expect("paths");
    for route in &routes {
        assert!(
            paths.keys().any(|path| serves(route, path)),
            "{route} is not in the document"
        );
    }
    for path in paths.keys() {
        assert!(
            routes.iter().any(|route| serves(route, path)),
            "{path} is in the document, but no route"
        );
    }
    println!("{} routes, {} documented paths", routes.len(), paths.len());
}

/// Whether a route of the manifest (`/a/:id`, `/a/...`) serves a path of the document (`/a/{id}`).
fn serves(route: &str, path: &str) -> bool {
    if let Some(prefix) = route.strip_suffix("/...") {
        return path == prefix || path.starts_with(&format!("{prefix}/"));
    }
    let (route, path): (Vec<_>, Vec<_>) = (route.split('/').collect(), path.split('/').collect());
    route.len() == path.len()
        && route
            .iter()
            .zip(&path)
            .all(|(route, path)| route == path || (route.starts_with(':') && path.starts_with('{')))
}

#[tokio::test]
async fn it_is_served() {
    let app = App::start().await;
    let request = app.api.bare(reqwest::Method::GET, "/docs.json");
    let answer = app.api.send(request).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(
        answer.text == fs::read_to_string(CHECKED_IN).expect("the document"),
        "what is served is not what is checked in: build the component docs"
    );
}

#[tokio::test]
async fn the_page_takes_everything_from_this_server() {
    let app = App::start().await;
    let get = async |path: &str| {
        let answer = app.api.send(app.api.bare(reqwest::Method::GET, path)).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(
            answer.header("content-length"),
            answer.text.len().to_string(),
            "{path}"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{path}"
        );
        answer
    };
    for path in ["/docs", "/docs/"] {
        let page = get(path).await;
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert!(!page.text.contains("//"), "the page names another server");
        let places = page
            .text
            .split(['"', '\''])
            .filter(|text| text.starts_with('/'));
        let places: BTreeSet<&str> = places.collect();
        assert_eq!(places.len(), 5, "{places:?}");
        for place in places {
            // The icon is no text.
            if place.ends_with(".png") {
                let request = app.api.bare(reqwest::Method::GET, place);
                assert_eq!(request.send().await.expect("an answer").status(), 200);
            } else {
                assert!(!get(place).await.text.is_empty());
            }
        }
    }
    let answer = app.api.get("/docs/index.php").await;
    answer.assert_refused(404, "not_found");
    let answer = app.api.post("/docs.json", &json!({})).await;
    answer.assert_refused(405, "method_not_allowed");
}

/// A document of one operation, to see that each way not to fit it is found.
fn small() -> Document {
    Document::new(json!({
        "openapi": "3.1.1",
        "paths": { "/thing/{id}": { "post": {
            "parameters": [
                { "name": "limit", "in": "query", "schema": { "type": "integer", "maximum": 9 } },
            ],
            "requestBody": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Thing" } } } },
            "responses": {
                "200": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Thing" } } } },
                "400": { "content": { "application/json": { "schema": { "type": "object", "required": ["code"] } } } },
                "405": { "content": { "application/json": { "schema": { "type": "object" } } } },
            },
        } } },
        "components": { "schemas": { "Thing": {
            "type": "object",
            "properties": { "id": { "type": "string", "format": "uuid" }, "at": { "type": "string", "format": "date-time" } },
            "required": ["id"],
            "additionalProperties": false,
        } } },
    }))
}

/// Makes another exchange of a good one.
type Change = fn(&mut Exchange);

#[test]
fn an_exchange_that_does_not_fit_is_found() {
    const ID: &str = r#"{"id":"00000000-0000-8000-8000-000000000001"}"#;
    let document = small();
    let good = || Exchange {
        method: "POST",
        path: "/thing/1",
        query: Some("limit=9"),
        request: Some(ID.as_bytes()),
        status: 200,
        content_type: "application/json",
        answer: ID,
    };
    let check = |change: Change| {
        let mut exchange = good();
        change(&mut exchange);
        document.check(&exchange)
    };
    let fitting: [Change; 7] = [
        |_| {},
        |exchange| exchange.path = "/thing/1/",
        |exchange| exchange.query = None,
        |exchange| exchange.request = None,
        |exchange| exchange.path = "/unknown/1",
        |exchange| {
            (exchange.status, exchange.answer, exchange.request) =
                (400, r#"{"code":"c"}"#, Some(b"nonsense".as_slice()))
        },
        |exchange| (exchange.method, exchange.status) = ("GET", 405),
    ];
    for (index, change) in fitting.into_iter().enumerate() {
        assert_eq!(check(change), Ok(()), "{index}");
    }
    let others: [(Change, &str); 12] = [
        (
            |exchange| exchange.status = 201,
            "post /thing/{id} 201: the status",
        ),
        (
            |exchange| exchange.status = 500,
            "the status is not documented",
        ),
        (
            |exchange| exchange.content_type = "text/plain",
            "the content type",
        ),
        (|exchange| exchange.answer = "{", "the answer: "),
        (
            |exchange| exchange.answer = "{}",
            "\"id\" is a required property",
        ),
        (|exchange| exchange.answer = r#"{"id":"1"}"#, "at \"/id\""),
        (
            |exchange| {
                exchange.answer = r#"{"id":"00000000-0000-8000-8000-000000000001","at":"now"}"#
            },
            "at \"/at\"",
        ),
        (
            |exchange| {
                exchange.answer = r#"{"id":"00000000-0000-8000-8000-000000000001","more":1}"#
            },
            "more",
        ),
        (|exchange| exchange.request = Some(b"{}"), "the request: "),
        (
            |exchange| exchange.query = Some("limit=10"),
            "the parameter limit: ",
        ),
        (
            |exchange| exchange.query = Some("more=1"),
            "the parameter more: ",
        ),
        (
            |exchange| exchange.method = "GET",
            "GET /thing/{id} is not documented",
        ),
    ];
    for (change, reason) in others {
        let found = check(change).expect_err(reason);
        assert!(found.contains(reason), "{found}");
    }
}

#[tokio::test]
async fn an_answer_that_the_document_does_not_describe_fails_the_test_that_gets_it() {
    for (status, body) in [
        (200, r#"{"ok":true}"#),
        (418, r#"{"error":"e","code":"c"}"#),
        (503, r#"{"error":"e","code":"a_new_one"}"#),
    ] {
        let double = Double::start(move |_| Reply::json(status, body)).await;
        let api = Api::new(&double.url, "key");
        let got = tokio::spawn(async move { api.get("/api/collab/health").await }).await;
        assert!(got.is_err_and(|error| error.is_panic()), "{status} {body}");
    }
    let good = r#"{"ok":true,"timestamp":"2030-01-31T09:30:00.123456+00:00"}"#;
    let double = Double::start(move |_| Reply::json(200, good)).await;
    let api = Api::new(&double.url, "key");
    assert_eq!(api.get("/api/collab/health").await.status, 200);
}
