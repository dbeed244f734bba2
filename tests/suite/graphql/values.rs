//! What values a client may send, and that what comes back is what was sent.

use millrace_tests::app::App;
use serde_json::{Value, json};

const CREATE: &str =
    "mutation ($input: CreateTaskInput!) { createTask(input: $input) { id payload } }";

/// The payload as it is shown, character by character, of a request whose body is written by hand.
async fn payload_of(app: &App, query: &str, variables: &str) -> String {
    let body = format!(
        "{{\"query\": {}, \"variables\": {variables}}}",
        json!(query)
    );
    let answer = app.api.post_text("/graphql", body).await;
    answer.data();
    let start = answer.text.find("\"payload\":").expect("a payload") + 10;
    answer.text[start..].trim_end_matches('}').to_owned()
}

#[tokio::test]
async fn json_of_a_variable_comes_back_digit_by_digit() {
    let app = App::start().await;
    let mut values = 0;
    for text in [
        "12345678901234567890",
        "123456789012345678901234567890.10",
        "1.10",
        "0.1",
        "-0.5",
        "1234567.8900",
        "true",
        "false",
        "\"a\\\"b\\\\ \\u00e9 1.10\"",
        "[1.10, [], \"\", null, [2.50]]",
    ] {
        let whole = payload_of(
            &app,
            CREATE,
            &format!("{{\"input\": {{\"type\": \"t\", \"payload\": {text}}}}}"),
        )
        .await;
        assert_eq!(whole, text.replace("\\u00e9", "é"), "whole");
        let nested = "mutation ($v: JSON) { createTask(input: {type: \"t\", payload: [{v: $v}, 2]}) { payload } }";
        let nested = payload_of(&app, nested, &format!("{{\"v\": {text}}}")).await;
        assert_eq!(
            nested,
            format!("[{{\"v\": {}}}, 2]", text.replace("\\u00e9", "é"))
        );
        values += 2;
    }
    println!("{values} payloads, none of them changed");
}

#[tokio::test]
async fn json_stands_in_the_query_as_well() {
    let app = App::start().await;
    let create = async |literal: &str| {
        let query = format!(
            "mutation {{ createTask(input: {{type: \"t\", payload: {literal}}}) {{ payload }} }}"
        );
        app.api.graphql(&query).await
    };
    for (literal, payload) in [
        ("{}", json!({})),
        (
            "{a: [1, -2.5, 1e3], b: {c: true, d: null}, e: \"\\u00e9\\n\"}",
            json!({"a": [1, -2.5, 1000], "b": {"c": true, "d": null}, "e": "é\n"}),
        ),
        ("\"\"\"\n  block\n    text\n\"\"\"", json!("block\n  text")),
        (
            "18446744073709551615",
            json!(18_446_744_073_709_551_615_u64),
        ),
        ("[[[]]]", json!([[[]]])),
        ("false", json!(false)),
    ] {
        assert_eq!(
            create(literal).await.data()["createTask"]["payload"],
            payload,
            "{literal}"
        );
    }
    create("{a: WORD}")
        .await
        .assert_not_executed("BAD_USER_INPUT");
    create("{a: \"\\u0000\"}")
        .await
        .assert_not_executed("BAD_USER_INPUT");
    create("{a: 1, b: 2, a: 3}")
        .await
        .assert_not_executed("GRAPHQL_VALIDATION_FAILED");
    let answer =
        create("{a: [18446744073709551616, 1.10], b: \"\\uD83D\\uDE00\\u{1F600} 1.10\"}").await;
    answer.data();
    let exact = "{\"a\": [18446744073709551616, 1.10], \"b\": \"😀😀 1.10\"}";
    assert!(answer.text.contains(exact), "{}", answer.text);
}

/// Everything that does not fit its type, as a literal and as a variable: nothing of it is executed.
#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let app = App::start().await;
    let list = |filters: &str| format!("{{ tasks(filters: {filters}) {{ total }} }}");
    let mut cases = 0;
    for literal in [
        "{limit: \"5\"}",
        "{limit: 5.5}",
        "{limit: true}",
        "{limit: [5]}",
        "{status: 5}",
        "{status: NONE}",
        "{type: 5}",
        "{type: WORD}",
        "{unknown: 1}",
        "{priority: NORMAL}",
        "{priority: 1.5}",
    ] {
        let answer = app.api.graphql(&list(literal)).await;
        assert!(
            ["BAD_USER_INPUT", "GRAPHQL_VALIDATION_FAILED"]
                .contains(&answer.error_codes()[0].as_str()),
            "{literal}: {}",
            answer.text
        );
        assert_eq!(answer.status, 400, "{literal}: {}", answer.text);
        cases += 1;
    }
    let query = "query ($filters: TaskFilters) { tasks(filters: $filters) { total } }";
    for filters in [
        json!({"limit": "5"}),
        json!({"limit": 5.5}),
        json!({"limit": true}),
        json!({"status": "none"}),
        json!({"status": "pending"}),
        json!({"status": 5}),
        json!({"type": 5}),
        json!({"unknown": 1}),
    ] {
        let answer = app
            .api
            .graphql_with(query, json!({ "filters": filters }))
            .await;
        answer.assert_not_executed("BAD_USER_INPUT");
        cases += 1;
    }
    for literal in ["[1]", "5", "\"\"", "WORD"] {
        let answer = app.api.graphql(&list(literal)).await;
        answer.assert_not_executed("BAD_USER_INPUT");
        cases += 1;
    }
    for filters in [json!([1]), json!("x"), json!(5)] {
        let answer = app.api.graphql_with(query, json!({ "filters": filters }));
        answer.await.assert_not_executed("BAD_USER_INPUT");
        cases += 1;
    }
    for (query, variables) in [
        ("query ($id: ID!) { task(taskId: $id) { id } }", json!({})),
        (
            "query ($id: ID!) { task(taskId: $id) { id } }",
            json!({"id": null}),
        ),
        (
            "query ($id: ID!) { task(taskId: $id) { id } }",
            json!({"id": {"a": 1}}),
        ),
        (
            "query ($id: ID!) { task(taskId: $id) { id } }",
            json!({"id": 1.5}),
        ),
        (CREATE, json!({"input": null})),
        (CREATE, json!({"input": {}})),
        (CREATE, json!({"input": {"type": null}})),
        (CREATE, json!({"input": {"type": "t", "priority": 5}})),
        (
            CREATE,
            json!({"input": {"type": "t", "priority": "URGENT"}}),
        ),
        (CREATE, json!({"input": {"type": "t", "runAt": "tomorrow"}})),
        (CREATE, json!({"input": {"type": "t", "runAt": 5}})),
        (CREATE, json!({"input": {"type": "t", "payload": "\u{0}"}})),
    ] {
        app.api
            .graphql_with(query, variables)
            .await
            .assert_not_executed("BAD_USER_INPUT");
        cases += 1;
    }
    println!("{cases} values that do not fit");
    let total = app.api.graphql("{ tasks { total } }").await.data();
    assert_eq!(total["tasks"]["total"], 0);
}

/// What has the right type and is refused by its value is an error of the field, which names what is at fault.
#[tokio::test]
async fn a_value_out_of_range_is_an_error_of_its_field() {
    let app = App::start().await;
    for (filters, field) in [
        ("{limit: 0}", "limit"),
        ("{limit: 1001}", "limit"),
        ("{limit: -5}", "limit"),
        ("{offset: -1}", "offset"),
        ("{priority: 101}", "priority"),
    ] {
        let answer = app
            .api
            .graphql(&format!("{{ tasks(filters: {filters}) {{ total }} }}"))
            .await;
        answer.assert_failed("BAD_USER_INPUT", &Value::Null);
        let error = &answer.json()["errors"][0];
        assert_eq!(error["extensions"]["field"], field, "{error}");
        assert_eq!(error["path"], json!(["tasks"]), "{error}");
        assert!(
            error["message"]
                .as_str()
                .expect("a message")
                .starts_with(field),
            "{error}"
        );
    }
    for filters in [
        "{limit: 2147483648}",
        "{offset: -2147483649}",
        "{priority: 9999999999}",
    ] {
        let answer = app
            .api
            .graphql(&format!("{{ tasks(filters: {filters}) {{ total }} }}"))
            .await;
        answer.assert_not_executed("BAD_USER_INPUT");
    }
    for (input, field) in [
        (json!({"type": " "}), "type"),
        (json!({"type": "t".repeat(201)}), "type"),
        (json!({"type": "t", "queue": ""}), "queue"),
        (json!({"type": "t", "queue": "millrace.alerts"}), "queue"),
        (json!({"type": "t", "maxAttempts": 0}), "maxAttempts"),
        (json!({"type": "t", "delaySeconds": -1}), "delaySeconds"),
        (
            json!({"type": "t", "delaySeconds": 1, "runAt": "2030-01-31T09:30:00Z"}),
            "runAt",
        ),
        (
            json!({"type": "t", "idempotencyKey": " "}),
            "idempotencyKey",
        ),
    ] {
        let answer = app
            .api
            .graphql_with(CREATE, json!({ "input": input }))
            .await;
        answer.assert_failed("BAD_USER_INPUT", &Value::Null);
        assert_eq!(
            answer.json()["errors"][0]["extensions"]["field"],
            field,
            "{}",
            answer.text
        );
    }
    for (schedule, zone) in [("nonsense", "UTC"), ("0 0 * * *", "Mars/Olympus")] {
        let input = json!({"name": "n", "type": "t", "schedule": schedule, "timeZone": zone});
        let query = "mutation ($input: CreateJobInput!) { createJob(input: $input) { id } }";
        app.api
            .graphql_with(query, json!({ "input": input }))
            .await
            .assert_failed("BAD_USER_INPUT", &Value::Null);
    }
}

#[tokio::test]
async fn a_task_is_created_as_its_input_says() {
    let app = App::start().await;
    let query = "mutation ($input: CreateTaskInput!) { createTask(input: $input) { id type queue priority maxAttempts payload } }";
    let create = async |input: Value| {
        app.api
            .graphql_with(query, json!({ "input": input }))
            .await
            .data()["createTask"]
            .clone()
    };
    let input = json!({"type": "t", "queue": "q", "priority": "CRITICAL", "maxAttempts": 2, "idempotencyKey": "k", "runAt": "2030-01-31T09:30:00+02:00", "payload": {"a": null}});
    let expected = json!({"id": "1", "type": "t", "queue": "q", "priority": 20, "maxAttempts": 2, "payload": {"a": null}});
    assert_eq!(create(input.clone()).await, expected);
    assert_eq!(
        create(input).await,
        expected,
        "the same key is the same task"
    );
    for (priority, number) in [("LOW", 1), ("NORMAL", 5), ("HIGH", 10), ("CRITICAL", 20)] {
        assert_eq!(
            create(json!({"type": "t", "priority": priority})).await["priority"],
            number
        );
    }
    assert_eq!(create(json!({"type": "t"})).await["payload"], json!({}));
    let due: String = app
        .database
        .one(
            "select (run_at at time zone 'UTC')::text from millrace.ready where job_id = 1",
            &[],
        )
        .await
        .get(0);
    assert_eq!(due, "2030-01-31 07:30:00");
    // A literal number is good for an ID, and so is one of a variable.
    for query in [
        "{ task(taskId: 1) { id } }",
        "query ($id: ID = 1) { task(taskId: \"1\") { id } other: task(taskId: $id) { id } }",
    ] {
        app.api.graphql(query).await;
    }
    let data = app
        .api
        .graphql_with(
            "query ($id: ID!) { task(taskId: $id) { id } }",
            json!({"id": 1}),
        )
        .await
        .data();
    assert_eq!(data["task"]["id"], "1");
}
