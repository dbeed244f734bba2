//! GraphQL over HTTP: what is ours beside the cases of `graphql-http`'s audits (`generated_clients`).

use millrace_tests::api::Answer;
use millrace_tests::app::App;
use millrace_tests::graphql::{MEDIA_TYPE, PATH};
use millrace_tests::routes::assert_forms_refused;
use reqwest::Method;
use serde_json::{Value, json};

async fn get(app: &App, parameters: &[(&str, &str)], accept: &str) -> Answer {
    let request = app.api.request(Method::GET, PATH).query(parameters);
    app.api.send(request.header("accept", accept)).await
}

#[tokio::test]
async fn other_methods_and_other_bodies_are_refused() {
    let app = App::start().await;
    let refusals = assert_forms_refused(&app, PATH).await;
    println!("{refusals} refusals");
    for body in [
        "{}",
        "{\"query\": null}",
        "{\"query\": 5}",
        "{\"query\": [\"{ __typename }\"]}",
        "{\"query\": \"{ __typename }\", \"variables\": []}",
        "{\"query\": \"{ __typename }\", \"variables\": \"{}\"}",
        "{\"query\": \"{ __typename }\", \"operationName\": 5}",
        "{\"query\": \"{ __typename }\", \"extensions\": 5}",
        "{\"query\": \"{ __typename }\", \"query\": \"{ __typename }\"}",
        "5",
        "\"{ __typename }\"",
        "[{\"query\": \"{ __typename }\"}]",
        "[]",
    ] {
        app.api
            .post_text(PATH, body)
            .await
            .assert_graphql_refused(400, "invalid_request");
    }
    for path in [
        "/graphql/nothing",
        "/graphql/schema.graphql/more",
        "/graphql/index.html.js",
    ] {
        app.api
            .get(path)
            .await
            .assert_graphql_refused(404, "not_found");
    }
}

#[tokio::test]
async fn a_get_executes_queries_only() {
    let app = App::start().await;
    let query = [(
        "query",
        "query A($id: ID!) { task(taskId: $id) { id } } query B { __typename }",
    )];
    let with = |more: &[(&'static str, &'static str)]| [query.as_slice(), more].concat();
    let answer = get(
        &app,
        &with(&[
            ("operationName", "B"),
            ("variables", ""),
            ("extensions", "{}"),
        ]),
        MEDIA_TYPE,
    )
    .await;
    assert_eq!(answer.data(), json!({"__typename": "Query"}));
    let answer = get(
        &app,
        &with(&[("operationName", "A"), ("variables", "{\"id\": 7}")]),
        MEDIA_TYPE,
    )
    .await;
    answer.assert_failed("NOT_FOUND", &json!({"task": null}));
    get(&app, &query, MEDIA_TYPE)
        .await
        .assert_not_executed("OPERATION_RESOLUTION_FAILURE");
    get(&app, &with(&[("operationName", "C")]), MEDIA_TYPE)
        .await
        .assert_not_executed("OPERATION_RESOLUTION_FAILURE");
    for bad in [
        vec![],
        vec![("variables", "{}")],
        with(&[("query", "{ __typename }")]),
        with(&[("variables", "[]")]),
        with(&[("variables", "{")]),
        with(&[("extensions", "5")]),
    ] {
        get(&app, &bad, MEDIA_TYPE)
            .await
            .assert_graphql_refused(400, "invalid_request");
    }
    let answer = get(
        &app,
        &[(
            "query",
            "mutation { createTask(input: {type: \"t\"}) { id } }",
        )],
        MEDIA_TYPE,
    )
    .await;
    answer.assert_graphql_refused(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "POST");
    let total = app.api.graphql("{ tasks { total } }").await.data();
    assert_eq!(total["tasks"]["total"], 0);
}

/// The status tells whether something was executed, but to clients who know `application/json` alone.
#[tokio::test]
async fn the_form_of_an_answer_follows_accept() {
    let app = App::start().await;
    let own = "application/graphql-response+json; charset=utf-8";
    let json = "application/json; charset=utf-8";
    for (accept, media_type, status) in [
        (Some("application/graphql-response+json"), own, 400),
        (
            Some("application/graphql-response+json, application/json;q=0.9"),
            own,
            400,
        ),
        (
            Some("application/json;q=0.9, application/graphql-response+json;q=0.8"),
            json,
            200,
        ),
        (Some("application/json"), json, 200),
        (Some("*/*"), json, 200),
        (Some("application/*;q=0.1"), json, 200),
        (None, json, 200),
        (
            Some(
                "application/graphql-response+json, application/json, text/event-stream, multipart/mixed",
            ),
            own,
            400,
        ),
    ] {
        for (query, status) in [
            ("{ __typename }", 200),
            ("{", status),
            ("{ nothing }", status),
            ("{ task(taskId: 7) { id } }", 200),
        ] {
            let request = app
                .api
                .request(Method::POST, PATH)
                .json(&json!({ "query": query }));
            let request = match accept {
                Some(accept) => request.header("accept", accept),
                None => request,
            };
            let answer = app.api.send(request).await;
            assert_eq!(
                (answer.status, answer.header("content-type")),
                (status, media_type),
                "{accept:?} {query}"
            );
            assert_eq!(answer.header("vary"), "accept");
        }
    }
    for accept in [
        "text/html",
        "application/xml",
        "application/json;q=0",
        "application/json; charset=latin1",
        "image/*",
    ] {
        let mutation = json!({"query": "mutation { createTask(input: {type: \"t\"}) { id } }"});
        let request = app
            .api
            .request(Method::POST, PATH)
            .json(&mutation)
            .header("accept", accept);
        app.api
            .send(request)
            .await
            .assert_graphql_refused(406, "not_acceptable");
    }
    assert_eq!(
        app.api.graphql("{ tasks { total } }").await.data()["tasks"]["total"],
        0
    );
}

/// Fields come in the order of the query, whichever had to wait, and what failed is null or takes the whole with it.
#[tokio::test]
async fn a_result_is_as_the_specification_has_it() {
    let app = App::start().await;
    let query = "{ __typename jobs { id } a: task(taskId: 7) { id } ...more z: __typename } fragment more on Query { tasks { total } s: __schema { queryType { name } } }";
    let answer = app.api.graphql(query).await;
    assert_eq!(answer.error_codes(), ["NOT_FOUND"]);
    let error = &answer.json()["errors"][0];
    assert_eq!(
        (&error["path"], &error["locations"]),
        (&json!(["a"]), &json!([{"line": 1, "column": 26}]))
    );
    assert_eq!(error["message"], "Task with ID 7 not found");
    assert_eq!(error["extensions"]["reason"], "task_not_found");
    let data = "\"data\":{\"__typename\":\"Query\",\"jobs\":[],\"a\":null,\"tasks\":{\"total\":0},\"s\":{\"queryType\":{\"name\":\"Query\"}},\"z\":\"Query\"}}";
    assert!(answer.text.ends_with(data), "{}", answer.text);

    let answer = app
        .api
        .graphql("{ __typename job(jobId: 7) { id } tasks(filters: {limit: 0}) { total } }")
        .await;
    assert_eq!(answer.error_codes().len(), 2);
    assert_eq!(answer.json()["data"], Value::Null);

    let skipped = app.api.graphql_with("query ($no: Boolean!) { tasks @skip(if: true) { total } jobs @include(if: $no) { id } }", json!({"no": false})).await;
    assert_eq!(skipped.data(), json!({}));

    // Where a field of a mutation fails, what was before it is done, and nothing behind it.
    let answer = app.api.graphql("mutation { a: createTask(input: {type: \"t\"}) { id } b: cancelTask(taskId: 7) c: createTask(input: {type: \"t\"}) { id } }").await;
    assert_eq!(answer.error_codes(), ["NOT_FOUND", "NOT_EXECUTED"]);
    assert_eq!(answer.json()["data"], Value::Null);
    assert_eq!(
        app.api.graphql("{ tasks { total } }").await.data()["tasks"]["total"],
        1
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_query_is_said_with_its_place() {
    let app = App::start().await;
    for (query, code, line, column) in [
        ("{", "GRAPHQL_PARSE_FAILED", 1, 2),
        (
            "{\n  task(taskId: ) { id }\n}",
            "GRAPHQL_PARSE_FAILED",
            2,
            16,
        ),
        (
            "query A { __typename } query A { __typename }",
            "GRAPHQL_PARSE_FAILED",
            1,
            24,
        ),
        ("{ nothing }", "GRAPHQL_VALIDATION_FAILED", 1, 3),
        ("{ tasks }", "GRAPHQL_VALIDATION_FAILED", 1, 3),
        ("{ task { id } }", "GRAPHQL_VALIDATION_FAILED", 1, 3),
        ("{\n ...nowhere }", "GRAPHQL_VALIDATION_FAILED", 2, 2),
        (
            "query ($unused: ID) { __typename }",
            "GRAPHQL_VALIDATION_FAILED",
            1,
            8,
        ),
        (
            "{ task(taskId: $id) { id } }",
            "GRAPHQL_VALIDATION_FAILED",
            1,
            8,
        ),
        (
            "{ task(taskId: 1, taskId: 2) { id } }",
            "GRAPHQL_VALIDATION_FAILED",
            1,
            19,
        ),
        (
            "{ a: task(taskId: 1) { id } a: task(taskId: 2) { id } }",
            "GRAPHQL_VALIDATION_FAILED",
            1,
            3,
        ),
        (
            "{ jobs @nothing { id } }",
            "GRAPHQL_VALIDATION_FAILED",
            1,
            8,
        ),
        (
            "mutation { createTask(input: {}) { id } }",
            "BAD_USER_INPUT",
            1,
            23,
        ),
    ] {
        let answer = app.api.graphql(query).await;
        assert!(
            answer.error_codes().contains(&code.to_owned()),
            "{query}: {}",
            answer.text
        );
        let body = answer.json();
        assert!(body.get("data").is_none());
        let place = &body["errors"][0]["locations"][0];
        assert_eq!(
            (&place["line"], &place["column"]),
            (&json!(line), &json!(column)),
            "{query}: {}",
            answer.text
        );
    }
    let syntax = app.api.graphql("{").await.first_message();
    assert!(
        syntax.starts_with("Syntax Error: expected") && !syntax.contains('\n'),
        "{syntax}"
    );
}
