//! The face of GraphQL, `/graphql`: asking it, and how its answers look.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::api::{Answer, Api, INSIDE};

/// Where it is.
pub const PATH: &str = "/graphql";

/// The media type of its answers.
pub const MEDIA_TYPE: &str = "application/graphql-response+json";

impl Api {
    /// A POST of an operation, with the API key, for answers of GraphQL's own media type.
    pub fn graphql_request(&self, body: &Value) -> RequestBuilder {
        let request = self
            .request(Method::POST, PATH)
            .header("accept", MEDIA_TYPE);
        request.json(body)
    }

    /// What comes of a document with these variables.
    pub async fn graphql_with(&self, query: &str, variables: Value) -> Answer {
        let body = json!({ "query": query, "variables": variables });
        self.send(self.graphql_request(&body)).await
    }

    /// What comes of a document.
    pub async fn graphql(&self, query: &str) -> Answer {
        self.graphql_with(query, json!({})).await
    }
}

impl Answer {
    /// The data of a result without errors.
    pub fn data(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.assert_graphql_form();
        let mut body = self.json();
        assert!(body.get("errors").is_none(), "{body}");
        body["data"].take()
    }

    /// The codes of a result's errors, in order; each has a sentence and shows nothing of the inside.
    pub fn error_codes(&self) -> Vec<String> {
        self.assert_graphql_form();
        let body = self.json();
        let errors = body["errors"].as_array();
        let errors = errors.unwrap_or_else(|| panic!("errors: {}", self.text));
        for inside in INSIDE {
            assert!(
                !self.text.contains(inside),
                "{inside} shows in {}",
                self.text
            );
        }
        let code = |error: &Value| {
            assert!(
                error["message"].as_str().is_some_and(|it| !it.is_empty()),
                "{error}"
            );
            let code = error["extensions"]["code"].as_str();
            code.unwrap_or_else(|| panic!("a code: {error}")).to_owned()
        };
        errors.iter().map(code).collect()
    }

    /// Fails unless nothing was executed, with this one code.
    pub fn assert_not_executed(&self, code: &str) {
        assert_eq!(self.error_codes(), [code], "{}", self.text);
        assert_eq!(self.status, 400, "{}", self.text);
        assert!(self.json().get("data").is_none(), "{}", self.text);
    }

    /// Fails unless one field failed with this code, and its data are these.
    pub fn assert_failed(&self, code: &str, data: &Value) {
        assert_eq!(self.error_codes(), [code], "{}", self.text);
        assert_eq!(self.status, 200, "{}", self.text);
        assert_eq!(self.json()["data"], *data, "{}", self.text);
    }

    /// The message of the first error.
    pub fn first_message(&self) -> String {
        let body = self.json();
        body["errors"][0]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Fails unless the request as a whole was refused in this face's form, for this reason.
    pub fn assert_graphql_refused(&self, status: u16, reason: &str) {
        let code = match status {
            401 => "UNAUTHENTICATED",
            403 => "FORBIDDEN",
            404 => "NOT_FOUND",
            405 => "METHOD_NOT_ALLOWED",
            406 => "NOT_ACCEPTABLE",
            413 => "PAYLOAD_TOO_LARGE",
            415 => "UNSUPPORTED_MEDIA_TYPE",
            503 => "SERVICE_UNAVAILABLE",
            _ => "BAD_REQUEST",
        };
        assert_eq!(self.error_codes(), [code], "{}", self.text);
        let shown = &self.json()["errors"][0]["extensions"]["reason"];
        assert_eq!(
            (self.status, shown),
            (status, &json!(reason)),
            "{}",
            self.text
        );
    }

    fn assert_graphql_form(&self) {
        let media_type = self.header("content-type");
        assert!(
            [
                "application/graphql-response+json; charset=utf-8",
                "application/json; charset=utf-8"
            ]
            .contains(&media_type),
            "{self:?}"
        );
        assert_eq!(self.header("content-length"), self.text.len().to_string());
        assert_eq!(self.header("cache-control"), "no-store", "{self:?}");
    }
}
