//! The one statement of a request, a call of a function of the schema `millrace_api`, and what its
//! errors mean to a client. `database_url` says how the database is reached: over a connection of the host's
//! (`postgres://…`), or through a PostgREST (`https://…/rest/v1`). What an error means is decided here for both.

mod postgres;
mod postgrest;

use http::StatusCode;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;

use crate::answer::{Answer, Problem};
use crate::auth::Caller;
use crate::caller::StoredKey;
use crate::log;
use crate::variable;

/// The argument of a function that wants none: `{}`.
#[derive(Serialize)]
pub struct Nothing {}

/// Why a statement has no answer. Whatever but [`Failure::Raised`] has gone to the log already.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The database refused, or broke off. Its words may hold data: only those that a function of ours raised are for clients.
    Raised {
        sqlstate: String,
        message: String,
        detail: Option<String>,
        hint: Option<String>,
    },
    /// The PostgREST knows no such function: its database is of another version, or it has not read the schema anew.
    Unknown,
    /// The database cannot be reached, or did not answer.
    Unavailable,
    /// The application is set up wrongly, which no client can help.
    Misconfigured,
    /// Whatever else; it is a fault of ours.
    Internal,
}

/// Where the database is.
enum Address {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`
    Postgres(String),
    /// `https://HOST/rest/v1`, below which the functions are.
    PostgRest(String),
}

/// The argument of `millrace_api.admitted`: a call, and the stored key that it is made with.
#[derive(Serialize)]
struct Admitted<'a, R> {
    admit: &'a StoredKey,
    function: &'static str,
    request: &'a R,
}

/// Calls `millrace_api.<function>` with `request` as its one jsonb argument; its jsonb is the answer.
///
/// Exactly one statement, so that it is one transaction and one round trip, and safe behind a
/// transaction pooler. A caller who showed a stored key is checked by the same statement, first.
/// Argument and answer travel as text: Spin's host takes a jsonb parameter, and a
/// jsonb column, through floating-point numbers, which loses digits of the payloads.
///
/// # Errors
/// What the function raised as `PTnnn` becomes the status `nnn` with its own code and message; 503 if
/// the database cannot be reached or the statement had to give way; 500 for everything else.
pub async fn call(
    caller: &Caller,
    function: &'static str,
    request: &impl Serialize,
) -> Result<Answer, Problem> {
    call_text(caller, function, request).await.map(Answer::json)
}

/// As [`call`], for functions that look inside the answer: its JSON text.
///
/// # Errors
/// As [`call`].
pub async fn call_text(
    caller: &Caller,
    function: &'static str,
    request: &impl Serialize,
) -> Result<String, Problem> {
    let answer = try_call(caller, function, request).await;
    answer.map_err(|failure| failure.problem(function))
}

/// As [`call_text`], for functions to which it matters why there is no answer.
///
/// # Errors
/// What the database says; [`Failure::problem`] is what it means to a client.
pub async fn try_call(
    caller: &Caller,
    function: &'static str,
    request: &impl Serialize,
) -> Result<String, Failure> {
    let answer = match address().await? {
        Address::Postgres(url) => over_postgres(url, caller, function, request).await?,
        Address::PostgRest(url) => over_postgrest(&url, caller, function, request).await?,
    };
    answer.ok_or_else(|| {
        log::line(format_args!("{function} did not answer with one jsonb"));
        Failure::Internal
    })
}

/// Checks a caller who showed a stored key, for functions that have no statement of their own;
/// everybody else has been admitted already, which costs nothing here.
///
/// # Errors
/// 401 or 403 if the key is not good for this; else as [`call`].
pub async fn admit(caller: &Caller) -> Result<(), Problem> {
    match caller.stored_key() {
        Some(key) => call_text(&Caller::anyone(), "admit", key).await.map(drop),
        None => Ok(()),
    }
}

async fn over_postgres(
    url: String,
    caller: &Caller,
    function: &str,
    request: &impl Serialize,
) -> Result<Option<String>, Failure> {
    let admission = caller.admission();
    let statement = match admission {
        None => format!("select millrace_api.{function}($1::text::jsonb)::text"),
        // The scan of `admit` comes before what is selected from it.
        Some(_) => format!(
            "select millrace_api.{function}($1::text::jsonb)::text from millrace_api.admit($2::text::jsonb)"
        ),
    };
    let parameters = [Some(json(request)?), admission];
    let parameters = parameters.into_iter().flatten().collect();
    postgres::one_text(url, function, statement, parameters).await
}

/// PostgREST runs one function per request, so one of ours checks a stored key and calls the other.
async fn over_postgrest(
    url: &str,
    caller: &Caller,
    function: &'static str,
    request: &impl Serialize,
) -> Result<Option<String>, Failure> {
    let Some(admit) = caller.stored_key() else {
        return postgrest::call(url, function, json(request)?).await;
    };
    let admitted = Admitted {
        admit,
        function,
        request,
    };
    postgrest::call(url, "admitted", json(&admitted)?).await
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|_| Failure::Internal)
}

/// Runs a statement that answers one row of one text, or of null, which is `None`. Its parameters are
/// texts as well (`$1::text::jsonb`). Nobody is checked here: a statement for a caller who showed a stored key begins
/// with asking `millrace_api.admit` what [`Caller::admission`] gives. `label` says in the log what was run.
///
/// # Errors
/// Whatever the database says. [`Failure::problem`] is what it means to a client of the collab face.
/// [`Failure::Misconfigured`] where the database is reached through a PostgREST, which runs no statements.
pub async fn query_text(
    label: &str,
    statement: &str,
    parameters: Vec<String>,
) -> Result<Option<String>, Failure> {
    match address().await? {
        Address::Postgres(url) => {
            postgres::one_text(url, label, statement.to_owned(), parameters).await
        }
        Address::PostgRest(_) => {
            log::line(format_args!(
                "{label}: database_url is a PostgREST already; this needs a postgres:// URL"
            ));
            Err(Failure::Misconfigured)
        }
    }
}

async fn address() -> Result<Address, Failure> {
    let url = variable::get("database_url").await;
    let url = url.map_err(|_| Failure::Misconfigured)?;
    match url.split_once("://") {
        Some(("postgres" | "postgresql", _)) => Ok(Address::Postgres(url)),
        Some(("https" | "http", _)) => Ok(Address::PostgRest(url)),
        _ => {
            log::line(format_args!(
                "database_url is neither a postgres:// nor an https:// URL"
            ));
            Err(Failure::Misconfigured)
        }
    }
}

impl Failure {
    /// What the failure means to a client: only what the API functions raise themselves is passed on.
    pub fn problem(self, label: &str) -> Problem {
        match self {
            Self::Raised {
                sqlstate,
                message,
                detail,
                hint,
            } => match sqlstate.strip_prefix("PT") {
                Some(status) => refused(label, status, hint, message, detail),
                None => broken_off(label, &sqlstate, &message),
            },
            Self::Unavailable => unavailable(),
            Self::Unknown | Self::Misconfigured => variable::misconfigured(),
            Self::Internal => Problem::internal(),
        }
    }
}

/// What an API function raised: SQLSTATE `PTnnn`, HINT the code, MESSAGE the sentence, DETAIL more.
fn refused(
    label: &str,
    status: &str,
    code: Option<String>,
    message: String,
    detail: Option<String>,
) -> Problem {
    let known = status
        .parse::<u16>()
        .ok()
        .filter(|status| (400..600).contains(status))
        .and_then(|status| StatusCode::from_u16(status).ok());
    let (Some(status), Some(code)) = (known, code) else {
        log::line(format_args!(
            "{label}: raised PT{status} without a status or a code"
        ));
        return Problem::internal();
    };
    let problem = Problem::new(status, code, message).with_details(detail);
    match status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => {
            problem.with_header(RETRY_AFTER, "1")
        }
        // A stored key that is not good (RFC 6750 section 3).
        StatusCode::UNAUTHORIZED => {
            problem.with_header(WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")
        }
        _ => problem,
    }
}

/// Translates a SQLSTATE of the server's own (PostgreSQL's appendix A).
fn broken_off(label: &str, sqlstate: &str, message: &str) -> Problem {
    match sqlstate {
        // 25006: a standby that still answers where the primary was.
        "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "25006" => unavailable(),
        code if code.starts_with("08") => unavailable(),
        // 57014: the login role's statement_timeout.
        "40001" | "40P01" | "55P03" | "57014" => {
            Problem::unavailable("try_again", "the statement had to give way to another one")
        }
        // The messages of classes 22 and 23 quote values, so not even the log gets those.
        code if code.starts_with("22") || code.starts_with("23") => {
            log::line(format_args!("{label}: SQLSTATE {code}"));
            Problem::internal()
        }
        code => {
            log::line(format_args!("{label}: SQLSTATE {code}: {message}"));
            Problem::internal()
        }
    }
}

fn unavailable() -> Problem {
    Problem::unavailable("database_unavailable", "the database cannot be reached")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(sqlstate: &str, hint: Option<&str>) -> Problem {
        let failure = Failure::Raised {
            sqlstate: sqlstate.to_owned(),
            message: "the message".to_owned(),
            detail: Some("the detail".to_owned()),
            hint: hint.map(str::to_owned),
        };
        failure.problem("f")
    }

    #[test]
    fn what_the_api_raises_is_passed_on() {
        let problem = failed("PT409", Some("not_lease_owner"));
        assert_eq!(problem.status(), StatusCode::CONFLICT);
        assert_eq!(problem.code(), "not_lease_owner");
        assert_eq!(problem.error(), "the message");
        assert_eq!(problem.details(), Some("the detail"));
    }

    #[test]
    fn nothing_else_shows_what_is_inside() {
        for code in [
            "22P02", "23505", "42501", "42883", "P0001", "XX000", "PT999", "PT200", "PTx",
        ] {
            let problem = failed(code, Some("hint"));
            assert_eq!(problem.code(), "internal_error", "{code}");
            assert_eq!(problem.details(), None);
            assert!(!problem.error().contains("message"));
        }
        assert_eq!(failed("PT400", None).code(), "internal_error");
    }

    #[test]
    fn a_database_that_is_gone_or_busy_is_worth_another_try() {
        for code in [
            "08006", "25006", "57P01", "57P02", "57P03", "57P05", "53300",
        ] {
            assert_eq!(failed(code, None).code(), "database_unavailable", "{code}");
        }
        for code in ["40001", "40P01", "55P03", "57014"] {
            assert_eq!(failed(code, None).code(), "try_again", "{code}");
        }
        let problem = Failure::Unavailable.problem("f");
        assert_eq!(problem.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
