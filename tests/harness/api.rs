//! A small client of the collab face, as a user's own would be.

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};

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

    /// The body of a 200; any other status fails the test.
    pub fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
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

    /// Sends a request and reads the answer whole.
    pub async fn send(&self, request: RequestBuilder) -> Answer {
        Answer::read(request.send().await.expect("an answer")).await
    }

    /// Posts JSON with the API key.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
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
