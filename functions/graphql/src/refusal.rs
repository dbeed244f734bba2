//! Why something was refused, in the form of a GraphQL error: a sentence, `extensions.code` for programs, and where the database refused it, its own
//! machine code as `extensions.reason` and the field at fault as `extensions.field`.

use async_graphql::{Error, ErrorExtensions, Pos, ServerError};
use http::StatusCode;
use millrace_kit::Problem;
use serde::Deserialize;

/// What this face says where its database is away.
const UNAVAILABLE: &str = "Worker Service is unavailable";

/// The values of `extensions.code`.
pub mod code {
    use http::StatusCode;

    pub const BAD_REQUEST: &str = "BAD_REQUEST";
    pub const BAD_USER_INPUT: &str = "BAD_USER_INPUT";
    pub const CONFLICT: &str = "CONFLICT";
    pub const FORBIDDEN: &str = "FORBIDDEN";
    pub const INTERNAL: &str = "INTERNAL_SERVER_ERROR";
    pub const NOT_EXECUTED: &str = "NOT_EXECUTED";
    pub const NOT_FOUND: &str = "NOT_FOUND";
    pub const PARSE_FAILED: &str = "GRAPHQL_PARSE_FAILED";
    pub const TOO_COMPLEX: &str = "QUERY_TOO_COMPLEX";
    pub const TOO_DEEP: &str = "QUERY_TOO_DEEP";
    pub const TOO_LARGE: &str = "QUERY_TOO_LARGE";
    pub const UNAUTHENTICATED: &str = "UNAUTHENTICATED";
    pub const UNAVAILABLE: &str = "SERVICE_UNAVAILABLE";
    pub const UNRESOLVED: &str = "OPERATION_RESOLUTION_FAILURE";
    pub const VALIDATION_FAILED: &str = "GRAPHQL_VALIDATION_FAILED";

    /// The code of a request that is none of GraphQL's.
    pub fn of_request(status: StatusCode) -> &'static str {
        match status {
            StatusCode::NOT_FOUND => NOT_FOUND,
            StatusCode::METHOD_NOT_ALLOWED => "METHOD_NOT_ALLOWED",
            StatusCode::NOT_ACCEPTABLE => "NOT_ACCEPTABLE",
            StatusCode::PAYLOAD_TOO_LARGE => "PAYLOAD_TOO_LARGE",
            StatusCode::UNSUPPORTED_MEDIA_TYPE => "UNSUPPORTED_MEDIA_TYPE",
            _ => BAD_REQUEST,
        }
    }
}

/// A refusal of one call, as `graphql_read` and [`Problem`] have it.
#[derive(Clone, Debug, Deserialize)]
pub struct Refusal {
    /// The HTTP status that REST would have answered.
    pub status: u16,
    /// The machine code.
    #[serde(rename = "code")]
    pub reason: String,
    pub message: String,
    /// The field at fault, where the reason is `invalid_request`.
    #[serde(rename = "detail")]
    pub field: Option<String>,
}

impl Refusal {
    /// For a fault of ours; what it was goes to the log.
    pub fn internal() -> Self {
        Self::of(&Problem::internal())
    }

    /// For what is not done because something before it failed.
    pub fn not_executed() -> Self {
        Self {
            status: 409,
            reason: "not_executed".to_owned(),
            message: "not executed: an earlier field failed".to_owned(),
            field: None,
        }
    }

    pub fn of(problem: &Problem) -> Self {
        Self {
            status: problem.status().as_u16(),
            reason: problem.code().to_owned(),
            message: problem.error().to_owned(),
            field: problem.details().map(str::to_owned),
        }
    }

    /// As the problem that it was made of.
    pub fn problem(&self) -> Problem {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        Problem::new(status, self.reason.as_str(), self.message.as_str())
    }

    fn code(&self) -> &'static str {
        match (self.status, self.reason.as_str()) {
            (_, "already_paused" | "not_paused" | "not_retryable" | "not_cancellable") => {
                code::CONFLICT
            }
            (_, "answer_too_large") => code::TOO_COMPLEX,
            (_, "not_executed") => code::NOT_EXECUTED,
            (401, _) => code::UNAUTHENTICATED,
            (403, _) => code::FORBIDDEN,
            (404, _) => code::NOT_FOUND,
            (409, _) => code::CONFLICT,
            (400..=499, _) => code::BAD_USER_INPUT,
            (503, _) => code::UNAVAILABLE,
            _ => code::INTERNAL,
        }
    }

    fn message(&self) -> &str {
        match self.reason.as_str() {
            "database_unavailable" => UNAVAILABLE,
            _ => &self.message,
        }
    }

    /// As the error of a field.
    pub fn into_error(self) -> Error {
        let error = Error::new(self.message());
        error.extend_with(|_, extensions| {
            extensions.set("code", self.code());
            extensions.set("reason", self.reason.as_str());
            if self.reason == "invalid_request"
                && let Some(field) = &self.field
            {
                extensions.set("field", field.as_str());
            }
        })
    }

    /// As the error of a whole request.
    pub fn into_server_error(self) -> ServerError {
        let mut error = self.into_error().into_server_error(Pos::default());
        error.locations.clear(); // it is no line of the query's that is at fault
        error
    }
}

/// An error of a whole request with a code, at `place` of the query if that is known.
pub fn error(code: &'static str, message: impl Into<String>, place: Option<Pos>) -> ServerError {
    let mut error = ServerError::new(message, place);
    error.extensions.get_or_insert_default().set("code", code);
    error
}

/// Whether an error has this code.
pub fn has_code(error: &ServerError, code: &'static str) -> bool {
    let found = error.extensions.as_ref().and_then(|it| it.get("code"));
    found == Some(&code.into())
}
