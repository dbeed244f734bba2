//! What a call answers: the shape of its result, by what the function returns and what the client asks for.

use super::{answer, assert_refused, call, refusal, shapes};
use reqwest::Method;
use serde_json::{Value, json};

const JSON: &str = "application/json; charset=utf-8";
const OBJECT: &str = "application/vnd.pgrst.object+json; charset=utf-8";

#[tokio::test]
async fn a_result_has_the_shape_of_what_the_function_returns() {
    let app = shapes().await;
    // The function, its arguments, Accept and Prefer; the content type, Content-Range, Preference-Applied, and the body.
    let object = "application/vnd.pgrst.object+json";
    let rows = "[{\"a\":1,\"B c\":\"x\"}, \n {\"a\":2,\"B c\":\"x\"}]";
    let at = r#"[{"id":1,"at":"2026-01-02T03:04:05+00:00"}]"#;
    let cases = [
        ("sum", json!({"a": 1}), "", "", JSON, "0-0/*", "", "3"),
        (
            "sum",
            json!({"b": 5, "a": 1}),
            "",
            "",
            JSON,
            "0-0/*",
            "",
            "6",
        ),
        ("unknown", json!({}), "", "", JSON, "0-0/*", "", "null"),
        (
            "pair",
            json!({"a": 1}),
            "",
            "",
            JSON,
            "0-0/*",
            "",
            r#"{"a":1,"B c":"x"}"#,
        ),
        (
            "pair",
            json!({"a": 1, "Arg \"1": "é"}),
            "",
            "",
            JSON,
            "0-0/*",
            "",
            r#"{"a":1,"B c":"é"}"#,
        ),
        (
            "pair",
            json!({"a": 1}),
            object,
            "",
            OBJECT,
            "0-0/*",
            "",
            r#"{"a":1,"B c":"x"}"#,
        ),
        ("pairs", json!({"n": 2}), "", "", JSON, "0-1/*", "", rows),
        (
            "pairs",
            json!({"n": 2}),
            "application/json",
            "count=exact",
            JSON,
            "0-1/2",
            "count=exact",
            rows,
        ),
        (
            "pairs",
            json!({"n": 2}),
            "*/*",
            "count=planned",
            JSON,
            "0-1/*",
            "count=planned",
            rows,
        ),
        ("pairs", json!({"n": 0}), "", "", JSON, "*/*", "", "[]"),
        (
            "pairs",
            json!({"n": 0}),
            "",
            "handling=strict, count=estimated",
            JSON,
            "*/0",
            "count=estimated, handling=strict",
            "[]",
        ),
        (
            "pairs",
            json!({"n": 1}),
            object,
            "",
            OBJECT,
            "0-0/*",
            "",
            r#"{"a":1,"B c":"x"}"#,
        ),
        (
            "numbers",
            json!({"n": 3}),
            "",
            "",
            JSON,
            "0-2/*",
            "",
            "[1, 2, 3]",
        ),
        (
            "numbers",
            json!({"n": 1}),
            object,
            "",
            OBJECT,
            "0-0/*",
            "",
            "1",
        ),
        (
            "at",
            json!({"n": 1}),
            "text/csv, application/json",
            "",
            JSON,
            "0-0/*",
            "",
            at,
        ),
        (
            "echo",
            json!({"a": [1, null]}),
            "",
            "",
            JSON,
            "0-0/*",
            "",
            r#"{"a": [1, null]}"#,
        ),
        // What a preference says about rows of a table says nothing about a call.
        (
            "sum",
            json!({"a": 1}),
            "",
            "return=minimal",
            JSON,
            "0-0/*",
            "",
            "3",
        ),
        (
            "sum",
            json!({"a": 1}),
            "",
            "return=headers-only, tx=rollback, handling=lenient, nonsense",
            JSON,
            "0-0/*",
            "handling=lenient",
            "3",
        ),
    ];
    let count = cases.len();
    for (function, arguments, accept, prefer, content_type, range, applied, body) in cases {
        let mut request = call(&app, function, &arguments);
        for (name, value) in [("accept", accept), ("prefer", prefer)] {
            if !value.is_empty() {
                request = request.header(name, value);
            }
        }
        let answer = app.api.send(request).await;
        let case = format!("{function} {arguments} {accept} {prefer}");
        assert_eq!((answer.status, answer.text.as_str()), (200, body), "{case}");
        assert_eq!(answer.header("content-type"), content_type, "{case}");
        assert_eq!(answer.header("content-range"), range, "{case}");
        assert_eq!(answer.header("preference-applied"), applied, "{case}");
        assert_eq!(answer.header("content-profile"), "public", "{case}");
        assert_eq!(
            answer.header("content-length"),
            body.len().to_string(),
            "{case}"
        );
        assert_eq!(answer.header("cache-control"), "no-store", "{case}");
    }
    println!("{count} results of calls");
}

#[tokio::test]
async fn a_function_that_returns_nothing_is_answered_with_204() {
    let app = shapes().await;
    let answer = answer(&app, "nothing", &json!({})).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    assert_eq!(answer.header("content-type"), "");
    assert_eq!(answer.header("content-range"), "0-0/*");
    assert_eq!(written(&app).await, 1, "and was called once");
}

#[tokio::test]
async fn whoever_wants_one_object_gets_one_or_nothing_happens() {
    let app = shapes().await;
    for (n, rows) in [(0, 0), (1, 1), (2, 1)] {
        let request = call(&app, "writes", &json!({ "n": n }));
        let answer = app
            .api
            .send(request.header("accept", "application/vnd.pgrst.object+json"))
            .await;
        match n {
            1 => assert_eq!((answer.status, answer.text.as_str()), (200, "1")),
            _ => {
                let message = "Cannot coerce the result to a single JSON object";
                let details = format!("The result contains {n} rows");
                assert_refused(
                    &answer,
                    406,
                    &refusal("PGRST116", message, json!(details), Value::Null),
                );
            }
        }
        assert_eq!(written(&app).await, rows, "{n}");
    }
    let set = answer(&app, "writes", &json!({"n": 2})).await;
    assert_eq!(
        (set.status, written(&app).await),
        (200, 3),
        "a set is made once"
    );
}

/// How many rows the functions have written.
async fn written(app: &millrace_tests::app::App) -> i64 {
    app.database
        .one("select count(*) from shapes.written", &[])
        .await
        .get(0)
}

#[tokio::test]
async fn formats_and_preferences_that_are_not_known_are_refused() {
    let app = shapes().await;
    for accept in [
        "text/csv",
        "application/vnd.pgrst.plan+json, text/plain",
        "application/vnd.pgrst.object+json;nulls=stripped",
    ] {
        let answer = app
            .api
            .send(call(&app, "sum", &json!({"a": 1})).header("accept", accept))
            .await;
        let message = format!("None of these media types are available: {accept}");
        assert_refused(
            &answer,
            406,
            &refusal("PGRST107", &message, Value::Null, Value::Null),
        );
    }
    for prefer in [
        "params=single-object",
        "timezone=Europe/Berlin",
        "max-affected=1",
        "count=all, nonsense",
    ] {
        let strict = format!("handling=strict, {prefer}, return=minimal");
        let answer = app
            .api
            .send(call(&app, "sum", &json!({"a": 1})).header("prefer", strict))
            .await;
        let message = "Invalid preferences given with handling=strict";
        let details = format!("Invalid preferences: {prefer}");
        assert_refused(
            &answer,
            400,
            &refusal("PGRST122", message, json!(details), Value::Null),
        );
    }
}

#[tokio::test]
async fn the_route_of_supabase_is_the_same() {
    let app = shapes().await;
    let request = app
        .api
        .request(Method::POST, "/rest/v1/rpc/sum")
        .json(&json!({"a": 1}));
    assert_eq!(app.api.send(request).await.text, "3");
}
