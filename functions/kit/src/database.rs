//! The one statement of a request, a call of a function of the schema `millrace_api`, and what its
//! errors mean to a client.

use http::StatusCode;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use serde::Serialize;
use spin_sdk::pg::{Connection, DbError, DbValue, Error, ParameterValue, PgError, QueryError};

use crate::answer::{Answer, Problem};
use crate::auth::Caller;
use crate::log;
use crate::variable;

/// The argument of a function that wants none: `{}`.
#[derive(Serialize)]
pub struct Nothing {}

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
    let request = serde_json::to_string(request).map_err(|_| Problem::internal())?;
    let statement = match caller.stored_key() {
        None => format!("select millrace_api.{function}($1::text::jsonb)::text"),
        // The scan of `admit` comes before what is selected from it.
        Some(_) => format!(
            "select millrace_api.{function}($1::text::jsonb)::text from millrace_api.admit($2::text::jsonb)"
        ),
    };
    let arguments = [Some(request), caller.stored_key()];
    run(function, statement, arguments.into_iter().flatten()).await
}

/// Checks a caller who showed a stored key, for functions that have no statement of their own;
/// everybody else has been admitted already, which costs nothing here.
///
/// # Errors
/// 401 or 403 if the key is not good for this; else as [`call`].
pub async fn admit(caller: &Caller) -> Result<(), Problem> {
    let Some(key) = caller.stored_key() else {
        return Ok(());
    };
    let statement = "select millrace_api.admit($1::text::jsonb)::text".to_owned();
    run("admit", statement, [key]).await.map(drop)
}

/// Runs the statement of `function` and gives its one text.
async fn run(
    function: &str,
    statement: String,
    arguments: impl IntoIterator<Item = String>,
) -> Result<String, Problem> {
    let address = variable::get("database_url").await?;
    if !["postgres://", "postgresql://"]
        .iter()
        .any(|scheme| address.starts_with(scheme))
    {
        log::line(format_args!(
            "database_url is neither a postgres:// nor a postgresql:// URL"
        ));
        return Err(variable::misconfigured());
    }
    match one_text(address, statement, arguments).await {
        Ok(Some(text)) => Ok(text),
        Ok(None) => {
            log::line(format_args!("{function} did not answer with one jsonb"));
            Err(Problem::internal())
        }
        Err(error) => Err(problem(function, &error)),
    }
}

/// Runs a statement that answers one row of one text; the host pools the connections.
async fn one_text(
    address: String,
    statement: String,
    arguments: impl IntoIterator<Item = String>,
) -> Result<Option<String>, Error> {
    let arguments: Vec<_> = arguments.into_iter().map(ParameterValue::Str).collect();
    let connection = Connection::open(address).await?;
    let mut result = connection.query(statement, arguments).await?;
    let mut answer = None;
    while let Some(row) = result.rows().next().await {
        answer = row.into_iter().next();
    }
    result.result().await?;
    Ok(match answer {
        Some(DbValue::Str(text)) => Some(text),
        _ => None,
    })
}

/// What an error of the database means to a client. Words of the driver's may hold addresses, and
/// the server's may hold data, so only what the API functions raise themselves is passed on.
fn problem(function: &str, error: &Error) -> Problem {
    match error {
        Error::PgError(PgError::QueryFailed(QueryError::DbError(error))) => {
            database_problem(function, error)
        }
        // Nothing structured came back: there is no connection, or it broke in mid-statement.
        Error::PgError(
            PgError::ConnectionFailed(_) | PgError::QueryFailed(QueryError::Text(_)),
        ) => {
            log::line(format_args!("{function}: no connection to the database"));
            unavailable()
        }
        _ => {
            log::line(format_args!(
                "{function}: the host could not pass the call to the database"
            ));
            Problem::internal()
        }
    }
}

/// Translates a SQLSTATE (PostgreSQL's appendix A; the class `PT` is our API's own).
fn database_problem(function: &str, error: &DbError) -> Problem {
    if let Some(status) = error.code.strip_prefix("PT") {
        return raised(function, status, error);
    }
    match error.code.as_str() {
        // 25006: a standby that still answers where the primary was.
        "57P01" | "57P02" | "57P03" | "57P05" | "53300" | "25006" => unavailable(),
        code if code.starts_with("08") => unavailable(),
        // 57014: the login role's statement_timeout.
        "40001" | "40P01" | "55P03" | "57014" => {
            Problem::unavailable("try_again", "the statement had to give way to another one")
        }
        code => {
            // The messages of classes 22 and 23 quote values, so not even the log gets those.
            match code.starts_with("22") || code.starts_with("23") {
                true => log::line(format_args!("{function}: SQLSTATE {code}")),
                false => log::line(format_args!(
                    "{function}: SQLSTATE {code}: {}",
                    error.message
                )),
            }
            Problem::internal()
        }
    }
}

/// What an API function raised: SQLSTATE `PTnnn`, HINT the code, MESSAGE the sentence, DETAIL more.
fn raised(function: &str, status: &str, error: &DbError) -> Problem {
    let status = status
        .parse::<u16>()
        .ok()
        .filter(|status| (400..600).contains(status));
    let hint = error.extras.iter().find(|(name, _)| name == "hint");
    let (Some(status), Some((_, code))) = (status, hint) else {
        log::line(format_args!(
            "{function}: raised {} without a status or a code",
            error.code
        ));
        return Problem::internal();
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let problem = Problem::new(status, code.as_str(), error.message.as_str())
        .with_details(error.detail.clone());
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

fn unavailable() -> Problem {
    Problem::unavailable("database_unavailable", "the database cannot be reached")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: &str, hint: Option<&str>) -> Problem {
        let error = DbError {
            as_text: "secret".to_owned(),
            severity: "ERROR".to_owned(),
            code: code.to_owned(),
            message: "the message".to_owned(),
            detail: Some("the detail".to_owned()),
            extras: hint
                .map(|hint| ("hint".to_owned(), hint.to_owned()))
                .into_iter()
                .collect(),
        };
        problem(
            "f",
            &Error::PgError(PgError::QueryFailed(QueryError::DbError(error))),
        )
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
        let broken = [
            PgError::ConnectionFailed("no route to secret".to_owned()),
            PgError::QueryFailed(QueryError::Text("connection closed".to_owned())),
        ];
        for error in broken {
            let problem = problem("f", &Error::PgError(error));
            assert_eq!(problem.status(), StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}
