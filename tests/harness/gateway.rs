//! The face of tasks and jobs, `/api/tasks` and `/api/jobs`: how its answers look.

use serde_json::Value;

use crate::api::{Answer, INSIDE};

impl Answer {
    /// The body of a 201 in the form that every answer has; any other status fails the test.
    pub fn created(self) -> Value {
        assert_eq!(self.status, 201, "{}", self.text);
        self.assert_form();
        self.json()
    }

    /// The message of a refusal with `status` in this face's form, which shows nothing of the inside; anything else fails the test.
    pub fn gateway_refusal(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{}", self.text);
        self.assert_form();
        let body = self.json();
        let fields: Vec<&String> = body.as_object().expect("an object").keys().collect();
        assert_eq!(fields, ["error", "message", "statusCode"], "{body}");
        assert_eq!(body["statusCode"], status, "{body}");
        let name = reqwest::StatusCode::from_u16(status).expect("a status");
        assert_eq!(body["error"], name.canonical_reason().expect("a name"));
        for inside in INSIDE {
            assert!(
                !self.text.contains(inside),
                "{inside} shows in {}",
                self.text
            );
        }
        let message = body["message"].as_str().expect("a message");
        assert!(!message.is_empty(), "{body}");
        message.to_owned()
    }

    /// Fails unless this is such a 400 whose message names `field` and a reason.
    pub fn assert_gateway_invalid(&self, field: &str) {
        let message = self.gateway_refusal(400);
        assert!(
            message
                .strip_prefix(field)
                .is_some_and(|rest| rest.starts_with(": ") && rest.len() > 5),
            "{field} is not named: {message}"
        );
    }

    /// Fails unless this refuses with `status`, and with `code` if its face has codes: this one has none. Which face's form it must
    /// have, the OpenAPI document says, against which every answer is held.
    pub fn assert_refused_by_any_face(&self, status: u16, code: &str) {
        let body = self.json();
        match (body.get("statusCode"), body.get("errors")) {
            (Some(_), _) => drop(self.gateway_refusal(status)),
            (None, Some(_)) => self.assert_graphql_refused(status, code),
            (None, None) => self.assert_refused(status, code),
        }
    }
}
