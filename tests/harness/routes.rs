//! Every route that asks who is there, in one table, so that what holds for all of them is tested at all of them.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::api::{Answer, Api};
use crate::app::App;

/// A version 4 UUID, which none of our jobs has.
const NO_JOB: &str = "00000000-0000-4000-8000-000000000000";

/// A method of a path, with a request that is well formed.
pub struct Route {
    pub method: Method,
    /// Such as the document names it, `{jobId}`, `{id}` and the like in their places.
    pub path: &'static str,
    /// What its caller must be allowed to do.
    pub scope: &'static str,
    query: &'static str,
    /// `Null` for none.
    body: Value,
    /// What an application as [`App::start`] serves it, without any job, answers a caller who is let in: the status, and a refusal's code
    /// if its face has codes.
    pub answer: (u16, &'static str),
}

/// All of them.
pub fn all() -> Vec<Route> {
    let get = |path, scope| Route {
        method: Method::GET,
        path,
        scope,
        query: "",
        body: Value::Null,
        answer: (200, ""),
    };
    let post = |path, scope, body| Route {
        method: Method::POST,
        body,
        ..get(path, scope)
    };
    let unknown_job = |path| Route {
        answer: (404, "job_not_found"),
        ..get(path, "read")
    };
    let unknown_preview = |path| Route {
        answer: (404, "preview_not_found"),
        ..get(path, "read")
    };
    let unknown = |method, path, scope| Route {
        method,
        answer: (404, ""),
        ..get(path, scope)
    };
    vec![
        post(
            "/api/collab/task.assign",
            "enqueue",
            json!({"type": "t", "executorId": "e"}),
        ),
        post(
            "/api/collab/task.claim",
            "work",
            json!({"executorId": "nobody's", "workerId": "w"}),
        ),
        post(
            "/api/collab/task.result",
            "work",
            json!({"results": [{"jobId": NO_JOB, "type": "t", "ok": true}]}),
        ),
        post(
            "/api/collab/workers/heartbeat",
            "work",
            json!({"agentId": "a", "executorId": "e", "status": "idle"}),
        ),
        get("/api/collab/workers/active", "read"),
        get("/api/collab/jobs/recent", "read"),
        unknown_job("/api/collab/job/{jobId}"),
        unknown_job("/api/collab/job/{jobId}/summary"),
        unknown_job("/api/collab/events/by-job/{jobId}"),
        unknown_job("/api/collab/artifacts/by-job/{jobId}"),
        Route {
            query: "?jobId=00000000-0000-4000-8000-000000000000",
            ..unknown_job("/api/collab/events/stream")
        },
        get("/api/collab/metrics/overview", "read"),
        get("/metrics", "metrics"),
        get("/channels/email", "read"),
        get("/channels/sms", "read"),
        get("/channels/webhook", "read"),
        get("/channels/calendar", "read"),
        post("/channels/email", "tick", Value::Null),
        post("/channels/sms", "tick", Value::Null),
        post("/channels/webhook", "tick", Value::Null),
        post("/channels/calendar", "tick", Value::Null),
        get("/preview", "read"),
        unknown_preview("/preview/{jobId}"),
        unknown_preview("/preview/{jobId}/html"),
        get("/functions/v1/dlq-list", "read"),
        Route {
            answer: (404, "dead_letter_not_found"),
            ..post("/functions/v1/dlq-retry", "operate", json!({"dlqId": 999}))
        },
        post("/functions/v1/cron-enqueue", "tick", Value::Null),
        Route {
            query: "?path=a",
            answer: (503, "signing_not_configured"),
            ..get("/functions/v1/sign-artifact", "read")
        },
        Route {
            query: "?query=%7Bjobs%7Bid%7D%7D",
            ..get("/graphql", "read")
        },
        post("/graphql", "read", json!({"query": "{tasks{total}}"})),
        get("/graphql/schema.graphql", "read"),
        get("/api/tasks", "read"),
        Route {
            answer: (201, ""),
            ..post("/api/tasks", "enqueue", json!({"type": "t"}))
        },
        get("/api/tasks/stats/summary", "read"),
        unknown(Method::GET, "/api/tasks/{id}", "read"),
        unknown(Method::GET, "/api/tasks/{id}/logs", "read"),
        unknown(Method::POST, "/api/tasks/{id}/retry", "operate"),
        unknown(Method::POST, "/api/tasks/{id}/cancel", "operate"),
        get("/api/jobs", "read"),
        // No hour has a 61st minute: a name can be given once, but this can be refused any number of times.
        Route {
            answer: (400, ""),
            ..post(
                "/api/jobs",
                "operate",
                json!({"name": "n", "type": "t", "schedule": "61 * * * *"}),
            )
        },
        unknown(Method::GET, "/api/jobs/{id}", "read"),
        unknown(Method::DELETE, "/api/jobs/{id}", "operate"),
        unknown(Method::POST, "/api/jobs/{id}/pause", "operate"),
        unknown(Method::POST, "/api/jobs/{id}/resume", "operate"),
    ]
}

impl Route {
    /// Its path and query string.
    pub fn target(&self) -> String {
        let path = self.path.replace("{jobId}", NO_JOB).replace("{id}", "0");
        format!("{path}{}", self.query)
    }

    /// A well-formed request without credentials.
    pub fn request(&self, api: &Api) -> RequestBuilder {
        let request = api.bare(self.method.clone(), &self.target());
        match &self.body {
            Value::Null => request,
            body => request.json(body),
        }
    }

    /// Fails unless `answer` is what a caller gets who is let in.
    pub fn assert_let_in(&self, answer: &Answer, who: &str) {
        let code = match answer.status {
            200..=299 => String::new(),
            _ => answer.code(),
        };
        assert_eq!(
            (answer.status, code.as_str()),
            self.answer,
            "{who} at {}: {}",
            self.path,
            answer.text
        );
    }
}

/// Fails unless the routes of a path refuse other methods, and bodies that are none of theirs: of another media type, too
/// large, not JSON, no object. Returns how many refusals that were.
pub async fn assert_forms_refused(app: &App, path: &str) -> usize {
    let routes: Vec<Route> = all()
        .into_iter()
        .filter(|route| route.path == path)
        .collect();
    assert!(!routes.is_empty(), "{path} is not in the table of routes");
    let allowed: Vec<&str> = routes.iter().map(|route| route.method.as_str()).collect();
    let allowed = allowed.join(", ");
    let mut refusals = 0;
    for method in [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
    ] {
        if routes.iter().all(|route| route.method != method) {
            let request = app.api.request(method.clone(), &routes[0].target());
            let answer = app.api.send(request).await;
            answer.assert_refused_by_any_face(405, "method_not_allowed");
            assert_eq!(answer.header("allow"), allowed, "{method} {path}");
            refusals += 1;
        }
    }
    for route in routes.iter().filter(|route| !route.body.is_null()) {
        let body = route.body.to_string();
        let large = " ".repeat((1 << 20) + 1);
        for (media_type, encoding, body, status, code) in [
            (
                "text/plain",
                "identity",
                body.as_str(),
                415,
                "unsupported_media_type",
            ),
            ("", "identity", &body, 415, "unsupported_media_type"),
            (
                "application/json",
                "gzip",
                &body,
                415,
                "unsupported_media_type",
            ),
            ("application/json", "identity", "{", 400, "invalid_json"),
            ("application/json", "identity", "", 400, "invalid_json"),
            ("application/json", "identity", "[]", 400, "invalid_request"),
            (
                "application/json",
                "identity",
                &large,
                413,
                "body_too_large",
            ),
        ] {
            let request = app
                .api
                .request(route.method.clone(), &route.target())
                .header("content-encoding", encoding)
                .body(body.to_owned());
            let request = match media_type {
                "" => request,
                media_type => request.header("content-type", media_type),
            };
            let answer = app.api.send(request).await;
            answer.assert_refused_by_any_face(status, code);
            refusals += 1;
        }
    }
    refusals
}
