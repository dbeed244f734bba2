//! Who is let in: every protected route with every kind of credentials, under each configuration.

use std::collections::BTreeMap;

use millrace_tests::app::App;
use millrace_tests::document::ours;
use millrace_tests::keys::{API_KEY, JWT_SECRET, now, signed, token};
use millrace_tests::routes;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use credentials::{Bearer, Shown, bearer, credentials, tokens};

mod credentials;

/// Shows each of `credentials` at each route and returns how many answers were as they should be: all, or it panics.
async fn try_all(app: &App, credentials: &[(String, Shown, Bearer)]) -> BTreeMap<u16, usize> {
    let mut counts = BTreeMap::new();
    for route in routes::all() {
        for (name, shown, whom) in credentials {
            let with = |request: RequestBuilder, (header, value): &(&str, String)| {
                request.header(*header, value)
            };
            let answer = app
                .api
                .send(shown.iter().fold(route.request(&app.api), with))
                .await;
            let Some((status, code)) = whom.refusal(route.scope) else {
                route.assert_let_in(&answer, name);
                *counts.entry(answer.status).or_default() += 1;
                continue;
            };
            assert_eq!(
                answer.status, status,
                "{name} at {}: {}",
                route.path, answer.text
            );
            answer.assert_refused_by_any_face(status, code);
            let challenge = match code {
                _ if status != 401 => "",
                "missing_credentials" => "Bearer",
                _ => "Bearer error=\"invalid_token\"",
            };
            assert_eq!(
                answer.header("www-authenticate"),
                challenge,
                "{name} at {}",
                route.path
            );
            *counts.entry(status).or_default() += 1;
        }
    }
    counts
}

/// So that no route is forgotten: the document names those that need credentials, and it names all. `/rpc` refuses in PostgREST's
/// words; its callers are tried in `rpc::callers`.
#[test]
fn the_table_of_routes_is_complete() {
    let mut documented: Vec<String> = Vec::new();
    for (path, methods) in ours().value()["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            if operation["security"] != json!([]) && !path.contains("/rpc/") {
                documented.push(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    let mut known: Vec<String> = routes::all()
        .iter()
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    documented.sort();
    known.sort();
    assert_eq!(known, documented);
}

#[tokio::test]
async fn every_route_meets_every_kind_of_credentials() {
    let app = App::start().await;
    let counts = try_all(&app, &credentials()).await;
    println!(
        "key or token: {} combinations of route and credentials, by status {counts:?}",
        counts.values().sum::<usize>()
    );
    assert_eq!(
        counts.values().sum::<usize>(),
        routes::all().len() * credentials().len()
    );
}

#[tokio::test]
async fn where_a_token_is_required_a_key_is_nothing() {
    for require in ["1", "true"] {
        let app = App::start_with(&[("collab_require_jwt", require)]).await;
        let missing = Bearer::Stranger("missing_credentials");
        let token_only = |(name, shown, whom): (String, Shown, Bearer)| {
            // A key is not even looked at: what counts is the token beside it.
            let whom = match shown.iter().any(|(header, _)| *header == "x-api-key") {
                true if shown.iter().any(|(header, _)| *header == "authorization") => {
                    Bearer::Worker
                }
                true => missing,
                false
                    if shown.iter().all(|(_, value)| value.ends_with(API_KEY))
                        && !shown.is_empty() =>
                {
                    Bearer::Stranger("invalid_token")
                }
                false => whom,
            };
            (name, shown, whom)
        };
        let credentials: Vec<_> = credentials().into_iter().map(token_only).collect();
        let counts = try_all(&app, &credentials).await;
        println!(
            "token required ({require}): {} combinations, by status {counts:?}",
            counts.values().sum::<usize>()
        );
    }
}

#[tokio::test]
async fn without_a_secret_no_token_counts() {
    let app = App::start_with(&[("supabase_jwt_secret", "")]).await;
    let missing = Bearer::Stranger("missing_credentials");
    let mut credentials: Vec<_> = tokens()
        .into_iter()
        .map(|(name, token, _)| (name.to_owned(), bearer(&token), missing))
        .collect();
    credentials.push((
        "key".to_owned(),
        vec![("x-api-key", API_KEY.to_owned())],
        Bearer::Worker,
    ));
    let counts = try_all(&app, &credentials).await;
    println!(
        "key only: {} combinations, by status {counts:?}",
        counts.values().sum::<usize>()
    );
}

#[tokio::test]
async fn without_a_key_none_counts() {
    let app = App::start_with(&[("collab_api_key", "")]).await;
    let missing = Bearer::Stranger("missing_credentials");
    let credentials = [
        (
            "key".to_owned(),
            vec![("x-api-key", API_KEY.to_owned())],
            missing,
        ),
        (
            "empty key".to_owned(),
            vec![("x-api-key", String::new())],
            missing,
        ),
        (
            "token".to_owned(),
            bearer(&token("service_role")),
            Bearer::Worker,
        ),
    ];
    try_all(&app, &credentials).await;
}

#[tokio::test]
async fn issuer_and_audience_are_asked_for_where_they_are_set() {
    let app = App::start_with(&[
        ("collab_jwt_issuer", "https://issuer.example"),
        ("collab_jwt_audience", "millrace"),
    ])
    .await;
    let invalid = Bearer::Stranger("invalid_token");
    let with = |claims: Value| {
        let mut all = json!({"role": "service_role", "exp": now() + 3600});
        for (name, value) in claims.as_object().expect("an object") {
            all[name] = value.clone();
        }
        bearer(&signed(&all, JWT_SECRET))
    };
    let credentials = [
        (
            "both",
            json!({"iss": "https://issuer.example", "aud": "millrace"}),
            Bearer::Worker,
        ),
        (
            "one of two",
            json!({"iss": "https://issuer.example", "aud": ["another", "millrace"]}),
            Bearer::Worker,
        ),
        (
            "no audience",
            json!({"iss": "https://issuer.example"}),
            invalid,
        ),
        ("no issuer", json!({"aud": "millrace"}), invalid),
        (
            "another issuer",
            json!({"iss": "https://another.example", "aud": "millrace"}),
            invalid,
        ),
        (
            "another audience",
            json!({"iss": "https://issuer.example", "aud": "another"}),
            invalid,
        ),
    ]
    .map(|(name, claims, whom)| (name.to_owned(), with(claims), whom));
    try_all(&app, &credentials).await;
}

#[tokio::test]
async fn what_is_not_configured_lets_nobody_in() {
    let mut combinations = 0;
    for variables in [
        [("supabase_jwt_secret", ""), ("collab_api_key", "")],
        [("supabase_jwt_secret", ""), ("collab_require_jwt", "1")],
        [
            ("supabase_jwt_secret", "short"),
            ("collab_require_jwt", "0"),
        ],
        [("collab_jwt_mode", "jwks"), ("collab_require_jwt", "1")],
        [("collab_jwt_mode", "jwks"), ("collab_require_jwt", "0")],
        [("collab_jwt_mode", "nonsense"), ("collab_require_jwt", "0")],
        [
            ("collab_require_jwt", "yes please"),
            ("collab_jwt_mode", "local"),
        ],
    ] {
        let app = App::start_with(&variables).await;
        for route in routes::all() {
            for shown in [
                vec![],
                vec![("x-api-key", API_KEY.to_owned())],
                vec![("x-api-key", String::new())],
                bearer(&token("service_role")),
            ] {
                let with = |request: RequestBuilder, (header, value): &(&str, String)| {
                    request.header(*header, value)
                };
                let answer = app
                    .api
                    .send(shown.iter().fold(route.request(&app.api), with))
                    .await;
                answer.assert_refused_by_any_face(503, "auth_not_configured");
                combinations += 1;
            }
        }
        app.shutdown().await;
    }
    println!(
        "not configured: {combinations} combinations of configuration, route and credentials, all 503"
    );
}

#[tokio::test]
async fn nobody_learns_what_is_wrong_with_a_request_before_he_is_let_in() {
    let app = App::start().await;
    for route in routes::all()
        .into_iter()
        .filter(|route| route.method == Method::POST)
    {
        let request = app
            .api
            .bare(route.method.clone(), &route.target())
            .header("content-type", "application/json")
            .body("{");
        let answer = app.api.send(request).await;
        answer.assert_refused_by_any_face(401, "missing_credentials");
    }
}
