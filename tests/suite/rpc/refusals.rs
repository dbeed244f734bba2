//! Profiles, methods and errors: what is refused, and in which words.

use super::{answer, assert_refused, call, refusal, shapes};
use millrace_tests::app::App;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

const EXPOSED: &str = "Only the following schemas are exposed: public, service_api, millrace_api";

#[tokio::test]
async fn a_profile_is_chosen_by_a_header() {
    let app = shapes().await;
    let (content, accept) = ("content-profile", "accept-profile");
    let with = |path: &str, arguments: Value, headers: &[(&str, &str)]| {
        let request = app.api.request(Method::POST, path).json(&arguments);
        headers.iter().fold(request, |request, (name, value)| {
            request.header(*name, *value)
        })
    };
    let fetch =
        |headers: &[(&str, &str)]| with("/rpc/fetch_next_task", json!({"worker_id": "w"}), headers);
    let sum = |headers: &[(&str, &str)]| with("/rpc/sum", json!({"a": 1}), headers);
    // The call, and the profile that it is made under.
    let cases: [(RequestBuilder, &str); 8] = [
        (sum(&[]), "public"),
        (sum(&[(content, "public")]), "public"),
        (sum(&[(accept, "public")]), "public"),
        (
            sum(&[(content, "public"), (accept, "service_api")]),
            "public",
        ),
        (fetch(&[(content, "service_api")]), "service_api"),
        // service_api's own document sends this one with a POST, where PostgREST does not look at it.
        (fetch(&[(accept, "service_api")]), "service_api"),
        (
            fetch(&[(content, "service_api"), (accept, "nonsense")]),
            "service_api",
        ),
        (
            with(
                "/rpc/collab_health",
                json!({}),
                &[(content, "millrace_api")],
            ),
            "millrace_api",
        ),
    ];
    let count = cases.len();
    for (index, (request, profile)) in cases.into_iter().enumerate() {
        let answer = app.api.send(request).await;
        assert_eq!(
            (answer.status, answer.header("content-profile")),
            (200, profile),
            "{index}: {}",
            answer.text
        );
    }
    for (function, headers) in [
        ("fetch_next_task", vec![]),
        ("sum", vec![(content, "service_api")]),
        ("collab_health", vec![(accept, "public")]),
    ] {
        let answer = app
            .api
            .send(with(&format!("/rpc/{function}"), json!({}), &headers))
            .await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "PGRST202"),
            "{function}"
        );
    }
    for name in [content, accept] {
        for asked in [
            "millrace",
            "PUBLIC",
            "",
            "public, service_api",
            "pg_catalog",
            "shapes",
        ] {
            for method in [Method::POST, Method::GET] {
                if (&method, name) == (&Method::GET, content) {
                    continue;
                }
                let request = app
                    .api
                    .request(method, "/rpc/sum")
                    .header(name, asked)
                    .body("{}");
                let refused = refusal(
                    "PGRST106",
                    &format!("Invalid schema: {asked}"),
                    Value::Null,
                    json!(EXPOSED),
                );
                assert_refused(&app.api.send(request).await, 406, &refused);
            }
        }
    }
    println!("{count} choices of a profile");
}

#[tokio::test]
async fn other_methods_are_refused() {
    let app = shapes().await;
    for method in [Method::PUT, Method::PATCH, Method::DELETE] {
        let answer = app
            .api
            .send(app.api.request(method.clone(), "/rpc/sum"))
            .await;
        let message = format!("Cannot use the {method} method on RPC");
        assert_refused(
            &answer,
            405,
            &refusal("PGRST101", &message, Value::Null, Value::Null),
        );
        assert_eq!(answer.header("allow"), "OPTIONS,POST");
    }
    // PostgREST runs a GET in a read-only transaction, where a function that writes fails with this code and status.
    let get = app.api.get("/rpc/sum?a=1&select=b").await;
    let message = "cannot execute sum() in a read-only transaction";
    assert_refused(
        &get,
        405,
        &refusal("25006", message, Value::Null, Value::Null),
    );
    let unknown = app.api.get("/rpc/sum?b=1&z=1").await;
    let message = "Could not find the function public.sum(b, z) in the schema cache";
    let details = "Searched for the function public.sum with parameters b, z, but no matches were found in the schema cache.";
    let hint = "Perhaps you meant to call the function public.sum(a, b)";
    assert_refused(
        &unknown,
        404,
        &refusal("PGRST202", message, json!(details), json!(hint)),
    );
    let whole = app.api.get("/rpc/echo?a=1").await;
    assert_eq!((whole.status, whole.code().as_str()), (404, "PGRST202"));

    let head = app
        .api
        .send(app.api.request(Method::HEAD, "/rpc/sum?a=1"))
        .await;
    assert_eq!(
        (head.status, head.text.as_str(), head.header("proxy-status")),
        (405, "", "PostgREST; error=25006")
    );
    let options = app
        .api
        .send(app.api.bare(Method::OPTIONS, "/rpc/sum"))
        .await;
    assert_eq!(
        (options.status, options.header("allow")),
        (200, "OPTIONS,POST")
    );
}

#[tokio::test]
async fn errors_of_functions_have_postgrests_statuses() {
    let app = shapes().await;
    // What our functions raise is told; of the rest the code and the status.
    let told = [
        ("P0001", 400),
        ("PT409", 409),
        ("PT404", 404),
        ("PT429", 429),
        ("PT503", 503),
        ("PT200", 500),
        ("PT999", 500),
        ("22P02", 400),
        ("PT401", 401),
    ];
    for (code, status) in told {
        let answer = answer(
            &app,
            "raises",
            &json!({"code": code, "message": "é \"m\"", "detail": "d", "hint": "h"}),
        )
        .await;
        assert_refused(
            &answer,
            status,
            &refusal(code, "é \"m\"", json!("d"), json!("h")),
        );
        let comes_back = if [429, 503].contains(&status) {
            "1"
        } else {
            ""
        };
        assert_eq!(answer.header("retry-after"), comes_back, "{code}");
    }
    let hidden = [
        ("P0002", 500),
        ("PGRST", 400),
        ("22012", 400),
        ("23503", 409),
        ("23505", 409),
        ("23514", 400),
        ("25P02", 500),
        ("28000", 403),
        ("40001", 500),
        ("42501", 403),
        ("42601", 400),
        ("42883", 404),
        ("42P01", 404),
        ("3F000", 400),
        ("53400", 500),
        ("54001", 500),
        ("55P03", 500),
        ("57014", 500),
        ("XX000", 500),
        ("0A000", 400),
    ];
    for (code, status) in hidden {
        let answer = answer(
            &app,
            "raises",
            &json!({"code": code, "message": "a secret", "detail": "a secret", "hint": "a secret"}),
        )
        .await;
        assert_refused(
            &answer,
            status,
            &refusal(
                code,
                "The request could not be served",
                Value::Null,
                Value::Null,
            ),
        );
    }
    for code in ["08006", "53300", "57P01", "57P03", "25006"] {
        let answer = answer(&app, "raises", &json!({ "code": code })).await;
        assert_refused(&answer, 503, &no_connection());
        assert_eq!(answer.header("retry-after"), "1", "{code}");
    }
    println!("{} SQLSTATEs", told.len() + hidden.len() + 5);
}

fn no_connection() -> Value {
    let message = "Database connection error. Retrying the connection.";
    refusal("PGRST000", message, Value::Null, Value::Null)
}

#[tokio::test]
async fn without_a_database_a_call_is_worth_another_try() {
    let app = App::start_with(&[("database_host", "postgres://127.0.0.1:1")]).await;
    let answer = answer(&app, "claim_next_job", &json!({})).await;
    assert_refused(&answer, 503, &no_connection());
    assert_eq!(answer.header("retry-after"), "1");

    let app = App::start().await;
    app.database.run("drop schema millrace_api cascade").await;
    let message = "Could not query the database for the schema cache. Retrying.";
    let refused = refusal("PGRST002", message, Value::Null, Value::Null);
    assert_refused(
        &super::answer(&app, "claim_next_job", &json!({})).await,
        503,
        &refused,
    );
}

#[tokio::test]
async fn a_postgrest_in_place_of_the_database_is_a_mistake_that_is_told() {
    let app = App::start_with(&[("database_url", "https://example.invalid/rest/v1")]).await;
    let message = "the application is not configured correctly";
    let refused = refusal("PT500", message, Value::Null, json!("misconfigured"));
    assert_refused(
        &answer(&app, "claim_next_job", &json!({})).await,
        500,
        &refused,
    );
}

#[tokio::test]
async fn a_function_that_was_replaced_is_found_again() {
    let app = shapes().await;
    assert_eq!(answer(&app, "sum", &json!({"a": 1})).await.text, "3");
    app.database
        .run(
            "alter function shapes.sum(int, int) rename to sum_before; \
             create schema moved; grant usage on schema moved to millrace_functions; \
             create function moved.sum(a int, b int default 2) returns setof int language sql as 'select a * b'; \
             update millrace.rpc_function set schema_name = 'moved' where function_name = 'sum'",
        )
        .await;
    assert_eq!(answer(&app, "sum", &json!({"a": 4})).await.text, "[8]");
    // One that is gone is refused as unknown to the server, then as unknown at all.
    app.database.run("drop function moved.sum").await;
    for _ in 0..2 {
        let gone = app.api.send(call(&app, "sum", &json!({"a": 4}))).await;
        assert_eq!((gone.status, gone.code().as_str()), (404, "PGRST202"));
    }
}
