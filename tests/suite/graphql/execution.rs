//! That what an operation says is executed once, in its order, and not at all where a value of it does not fit.

use millrace_tests::api::Answer;
use millrace_tests::app::App;
use serde_json::{Value, json};

async fn tasks(app: &App) -> i64 {
    let row = app.database.one("select count(*) from millrace.job", &[]);
    row.await.get(0)
}

fn messages(answer: &Answer) -> Vec<String> {
    let json = answer.json();
    let errors = json["errors"].as_array().expect("errors").iter();
    let message = |error: &Value| error["message"].as_str().expect("a message").to_owned();
    errors.map(message).collect()
}

/// A response key is one field, however often and in whichever fragment it stands.
#[tokio::test]
async fn a_field_is_executed_once() {
    let app = App::start().await;
    let one = "createTask(input: {type: \"dup\"}) { id }";
    let two = "createTask(input: {type: \"dup\"}) { id status }";
    let mut made = 0;
    for query in [
        format!("mutation {{ {one} {two} }}"),
        format!("mutation {{ {one} ... {{ {two} }} ... on Mutation {{ {two} }} }}"),
        format!(
            "mutation {{ ...f {two} ...f }} fragment f on Mutation {{ {one} ...g }} fragment g on Mutation {{ {two} }}"
        ),
        format!("mutation {{ {one} {} }}", two.repeat(25)),
        format!(
            "mutation {{ {two} createTask(input: {{type: \"dup\"}}) @skip(if: true) {{ id }} ... @include(if: false) {{ b: {one} }} }}"
        ),
    ] {
        let data = app.api.graphql(&query).await.data();
        made += 1;
        assert_eq!(
            data,
            json!({"createTask": {"id": made.to_string(), "status": "PENDING"}})
        );
        assert_eq!(tasks(&app).await, made, "{query}");
    }
    let aliases = format!("mutation {{ a: {one} b: {one} }}");
    app.api.graphql(&aliases).await.data();
    assert_eq!(tasks(&app).await, made + 2, "two keys are two fields");

    let query = "query ($no: Boolean!) { task(taskId: 1) { id } ...f ... @include(if: $no) { jobs { id } } } fragment f on Query { task(taskId: 1) { type } jobs { id } }";
    let data = app.api.graphql_with(query, json!({"no": false})).await;
    assert_eq!(
        data.data(),
        json!({"task": {"id": "1", "type": "dup"}, "jobs": []})
    );
    for query in [
        "{ task(taskId: 1) { id } task(taskId: 2) { id } }",
        "{ task(taskId: 1) { id } ... on Query { task(taskId: 2) { id } } }",
        "{ a: task(taskId: 1) { id } a: jobs { id } }",
        "mutation { createTask(input: {type: \"a\"}) { id } ... { createTask(input: {type: \"b\"}) { id } } }",
    ] {
        let answer = app.api.graphql(query).await;
        assert_eq!(answer.error_codes()[0], "GRAPHQL_VALIDATION_FAILED");
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
    }
    assert_eq!(tasks(&app).await, made + 2);
}

/// The answer of a mutation is null once a field failed, so nothing is done behind that.
#[tokio::test]
async fn nothing_is_done_behind_a_field_that_failed() {
    let app = App::start().await;
    let query = "mutation { a: createTask(input: {type: \"x\"}) { id } b: cancelTask(taskId: \"999999\") c: createTask(input: {type: \"x\"}) { id } d: cancelTask(taskId: 1) }";
    let answer = app.api.graphql(query).await;
    assert_eq!(
        answer.error_codes(),
        ["NOT_FOUND", "NOT_EXECUTED", "NOT_EXECUTED"]
    );
    assert_eq!(answer.json()["data"], Value::Null);
    assert_eq!(
        messages(&answer)[1..],
        ["not executed: an earlier field failed"; 2]
    );
    assert_eq!(tasks(&app).await, 1, "what was before it");
    let status = app.api.graphql("{ task(taskId: 1) { status } }").await;
    assert_eq!(status.data()["task"]["status"], "PENDING");
}

/// A good field first, then one whose value does not fit its type: neither is executed.
#[tokio::test]
async fn nothing_is_executed_where_a_value_does_not_fit() {
    let app = App::start().await;
    let mut cases = 0;
    for (definitions, field, variables) in [
        (
            "",
            "createTask(input: {type: \"b\", maxAttempts: 2147483648}) { id }",
            json!({}),
        ),
        (
            "",
            "createTask(input: {type: \"b\", delaySeconds: -3000000000}) { id }",
            json!({}),
        ),
        (
            "",
            "createTask(input: {type: \"b\", maxAttempts: 5.0}) { id }",
            json!({}),
        ),
        (
            "",
            "createTask(input: {type: \"b\", maxAttempts: 99999999999999999999}) { id }",
            json!({}),
        ),
        (
            "",
            "createTask(input: {type: \"b\", priority: \"HIGH\"}) { id }",
            json!({}),
        ),
        ("", "createTask(input: {type: 1.10}) { id }", json!({})),
        ("", "createTask(input: [{type: \"b\"}]) { id }", json!({})),
        ("", "createTask(input: null) { id }", json!({})),
        ("", "createTask(input: {type: null}) { id }", json!({})),
        ("", "createTask(input: {}) { id }", json!({})),
        ("", "createTask { id }", json!({})),
        (
            "",
            "createTask(input: {type: \"b\", type: \"c\"}) { id }",
            json!({}),
        ),
        ("", "cancelTask(taskId: 1.5)", json!({})),
        ("", "cancelTask(taskId: null)", json!({})),
        (
            "($v: Int)",
            "createTask(input: {type: \"b\", maxAttempts: $v}) { id }",
            json!({"v": 2_147_483_648_i64}),
        ),
        (
            "($v: Int)",
            "createTask(input: {type: \"b\", maxAttempts: $v}) { id }",
            json!({"v": 5.0}),
        ),
        (
            "($v: Int)",
            "createTask(input: {type: \"b\", maxAttempts: $v}) { id }",
            json!({"v": "5"}),
        ),
        (
            "($v: CreateTaskInput!)",
            "createTask(input: $v) { id }",
            json!({"v": [{"type": "b"}]}),
        ),
        (
            "($v: CreateTaskInput!)",
            "createTask(input: $v) { id }",
            json!({"v": {"type": "b", "maxAttempts": 3_000_000_000_i64}}),
        ),
        (
            "($v: CreateTaskInput!)",
            "createTask(input: $v) { id }",
            json!({"v": {"type": "b", "other": 1}}),
        ),
        (
            "($v: CreateTaskInput!)",
            "createTask(input: $v) { id }",
            json!({"v": {"priority": "HIGH"}}),
        ),
        (
            "($v: CreateTaskInput = {type: \"b\"})",
            "createTask(input: $v) { id }",
            json!({"v": null}),
        ),
        (
            "($v: CreateTaskInput)",
            "createTask(input: $v) { id }",
            json!({"v": {"type": "b"}}),
        ),
        (
            "($v: String = \"b\")",
            "createTask(input: {type: $v}) { id }",
            json!({"v": null}),
        ),
        (
            "($v: String)",
            "createTask(input: {type: $v}) { id }",
            json!({"v": "b"}),
        ),
        (
            "($v: Int!)",
            "createTask(input: {type: $v}) { id }",
            json!({"v": 5}),
        ),
        (
            "($v: TaskPriority = \"HIGH\")",
            "createTask(input: {type: \"b\", priority: $v}) { id }",
            json!({}),
        ),
        ("($v: String!)", "cancelTask(taskId: $v)", json!({"v": "1"})),
        ("($v: ID)", "cancelTask(taskId: $v)", json!({"v": "1"})),
    ] {
        let query = format!(
            "mutation {definitions} {{ a: createTask(input: {{type: \"a\"}}) {{ id }} b: {field} }}"
        );
        let answer = app.api.graphql_with(&query, variables.clone()).await;
        let codes = answer.error_codes();
        assert!(
            ["BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"].contains(&codes[0].as_str()),
            "{query} {variables}: {}",
            answer.text
        );
        assert_eq!(answer.status, 400, "{query} {variables}: {}", answer.text);
        assert!(answer.json().get("data").is_none(), "{}", answer.text);
        cases += 1;
    }
    for query in [
        "{ tasks(filters: {status: \"PENDING\"}) { total } }",
        "query ($s: TaskStatus = \"PENDING\") { tasks(filters: {status: $s}) { total } }",
        "{ tasks(filters: {limit: 1, limit: 2}) { total } }",
    ] {
        let answer = app.api.graphql(query).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        cases += 1;
    }
    println!("{cases} operations, nothing of them executed");
    assert_eq!(tasks(&app).await, 0);
    for (query, variables) in [
        (
            "query ($s: TaskStatus = PENDING) { tasks(filters: {status: $s}) { total } }",
            json!({"s": "FAILED"}),
        ),
        (
            "query ($s: TaskStatus!) { tasks(filters: {status: $s}) { total } }",
            json!({"s": "FAILED"}),
        ),
        (
            "query ($l: Int = 5) { tasks(filters: {limit: $l}) { total } }",
            json!({}),
        ),
        (
            "query ($l: Int!) { tasks(filters: {limit: $l}) { total } }",
            json!({"l": 5}),
        ),
        (
            "query ($l: Int) { tasks(filters: {limit: $l}) { total } }",
            json!({}),
        ),
        (
            "query ($f: TaskFilters!) { tasks(filters: $f) { total } }",
            json!({"f": {"limit": null}}),
        ),
    ] {
        let answer = app.api.graphql_with(query, variables).await;
        assert_eq!(answer.data()["tasks"]["total"], 0);
    }
}

/// Jobs are listed however large their payloads are, where these are not asked for.
#[tokio::test]
async fn jobs_are_listed_without_their_payloads() {
    let app = App::start().await;
    let query = "mutation ($n: String!, $p: JSON) { createJob(input: {name: $n, type: \"t\", schedule: \"0 0 * * *\", payload: $p}) { id } }";
    let large = "x".repeat(950_000);
    for name in 0..10 {
        let variables = json!({"n": name.to_string(), "p": large});
        app.api.graphql_with(query, variables).await.data();
    }
    let listed = app.api.graphql("{ jobs { id name } }").await.data();
    assert_eq!(listed["jobs"].as_array().map(Vec::len), Some(10));
    let answer = app.api.graphql("{ jobs { id payload } }").await;
    answer.assert_failed("QUERY_TOO_COMPLEX", &Value::Null);
    assert!(!answer.text.contains("limit"), "{}", answer.text);
    let one = app.api.graphql("{ job(jobId: 1) { payload } }").await;
    assert_eq!(one.data()["job"]["payload"], large);
}
