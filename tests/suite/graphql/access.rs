//! Who may do what at `/graphql`: credentials are looked at before anything else, and each field asks for its own scope.

use millrace_tests::api::Answer;
use millrace_tests::app::App;
use millrace_tests::database::Database;
use millrace_tests::graphql::{MEDIA_TYPE, PATH};
use millrace_tests::keys::token;
use millrace_tests::statements::Counter;
use reqwest::Method;
use serde_json::{Value, json};

const CREATE: &str = "mutation { createTask(input: {type: \"t\"}) { id } }";

async fn key(database: &Database, scopes: &[&str]) -> String {
    let name = uuid::Uuid::new_v4().to_string();
    database
        .one("select millrace.create_api_key($1, $2)", &[&name, &scopes])
        .await
        .get(0)
}

/// What comes of a document for somebody with this key or token.
async fn ask(app: &App, credential: &str, query: &str) -> Answer {
    let request = app
        .api
        .bare(Method::POST, PATH)
        .header("accept", MEDIA_TYPE);
    app.api
        .send(
            request
                .bearer_auth(credential)
                .json(&json!({ "query": query })),
        )
        .await
}

/// A statement or none, well formed or not: without good credentials nobody learns anything.
#[tokio::test]
async fn nobody_is_let_in_without_good_credentials() {
    let app = App::start().await;
    let revoked = key(&app.database, &["read"]).await;
    app.database
        .run("select millrace.revoke_api_key(name) from millrace.api_key")
        .await;
    let unknown = format!("mr_{}", "0".repeat(64));
    let mut tried = 0;
    for query in [
        "{ __typename }",
        "{ tasks { total } }",
        "{ __schema { types { name } } }",
        "{",
        "{ nothing }",
        CREATE,
        "subscription { taskChanged(taskId: 1) { id } }",
    ] {
        for credential in [&revoked, &unknown, "mr_short", "nonsense"] {
            let answer = ask(&app, credential, query).await;
            assert_eq!(
                answer.error_codes(),
                ["UNAUTHENTICATED"],
                "{query}: {}",
                answer.text
            );
            assert_eq!(answer.status, 401, "{query}: {}", answer.text);
            assert!(
                answer.header("www-authenticate").starts_with("Bearer"),
                "{answer:?}"
            );
            tried += 1;
        }
    }
    for request in [
        app.api.bare(Method::POST, PATH).body("{"),
        app.api.bare(Method::GET, PATH),
        app.api.bare(Method::GET, "/graphql/schema.graphql"),
    ] {
        app.api
            .send(request)
            .await
            .assert_graphql_refused(401, "missing_credentials");
        tried += 1;
    }
    for query in ["{", "[]", "{\"query\": \"{\"}"] {
        let request = app
            .api
            .bare(Method::POST, PATH)
            .header("content-type", "application/json")
            .bearer_auth(&revoked)
            .body(query);
        app.api
            .send(request)
            .await
            .assert_graphql_refused(401, "invalid_api_key");
        tried += 1;
    }
    println!("{tried} requests, all 401");
    assert_eq!(
        app.api.graphql("{ tasks { total } }").await.data()["tasks"]["total"],
        0
    );
}

/// Each field of a mutation asks for its own scope; a query asks for reading.
#[tokio::test]
async fn a_field_asks_for_its_own_scope() {
    let app = App::start().await;
    app.api.graphql(CREATE).await.data();
    app.api.graphql("mutation { createJob(input: {name: \"n\", type: \"t\", schedule: \"0 0 * * *\"}) { id } }").await.data();
    let fields = [
        ("{ tasks { total } }", "read"),
        ("{ __typename }", "read"),
        ("{ __schema { queryType { name } } }", "read"),
        (CREATE, "enqueue"),
        ("mutation { cancelTask(taskId: 1) }", "operate"),
        ("mutation { retryTask(taskId: 1) { id } }", "operate"),
        ("mutation { pauseJob(jobId: 1) }", "operate"),
        ("mutation { resumeJob(jobId: 1) }", "operate"),
        (
            "mutation { createJob(input: {name: \"m\", type: \"t\", schedule: \"0 0 * * *\"}) { id } }",
            "operate",
        ),
        ("mutation { deleteJob(jobId: 2) }", "operate"),
    ];
    let mut tried = 0;
    for scope in ["read", "enqueue", "operate", "work"] {
        let key = key(&app.database, &[scope]).await;
        for (query, needed) in fields {
            let answer = ask(&app, &key, query).await;
            if scope == needed {
                answer.data();
            } else {
                assert_eq!(
                    (answer.status, answer.error_codes()),
                    (403, vec!["FORBIDDEN".to_owned()]),
                    "{scope} {query}: {}",
                    answer.text
                );
            }
            tried += 1;
        }
        // What is wrong with a query is no secret.
        ask(&app, &key, "{ nothing }")
            .await
            .assert_not_executed("GRAPHQL_VALIDATION_FAILED");
        ask(&app, &key, "{")
            .await
            .assert_not_executed("GRAPHQL_PARSE_FAILED");
    }
    // Nor does a mutation need reading to be told what is wrong with it, or to do nothing.
    for scope in ["enqueue", "operate"] {
        let credential = key(&app.database, &[scope]).await;
        let bad = "mutation { createTask(input: {type: 5}) { id } }";
        ask(&app, &credential, bad)
            .await
            .assert_not_executed("BAD_USER_INPUT");
        let nothing = ask(&app, &credential, "mutation { __typename }").await;
        assert_eq!(nothing.data(), json!({"__typename": "Mutation"}));
        tried += 2;
    }
    let reader = token("reader");
    for (query, needed) in fields.iter().filter(|(_, needed)| *needed != "read") {
        assert_eq!(
            ask(&app, &reader, query).await.error_codes(),
            ["FORBIDDEN"],
            "{needed}"
        );
        tried += 1;
    }
    ask(&app, &reader, "{ tasks { total } }").await.data();
    println!("{tried} combinations of scope and field");
}

#[tokio::test]
async fn what_is_allowed_of_a_mutation_is_done() {
    let app = App::start().await;
    let enqueuer = key(&app.database, &["enqueue"]).await;
    let answer = ask(
        &app,
        &enqueuer,
        "mutation { createTask(input: {type: \"t\"}) { id } cancelTask(taskId: 1) }",
    )
    .await;
    answer.assert_failed("FORBIDDEN", &Value::Null);
    assert_eq!(answer.json()["errors"][0]["path"], json!(["cancelTask"]));
    assert_eq!(
        app.api
            .graphql("{ task(taskId: 1) { status } }")
            .await
            .data()["task"]["status"],
        "PENDING"
    );
}

/// Where the database fails in a way that nobody thought of, its words stay where they are.
#[tokio::test]
async fn nothing_of_the_inside_shows() {
    let app = App::start().await;
    app.api.graphql(CREATE).await.data();
    app.database
        .rewrite_function(
            "millrace_api.task_get(jsonb)",
            "begin",
            "begin raise exception 'millrace.job is broken at postgres://secret';",
        )
        .await;
    let answer = app.api.graphql("{ task(taskId: 1) { id } }").await;
    answer.assert_failed("INTERNAL_SERVER_ERROR", &json!({"task": null}));
    app.database
        .rewrite_function(
            "millrace_api.task_cancel(jsonb)",
            "begin",
            "begin perform 1 / 0;",
        )
        .await;
    app.api
        .graphql("mutation { cancelTask(taskId: 1) }")
        .await
        .assert_failed("INTERNAL_SERVER_ERROR", &Value::Null);
    // An answer of another form than the schema's is a fault too.
    app.database
        .rewrite_function("millrace_api.task_list(jsonb)", "'total'", "'sum'")
        .await;
    app.api
        .graphql("{ tasks { total } }")
        .await
        .assert_failed("INTERNAL_SERVER_ERROR", &Value::Null);
}

/// Answers that no instance could hold are refused by the database.
#[tokio::test]
async fn an_answer_that_is_too_large_is_refused() {
    let app = App::start().await;
    let query = "mutation ($p: JSON) { createTask(input: {type: \"t\", payload: $p}) { id } }";
    let large = "x".repeat(900_000);
    app.api
        .graphql_with(query, json!({ "p": large }))
        .await
        .data();
    let one = (0..25)
        .map(|n| format!("t{n}: task(taskId: 1) {{ payload }} "))
        .collect::<String>();
    let answer = app.api.graphql(&format!("{{ {one} }}")).await;
    let codes = answer.error_codes();
    assert!(
        codes.iter().all(|code| code == "QUERY_TOO_COMPLEX") && (4..12).contains(&codes.len()),
        "{codes:?}"
    );
    let data = answer.json()["data"].clone();
    assert_eq!(data["t0"]["payload"].as_str().map(str::len), Some(900_000));
    assert_eq!(data["t24"], Value::Null);
}

/// Where the database is away everybody is told so, with the time to come back; what needs none is answered.
#[tokio::test]
async fn a_database_that_is_away_is_told() {
    let database = Database::fresh().await;
    let counter = Counter::start(&database.functions_url()).await;
    let nowhere = counter.url().to_owned();
    drop(counter);
    let app = App::serve(database.with_functions_url(&nowhere), &[]).await;
    for query in [
        "{ tasks { total } jobs { id } }",
        "{ task(taskId: 1) { id } }",
        CREATE,
    ] {
        let answer = app.api.graphql(query).await;
        assert_eq!(answer.error_codes(), ["SERVICE_UNAVAILABLE"]);
        assert_eq!(answer.first_message(), "Worker Service is unavailable");
        assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
        assert!(answer.json().get("data").is_none());
    }
    let following = json!({"query": "subscription { taskChanged(taskId: 1) { id } }"});
    let request = app.api.request(Method::POST, PATH).json(&following);
    let answer = app
        .api
        .send(request.header("accept", "text/event-stream"))
        .await;
    assert_eq!(
        (answer.status, answer.error_codes()),
        (503, vec!["SERVICE_UNAVAILABLE".to_owned()])
    );
    app.api.graphql("{ __typename }").await.data();
    app.api
        .graphql("{ nothing }")
        .await
        .assert_not_executed("GRAPHQL_VALIDATION_FAILED");
}
