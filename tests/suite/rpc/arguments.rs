//! The arguments of a call: named ones in any order, their conversion, and what is none.

use super::{answer, assert_refused, refusal, shapes};
use reqwest::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn values_are_converted_as_postgrest_does() {
    let app = shapes().await;
    let uuid = "6a1f3c9e-0000-4000-8000-00000000abcd";
    for (arguments, expected) in [
        (json!({"i": "7", "b": "true"}), json!({"i": 7, "b": true})),
        (json!({"t": 7, "n": "1.50"}), json!({"t": "7", "n": 1.50})),
        (
            json!({"t": {"a": 1}, "j": {"a": 1}}),
            json!({"t": "{\"a\":1}", "j": {"a": 1}}),
        ),
        (json!({"t": null, "i": null}), json!({})),
        (
            json!({"u": uuid, "l": ["a", "b"]}),
            json!({"u": uuid, "l": ["a", "b"]}),
        ),
        (
            json!({"at": "2026-01-02T03:04:05Z"}),
            json!({"at": "2026-01-02T03:04:05+00:00"}),
        ),
        (
            json!({"t": "'; drop table shapes.written; --"}),
            json!({"t": "'; drop table shapes.written; --"}),
        ),
    ] {
        let answer = answer(&app, "types", &arguments).await;
        assert_eq!(
            (answer.status, answer.json()),
            (200, expected),
            "{arguments}"
        );
    }
    let exact = r#"{"i": 9007199254740993, "n": 12345678901234567890.10}"#;
    let answer = app.api.post_text("/rpc/types", exact).await;
    assert_eq!(answer.text, exact, "digits are kept");
}

#[tokio::test]
async fn a_value_of_another_type_is_refused_in_postgres_words() {
    let app = shapes().await;
    for (arguments, code, message) in [
        (
            json!({"i": "x"}),
            "22P02",
            r#"invalid input syntax for type bigint: "x""#,
        ),
        (
            json!({"i": 1.5}),
            "22P02",
            r#"invalid input syntax for type bigint: "1.5""#,
        ),
        (
            json!({"i": "9223372036854775808"}),
            "22003",
            r#"value "9223372036854775808" is out of range for type bigint"#,
        ),
        (
            json!({"b": "maybe"}),
            "22P02",
            r#"invalid input syntax for type boolean: "maybe""#,
        ),
        (
            json!({"u": "x"}),
            "22P02",
            r#"invalid input syntax for type uuid: "x""#,
        ),
        (
            json!({"at": "yesterday or so"}),
            "22007",
            r#"invalid input syntax for type timestamp with time zone: "yesterday or so""#,
        ),
        (
            json!({"at": "2026-02-30"}),
            "22008",
            r#"date/time field value out of range: "2026-02-30""#,
        ),
    ] {
        let answer = answer(&app, "types", &arguments).await;
        assert_refused(
            &answer,
            400,
            &refusal(code, message, Value::Null, Value::Null),
        );
    }
}

#[tokio::test]
async fn names_that_fit_no_function_are_refused() {
    let app = shapes().await;
    let meant = |text: &str| {
        json!(format!(
            "Perhaps you meant to call the function public.{text}"
        ))
    };
    let cases = [
        (
            "sum",
            json!({}),
            " without parameters",
            " without parameters",
            Value::Null,
        ),
        (
            "sum",
            json!({"b": 1}),
            "(b)",
            " with parameter b",
            json!("(a, b)"),
        ),
        (
            "sum",
            json!({"c": 1, "a": 1}),
            "(a, c)",
            " with parameters a, c",
            json!("(a, b)"),
        ),
        (
            "sum",
            json!({"A": 1}),
            "(A)",
            " with parameter A",
            json!("(a, b)"),
        ),
        (
            "nothing",
            json!({"a": 1}),
            "(a)",
            " with parameter a",
            Value::Null,
        ),
        (
            "summ",
            json!({"a": 1}),
            "(a)",
            " with parameter a",
            json!("sum"),
        ),
        (
            "no_such_function",
            json!({}),
            " without parameters",
            " without parameters",
            Value::Null,
        ),
    ];
    for (function, arguments, with, searched, hint) in cases {
        let answer = answer(&app, function, &arguments).await;
        let message =
            format!("Could not find the function public.{function}{with} in the schema cache");
        let details = format!(
            "Searched for the function public.{function}{searched} or with a single unnamed json/jsonb parameter, but no matches were found in the schema cache."
        );
        let hint = match hint.as_str() {
            None => Value::Null,
            Some(parameters) if parameters.starts_with('(') => {
                meant(&format!("{function}{parameters}"))
            }
            Some(other) => meant(other),
        };
        assert_refused(
            &answer,
            404,
            &refusal("PGRST202", &message, json!(details), hint),
        );
    }
}

#[tokio::test]
async fn a_refusal_does_not_repeat_all_that_was_sent() {
    let app = shapes().await;
    let long = "x".repeat(100_000);
    let many: serde_json::Map<_, _> = (0..100)
        .map(|n| (format!("{n}{}", "x".repeat(1000)), Value::Null))
        .collect();
    for arguments in [json!({&long: 1}), Value::Object(many)] {
        for function in ["sum", &"f".repeat(2000)] {
            let answer = answer(&app, function, &arguments).await;
            assert_eq!((answer.status, answer.code().as_str()), (404, "PGRST202"));
            println!("a refusal of {} bytes", answer.text.len());
            assert!(answer.text.len() < 4000, "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn the_runbooks_parameters_have_two_names() {
    let app = shapes().await;
    let worker = "00000000-0000-4000-8000-000000000001";
    for arguments in [
        json!({"worker_id": worker}),
        json!({"p_worker": worker}),
        json!({"p_worker": worker, "job_type": null}),
        json!({"p_job_type": "ocr", "worker_id": worker}),
    ] {
        let answer = answer(&app, "claim_next_job", &arguments).await;
        assert_eq!(
            (answer.status, answer.text.as_str()),
            (200, "[]"),
            "{arguments}"
        );
    }
    let both = answer(
        &app,
        "claim_next_job",
        &json!({"p_worker": worker, "worker_id": worker}),
    )
    .await;
    assert_eq!(
        (both.status, both.code().as_str()),
        (404, "PGRST202"),
        "one thing twice"
    );
    let other = answer(&app, "sum", &json!({"p_worker": 1})).await;
    assert_eq!(other.status, 404, "other functions have no other names");
}

#[tokio::test]
async fn a_body_that_holds_no_arguments_is_refused() {
    let app = shapes().await;
    let send = async |media_type: Option<&str>, body: Vec<u8>| {
        let request = app.api.request(Method::POST, "/rpc/sum").body(body);
        app.api
            .send(match media_type {
                Some(media_type) => request.header("content-type", media_type),
                None => request,
            })
            .await
    };
    let json = Some("application/json");
    let deep = "[".repeat(100_000);
    for body in [
        "{",
        "{\"a\":1}x",
        "nonsense",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":\"\\ud800\"}",
        &deep,
    ] {
        let refused = refusal(
            "PGRST102",
            "Empty or invalid json",
            Value::Null,
            Value::Null,
        );
        assert_refused(&send(json, body.into()).await, 400, &refused);
    }
    let not_utf8 = send(json, vec![b'{', 0xff, b'}']).await;
    assert_eq!(not_utf8.code(), "PGRST102");
    let keys = "All object keys must match";
    // PostgREST takes the last one: what is meant by that is anybody's guess.
    let twice = "A field of the body is there twice, or there are too many of them";
    for (body, message) in [
        ("[7]", keys),
        ("[{\"a\":1}, null]", keys),
        ("{\"a\":1,\"a\":1}", twice),
    ] {
        let refused = refusal("PGRST102", message, Value::Null, Value::Null);
        assert_refused(&send(json, body.into()).await, 400, &refused);
    }
    let refused = refusal(
        "PGRST127",
        "Feature not implemented",
        json!("An array of objects is not supported as arguments"),
        Value::Null,
    );
    assert_refused(&send(json, "[{\"a\":1}]".into()).await, 400, &refused);
    // As with PostgREST these have no fields, so they are no arguments.
    for body in ["null", "7", "\"a\"", "true", "[]"] {
        let nameless = send(json, body.into()).await;
        assert_eq!(nameless.status, 404, "{body}");
        let message =
            "Could not find the function public.sum without parameters in the schema cache";
        assert_eq!(nameless.json()["message"], message, "{body}");
        // The document knows of objects only, so this is not held against it.
        let request = app.api.request(Method::POST, "/rpc/unknown").body(body);
        let called = request.send().await.expect("an answer");
        assert_eq!(called.text().await.expect("a body"), "null", "{body}");
    }
    for media_type in [
        "text/csv",
        "application/x-www-form-urlencoded",
        "text/plain;charset=utf-8",
    ] {
        let essence = media_type.split(';').next().expect("a type");
        let refused = refusal(
            "PGRST102",
            &format!("Content-Type not acceptable: {essence}"),
            Value::Null,
            Value::Null,
        );
        assert_refused(
            &send(Some(media_type), b"{\"a\":1}".to_vec()).await,
            400,
            &refused,
        );
    }
    for media_type in [
        None,
        Some("application/json; charset=utf-8"),
        Some("Application/JSON"),
    ] {
        let answer = send(media_type, b" {\"a\" : 1} ".to_vec()).await;
        assert_eq!(answer.text, "3", "{media_type:?}");
    }
    let empty = app
        .api
        .send(app.api.request(Method::POST, "/rpc/unknown"))
        .await;
    assert_eq!(empty.text, "null", "no body is no arguments");

    let padding = " ".repeat(1 << 20);
    let large = send(json, format!("{{\"a\":1}}{padding}").into()).await;
    let refused = refusal(
        "PT413",
        "the body has more than 1048576 bytes",
        Value::Null,
        json!("body_too_large"),
    );
    assert_refused(&large, 413, &refused);
    let whole = app
        .api
        .post_text("/rpc/echo", format!("{{\"a\":1}}{padding}"))
        .await;
    assert_eq!(
        whole.text, "{\"a\": 1}",
        "whoever takes the whole body takes a larger one"
    );
    let large = app
        .api
        .post_text("/rpc/echo", padding.repeat(2) + "{}")
        .await;
    assert_eq!((large.status, large.code().as_str()), (413, "PT413"));

    // Our own components have looked at what their clients nest, and put it deeper.
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let request = app.api.request(Method::POST, "/rpc/echo").body(nested(143));
    let deep = request.send().await.expect("an answer").text().await;
    assert_eq!(deep.expect("a body").replace(' ', ""), nested(143));
    for depth in [144, 500_000] {
        let bottomless = app.api.post_text("/rpc/echo", nested(depth)).await;
        assert_eq!(
            (bottomless.status, bottomless.code().as_str()),
            (400, "PGRST102")
        );
    }
    let nul = app.api.post_text("/rpc/echo", "\"\\u0000\"").await;
    assert_eq!((nul.status, nul.code().as_str()), (400, "22P05"));
    let named = app
        .api
        .post_text("/rpc/types", nested(200).replace('a', "j"))
        .await;
    assert_eq!((named.status, named.code().as_str()), (400, "PGRST102"));
}

#[tokio::test]
async fn a_query_string_is_refused_and_not_ignored() {
    let app = shapes().await;
    // What clients send that end a call with `.select()`: all of it.
    for (query, function, body) in [
        ("?select=*", "numbers", "[1, 2]"),
        ("?select=%2A", "numbers", "[1, 2]"),
        ("?", "numbers", "[1, 2]"),
        ("?select=*", "pair", r#"{"a":2,"B c":"x"}"#),
    ] {
        let argument = if function == "pair" { "a" } else { "n" };
        let request = app
            .api
            .request(Method::POST, &format!("/rpc/{function}{query}"))
            .json(&json!({ argument: 2 }));
        let answer = app.api.send(request).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, body));
    }
    for query in [
        "select=a",
        "limit=1",
        "columns=a",
        "a=eq.1",
        "select=*,a",
        "select=*&limit=1",
    ] {
        let request = app
            .api
            .request(Method::POST, &format!("/rpc/numbers?{query}"))
            .json(&json!({"n": 2}));
        let last = query.split('&').next_back().expect("a parameter");
        let name = last.split('=').next().expect("a name");
        let details = format!("The query parameter '{name}' is not supported on RPC");
        let refused = refusal(
            "PGRST127",
            "Feature not implemented",
            json!(details),
            Value::Null,
        );
        assert_refused(&app.api.send(request).await, 400, &refused);
    }
}
