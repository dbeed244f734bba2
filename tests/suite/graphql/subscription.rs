//! The subscription `taskChanged` over server-sent events, as the GraphQL-SSE protocol has them.

use futures::StreamExt;
use millrace_tests::api::Api;
use millrace_tests::app::App;
use millrace_tests::deadline::PATIENCE;
use millrace_tests::graphql::PATH;
use millrace_tests::queue::{self, Outcome, claim_one};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};
use sse_stream::{Sse, SseStream};

use super::create;

/// What is said on a stream: its events with their data, and signs of life that carry neither.
struct Listener(SseStream<reqwest::Body>);

impl Listener {
    async fn open(request: RequestBuilder) -> Self {
        let response = request
            .header("accept", "text/event-stream")
            .send()
            .await
            .expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self(SseStream::new(reqwest::Body::from(response)))
    }

    /// Follows a task: its status and its attempts.
    async fn follow(api: &Api, id: &str) -> Self {
        let query = format!(
            "subscription {{ ... on Subscription {{ taskChanged(taskId: {id}) {{ status }} taskChanged(taskId: {id}) {{ attempts }} }} }}"
        );
        Self::open(
            api.request(Method::POST, PATH)
                .json(&json!({ "query": query })),
        )
        .await
    }

    async fn said(&mut self) -> Option<Sse> {
        let said = tokio::time::timeout(PATIENCE, self.0.next()).await;
        said.expect("something is said, or the stream ends")
            .map(|said| said.expect("a well-formed stream"))
    }

    /// The next event and its data; none where the stream has ended.
    async fn event(&mut self) -> Option<(String, Value)> {
        loop {
            let said = self.said().await?;
            if let Some(event) = said.event {
                let data = said.data.unwrap_or_default();
                return Some((event, serde_json::from_str(&data).unwrap_or_default()));
            }
        }
    }

    /// The next result, of which this is the task.
    async fn task(&mut self) -> Value {
        let (event, data) = self.event().await.expect("an event");
        assert_eq!(event, "next", "{data}");
        data["data"]["taskChanged"].clone()
    }

    async fn assert_complete(mut self) {
        assert_eq!(
            self.event().await,
            Some(("complete".to_owned(), Value::Null))
        );
        assert_eq!(self.event().await, None);
    }
}

fn stands(status: &str, attempts: u32) -> Value {
    json!({ "status": status, "attempts": attempts })
}

#[tokio::test]
async fn a_task_is_followed_to_its_end_by_two() {
    let app = App::start().await;
    let client = app.database.client();
    let id = create(&app, "t").await;
    let (mut one, mut other) = (
        Listener::follow(&app.api, &id).await,
        Listener::follow(&app.api, &id).await,
    );
    assert_eq!(one.task().await, stands("PENDING", 0));
    assert_eq!(other.task().await, stands("PENDING", 0));

    let lease = claim_one(client, "tasks", "w").await;
    assert_eq!(one.task().await, stands("PROCESSING", 1));
    queue::report(client, &lease, Outcome::RetryAfter(0.0))
        .await
        .expect("a report");
    assert_eq!(one.task().await, stands("RETRYING", 1));
    // Who comes later begins with what is.
    let mut late = Listener::follow(&app.api, &id).await;
    assert_eq!(late.task().await, stands("RETRYING", 1));

    let lease = claim_one(client, "tasks", "w").await;
    assert_eq!(one.task().await, stands("PROCESSING", 2));
    queue::report(client, &lease, Outcome::Succeeded)
        .await
        .expect("a report");
    for mut listener in [one, other, late] {
        loop {
            let task = listener.task().await;
            if task == stands("COMPLETED", 2) {
                break;
            }
        }
        listener.assert_complete().await;
    }
    let mut after = Listener::follow(&app.api, &id).await;
    assert_eq!(after.task().await, stands("COMPLETED", 2));
    after.assert_complete().await;
}

#[tokio::test]
async fn cancelling_and_failing_end_it_too() {
    let app = App::start().await;
    for (mutation, status) in [("cancelTask", "CANCELLED"), ("", "FAILED")] {
        let id = create(&app, "t").await;
        let mut listener = Listener::follow(&app.api, &id).await;
        assert_eq!(listener.task().await, stands("PENDING", 0));
        if mutation.is_empty() {
            let lease = claim_one(app.database.client(), "tasks", "w").await;
            assert_eq!(listener.task().await, stands("PROCESSING", 1));
            queue::report(app.database.client(), &lease, Outcome::Permanent)
                .await
                .expect("a report");
        } else {
            app.api
                .graphql(&format!("mutation {{ {mutation}(taskId: {id}) }}"))
                .await
                .data();
        }
        assert_eq!(listener.task().await["status"], status);
        listener.assert_complete().await;
    }
}

/// A stream ends by its time without `complete`, says meanwhile that it lives, and who comes back is told what happened between.
#[tokio::test]
async fn who_comes_back_misses_nothing() {
    let app = App::start_with(&[("stream_seconds", "2"), ("stream_heartbeat_seconds", "1")]).await;
    let id = create(&app, "t").await;
    let mut listener = Listener::follow(&app.api, &id).await;
    assert_eq!(listener.task().await, stands("PENDING", 0));
    assert_eq!(listener.event().await, None, "no complete");
    claim_one(app.database.client(), "tasks", "w").await;
    let mut again = Listener::follow(&app.api, &id).await;
    assert_eq!(again.task().await, stands("PROCESSING", 1));

    let query =
        json!({"query": format!("subscription {{ taskChanged(taskId: {id}) {{ status }} }}")});
    let request = app
        .api
        .request(Method::POST, PATH)
        .header("accept", "text/event-stream")
        .json(&query);
    let text = request
        .send()
        .await
        .expect("an answer")
        .text()
        .await
        .expect("a body");
    assert!(
        text.ends_with("\n\n:\n\n") && text.starts_with("event: next\ndata: {"),
        "{text}"
    );
}

async fn refused(request: RequestBuilder) -> (u16, Value) {
    let response: Response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    (status, response.json().await.expect("JSON"))
}

#[tokio::test]
async fn what_cannot_be_followed_is_told() {
    let app = App::start().await;
    let post = |query: &str| {
        app.api
            .request(Method::POST, PATH)
            .json(&json!({ "query": query }))
    };
    // As a result, where there is an operation.
    for (query, code) in [
        (
            "subscription { taskChanged(taskId: 7) { id } }",
            "NOT_FOUND",
        ),
        (
            "subscription { taskChanged(taskId: \"x\") { id } }",
            "NOT_FOUND",
        ),
        (
            "subscription { ...f } fragment f on Subscription { ... on Subscription { taskChanged(taskId: 7) { id } } taskChanged(taskId: 7) { id } }",
            "NOT_FOUND",
        ),
        (
            "subscription { taskChanged(taskId: 7) @skip(if: true) { id } }",
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (
            "subscription { taskChanged(taskId: 2.5) { id } }",
            "BAD_USER_INPUT",
        ),
        ("subscription { nothing }", "GRAPHQL_VALIDATION_FAILED"),
        (
            "subscription { taskChanged { id } }",
            "GRAPHQL_VALIDATION_FAILED",
        ),
        (
            "subscription { a: taskChanged(taskId: 1) { id } b: taskChanged(taskId: 1) { id } }",
            "GRAPHQL_VALIDATION_FAILED",
        ),
        ("subscription { __typename }", "GRAPHQL_VALIDATION_FAILED"),
        (
            "subscription ($id: ID!) { taskChanged(taskId: $id) { id } }",
            "BAD_USER_INPUT",
        ),
    ] {
        let mut listener = Listener::open(post(query)).await;
        let (event, data) = listener.event().await.expect("an event");
        assert_eq!(
            (event.as_str(), &data["errors"][0]["extensions"]["code"]),
            ("next", &json!(code)),
            "{query}: {data}"
        );
        listener.assert_complete().await;
    }
    // As an ordinary answer, where there is none, or nobody who may ask.
    let events = |request: RequestBuilder| request.header("accept", "text/event-stream");
    for (request, status, code) in [
        (events(post("subscription {")), 400, "GRAPHQL_PARSE_FAILED"),
        (
            events(post("query A { __typename } query B { __typename }")),
            400,
            "OPERATION_RESOLUTION_FAILURE",
        ),
        (
            post("subscription { taskChanged(taskId: 1) { id } }"),
            406,
            "NOT_ACCEPTABLE",
        ),
        (
            events(app.api.request(Method::PUT, PATH)),
            405,
            "METHOD_NOT_ALLOWED",
        ),
        (
            events(app.api.request(Method::DELETE, PATH)),
            405,
            "METHOD_NOT_ALLOWED",
        ),
        (
            events(
                app.api
                    .bare(Method::GET, &format!("{PATH}?query=%7B__typename%7D")),
            ),
            401,
            "UNAUTHENTICATED",
        ),
        (
            events(
                app.api
                    .bare(Method::POST, PATH)
                    .bearer_auth(format!("mr_{}", "0".repeat(64)))
                    .json(&json!({"query": "subscription { taskChanged(taskId: 1) { id } }"})),
            ),
            401,
            "UNAUTHENTICATED",
        ),
        (
            events(
                app.api
                    .bare(Method::POST, PATH)
                    .bearer_auth(format!("mr_{}", "0".repeat(64)))
                    .json(&json!({"query": "subscription { nothing }"})),
            ),
            401,
            "UNAUTHENTICATED",
        ),
    ] {
        let (shown, body) = refused(request).await;
        assert_eq!(
            (shown, &body["errors"][0]["extensions"]["code"]),
            (status, &json!(code)),
            "{body}"
        );
    }
}

/// A key that is revoked ends what it was good for.
#[tokio::test]
async fn a_revoked_key_follows_no_longer() {
    let app = App::start().await;
    let id = create(&app, "t").await;
    let key: String = app
        .database
        .one("select millrace.create_api_key('k', array['read'])", &[])
        .await
        .get(0);
    let query =
        json!({"query": format!("subscription {{ taskChanged(taskId: {id}) {{ status }} }}")});
    let mut listener = Listener::open(
        app.api
            .bare(Method::POST, PATH)
            .bearer_auth(&key)
            .json(&query),
    )
    .await;
    assert_eq!(listener.task().await["status"], "PENDING");
    app.database
        .run("select millrace.revoke_api_key('k')")
        .await;
    assert_eq!(listener.event().await, None);
}

#[tokio::test]
async fn queries_and_mutations_are_told_as_events_too() {
    let app = App::start().await;
    let get = app
        .api
        .request(Method::GET, &format!("{PATH}?query=%7Btasks%7Btotal%7D%7D"));
    let mutation = json!({"query": "mutation { createTask(input: {type: \"t\"}) { id } }"});
    let post = app.api.request(Method::POST, PATH).json(&mutation);
    for (request, data) in [
        (get, json!({"tasks": {"total": 0}})),
        (post, json!({"createTask": {"id": "1"}})),
    ] {
        let mut listener = Listener::open(request).await;
        assert_eq!(
            listener.event().await,
            Some(("next".to_owned(), json!({ "data": data })))
        );
        listener.assert_complete().await;
    }
    let answer = app
        .api
        .graphql("subscription { taskChanged(taskId: 1) { id } }")
        .await;
    answer.assert_graphql_refused(406, "not_acceptable");
}
