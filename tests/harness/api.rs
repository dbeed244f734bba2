//! A small client of the collab face, as a user's own would be.

use reqwest::{Client, Method, Request, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::document::{Exchange, assert_documented};

/// What no answer may show: names and words of the inside.
pub(crate) const INSIDE: [&str; 10] = [
    "millrace.",
    "millrace_",
    "select ",
    "SQLSTATE",
    "postgres://",
    "wasm",
    "panicked",
    ".rs",
    "::",
    "jsonb_",
];

/// A base URL and the API key that goes with each request.
#[derive(Clone)]
pub struct Api {
    client: Client,
    base: String,
    key: String,
}

/// An answer: status, headers and body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    async fn read(response: Response) -> Self {
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self {
            status,
            headers,
            text: response.text().await.expect("a body"),
        }
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|e| panic!("{} {:?} is not JSON: {e}", self.status, self.text))
    }

    /// The `code` of an error body.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The body of a 200 in the form that every answer has; any other status fails the test.
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.assert_form();
        self.json()
    }

    /// The value of a header, empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Fails unless this is what every function's answer is: JSON of a known length that no cache may keep.
    pub fn assert_form(&self) {
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        assert_eq!(
            self.header("content-length"),
            self.text.len().to_string(),
            "{self:?}"
        );
        assert_eq!(self.header("cache-control"), "no-store", "{self:?}");
    }

    /// Fails unless this refuses with `status` and `code` in the documented form, which shows nothing of the inside.
    pub fn assert_refused(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.code().as_str()),
            (status, code),
            "{}",
            self.text
        );
        self.assert_form();
        let body = self.json();
        assert!(
            body["error"]
                .as_str()
                .is_some_and(|error| !error.is_empty()),
            "{body}"
        );
        for field in body.as_object().expect("an object").keys() {
            assert!(
                ["error", "code", "details", "hint"].contains(&field.as_str()),
                "{body}"
            );
        }
        for inside in INSIDE {
            assert!(
                !self.text.contains(inside),
                "{inside} shows in {}",
                self.text
            );
        }
    }

    /// Fails unless this is a 400 that names `field`: alone in `details`, and with a reason in `error`.
    pub fn assert_invalid(&self, field: &str) {
        self.assert_refused(400, "invalid_request");
        let body = self.json();
        assert_eq!(body["details"], field, "{body}");
        let error = body["error"].as_str().unwrap_or_default();
        assert!(
            error
                .strip_prefix(field)
                .is_some_and(|rest| rest.starts_with(": ") && rest.len() > 5),
            "{body}"
        );
    }
}

/// What is held against the OpenAPI document of a request that is on its way.
struct Sent {
    method: String,
    path: String,
    query: Option<String>,
    json: Option<Vec<u8>>,
}

impl Sent {
    fn of(request: &Request) -> Self {
        let is_json = request
            .headers()
            .get("content-type")
            .is_some_and(|media_type| media_type.as_bytes().starts_with(b"application/json"));
        let body = request.body().and_then(|body| body.as_bytes());
        Self {
            method: request.method().to_string(),
            path: request.url().path().to_owned(),
            query: request.url().query().map(str::to_owned),
            json: body.filter(|_| is_json).map(<[u8]>::to_vec),
        }
    }

    fn assert_documented(&self, answer: &Answer) {
        let content_type = answer.header("content-type").split(';').next();
        assert_documented(&Exchange {
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            request: self.json.as_deref(),
            status: answer.status,
            content_type: content_type.unwrap_or_default().trim(),
            answer: &answer.text,
        });
    }
}

impl Api {
    pub fn new(base: &str, key: &str) -> Self {
        Self {
            client: Client::new(),
            base: base.trim_end_matches('/').to_owned(),
            key: key.to_owned(),
        }
    }

    /// A request without any credentials.
    pub fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    /// A request with the API key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).header("x-api-key", &self.key)
    }

    /// Sends a request and reads the answer whole, which must be one that the OpenAPI document describes.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        let (client, request) = request.build_split();
        let request = request.expect("a request");
        let sent = Sent::of(&request);
        let answer = Answer::read(client.execute(request).await.expect("an answer")).await;
        sent.assert_documented(&answer);
        answer
    }

    /// Posts JSON with the API key.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Posts a text, which need not be JSON, as JSON with the API key.
    pub async fn post_text(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        let request = self
            .request(Method::POST, path)
            .header("content-type", "application/json");
        self.send(request.body(body)).await
    }

    /// Gets with the API key.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    /// `task.assign`
    pub async fn assign(&self, body: Value) -> Answer {
        self.post("/api/collab/task.assign", &body).await
    }

    /// `task.claim`
    pub async fn claim(&self, body: Value) -> Answer {
        self.post("/api/collab/task.claim", &body).await
    }

    /// `task.result`
    pub async fn result(&self, body: Value) -> Answer {
        self.post("/api/collab/task.result", &body).await
    }

    /// Assigns a job of `kind` to `queue` and returns its id.
    pub async fn assign_one(&self, queue: &str, kind: &str) -> String {
        let answer = self
            .assign(json!({ "type": kind, "executorId": queue, "payload": {} }))
            .await
            .ok();
        answer["jobId"].as_str().expect("a job id").to_owned()
    }

    /// Claims one job of `queue` as `worker`; `None` when there is none.
    pub async fn claim_one(&self, queue: &str, worker: &str) -> Option<Value> {
        let answer = self
            .claim(json!({ "executorId": queue, "workerId": worker }))
            .await
            .ok();
        (!answer["job"].is_null()).then(|| answer["job"].clone())
    }
}
