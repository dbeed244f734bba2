//! Walks the document and calls every operation with the document's own examples on a running application.

use millrace_tests::api::Api;
use millrace_tests::app::App;
use millrace_tests::document::ours;
use millrace_tests::local_store::LocalStore;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// The id that stands for a job's in the document's examples.
const SOME_JOB: &str = "00000000-0000-8000-8000-000000000001";

/// The file that the examples are about.
const FILE: &str = "runs/1/screen.png";

#[tokio::test]
async fn every_operation_answers_its_examples() {
    let store = LocalStore::new();
    store.put(&format!("artifacts/{FILE}"), "a picture");
    let app = store.serve(&[]).await;
    let (mut operations, mut calls) = (0, 0);
    let paths = ours().value()["paths"].as_object().expect("paths");
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("operations") {
            operations += 1;
            for body in bodies(operation) {
                call(&app, method, path, operation, body.as_ref()).await;
                calls += 1;
            }
        }
    }
    println!(
        "{operations} operations on {} paths, {calls} calls",
        paths.len()
    );
    assert!(operations >= 20, "only {operations}");
}

/// The examples of an operation's body; one call without a body where there is none.
fn bodies(operation: &Value) -> Vec<Option<Value>> {
    let body = &operation["requestBody"];
    if body.is_null() {
        return vec![None];
    }
    let examples = &body["content"]["application/json"]["examples"];
    let examples = examples.as_object().expect("examples");
    assert!(!examples.is_empty(), "{operation} has no example");
    examples
        .values()
        .map(|example| Some(example["value"].clone()))
        .collect()
}

async fn call(app: &App, method: &str, path: &str, operation: &Value, body: Option<&Value>) {
    let id = operation["operationId"].as_str().expect("an operationId");
    let url = match id {
        "getFile" => link(&app.api).await,
        _ => {
            let path = with_own_id(app, id, path).await;
            url(
                &fill_in(app, id, path_of(&path, operation)).await,
                operation,
                app,
            )
            .await
        }
    };
    let method = method.to_uppercase();
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let request = match operation["security"]
        .as_array()
        .expect("security")
        .is_empty()
    {
        true => app.api.bare(method, &url),
        false => app.api.request(method, &url),
    };
    let request = match body {
        Some(body) => with_body(app, id, request, body).await,
        None => request,
    };
    let request = with_headers(request, operation);
    let answer = app.api.send(request).await;
    let successes = operation["responses"].as_object().expect("responses");
    let status = answer.status.to_string();
    assert!(
        status.starts_with('2') && successes.contains_key(&status),
        "{id}: {status} {}",
        answer.text
    );
}

/// The path with the id of a task, or of a job, made for it and fit for the operation, in the place of `{id}`.
async fn with_own_id(app: &App, operation: &str, path: &str) -> String {
    if !path.contains("{id}") {
        return path.to_owned();
    }
    let (made, first) = match path.starts_with("/api/tasks") {
        true => (
            app.api.post("/api/tasks", &json!({ "type": "t" })).await,
            "cancel",
        ),
        false => {
            let name = uuid::Uuid::new_v4().to_string();
            let job = json!({ "name": name, "type": "t", "schedule": "0 0 * * *" });
            (app.api.post("/api/jobs", &job).await, "pause")
        }
    };
    let id = made.created()["id"].as_str().expect("an id").to_owned();
    let path = path.replace("{id}", &id);
    // What is retried was cancelled, and what is resumed paused.
    if let "retryTask" | "resumeJob" = operation {
        let (parent, _) = path.rsplit_once('/').expect("a path");
        app.api
            .post(&format!("{parent}/{first}"), &json!({}))
            .await
            .created();
    }
    path
}

/// The examples of the parameters that stand in one place, by their names.
fn examples<'a>(operation: &'a Value, place: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    parameters
        .filter(move |parameter| parameter["in"] == place)
        .filter_map(|parameter| Some((parameter["name"].as_str()?, parameter["example"].as_str()?)))
}

/// The path with the examples of its parameters.
fn path_of(path: &str, operation: &Value) -> String {
    let fill_in =
        |path: String, (name, example): (&str, &str)| path.replace(&format!("{{{name}}}"), example);
    examples(operation, "path").fold(path.to_owned(), fill_in)
}

fn with_headers(request: RequestBuilder, operation: &Value) -> RequestBuilder {
    examples(operation, "header").fold(request, |request, (name, value)| {
        request.header(name, value)
    })
}

/// A link to the file of the examples, without the server's address.
async fn link(api: &Api) -> String {
    let signed = api
        .get(&format!("/functions/v1/sign-artifact?path={FILE}"))
        .await
        .ok();
    let url = url::Url::parse(signed["url"].as_str().expect("a link")).expect("a URL");
    format!("{}?{}", url.path(), url.query().expect("a signature"))
}

/// The path with a job's id, and the query string that the examples of the parameters make.
async fn url(path: &str, operation: &Value, app: &App) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().expect("a name");
        let value = match &parameter["example"] {
            Value::Null => {
                assert_ne!(
                    (parameter["in"].as_str(), &parameter["required"]),
                    (Some("query"), &json!(true)),
                    "{name} has no example"
                );
                continue;
            }
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if parameter["in"] == "query" {
            query.append_pair(name, &with_ids(app, value).await);
        }
    }
    let query = query.finish();
    match query.is_empty() {
        true => path.to_owned(),
        false => format!("{path}?{query}"),
    }
}

/// The path with an ended job for its `{jobId}`.
async fn fill_in(app: &App, id: &str, path: String) -> String {
    let path = path.replace("{jobId}", SOME_JOB);
    assert!(
        !path.contains('{'),
        "{id} has another parameter in its path"
    );
    let path = with_ids(app, path).await;
    if id.starts_with("getPreview") {
        let job = path.split('/').nth(2).expect("a job");
        let sql = "select millrace_api.keep_preview(jsonb_build_object('channel', 'email', 'job_id', $1::text, 'html', '<p>hello'))";
        app.database.one(sql, &[&job]).await;
    }
    path
}

/// The text with the id of a job that has succeeded in the place of the examples' one.
async fn with_ids(app: &App, text: String) -> String {
    match text.contains(SOME_JOB) {
        true => text.replace(SOME_JOB, &ended_job(app, true).await),
        false => text,
    }
}

/// The request with a body in which the ids are those of jobs and dead letters made for it.
async fn with_body(app: &App, id: &str, request: RequestBuilder, body: &Value) -> RequestBuilder {
    let mut body = body.clone();
    match id {
        "reportResult" => {
            let job = leased_job(app).await;
            let text = body.to_string().replace(SOME_JOB, &job);
            body = serde_json::from_str(&text).expect("JSON");
        }
        "retryDeadLetter" => {
            let job = ended_job(app, false).await;
            if body.get("dlqId").is_some() {
                let sql = "select id from millrace.dead_letter where job_id = millrace.job_id($1::text::uuid)";
                body["dlqId"] = app.database.one(sql, &[&job]).await.get::<_, i64>(0).into();
            }
        }
        _ => {}
    }
    request.json(&body)
}

/// A running job of the examples' type and queue.
async fn leased_job(app: &App) -> String {
    let queue = "verify-demo";
    let job = app.api.assign_one(queue, "browser.run").await;
    let claim = json!({ "executorId": queue, "workerId": "worker-01", "limit": 100 });
    app.api.claim(claim).await.ok();
    job
}

/// A job that has succeeded, or else is dead.
async fn ended_job(app: &App, ok: bool) -> String {
    let job = leased_job(app).await;
    let report = json!({ "jobId": job, "type": "browser.run", "ok": ok, "permanent": true });
    app.api.result(report).await.ok();
    job
}
