//! The call over Spin's Postgres interface; the host pools the connections.

use spin_sdk::pg::{Connection, DbError, DbValue, Error, ParameterValue, PgError, QueryError};

use super::Failure;
use crate::log;

/// Runs a statement that answers one row of one text, or of null.
pub(super) async fn one_text(
    address: String,
    label: &str,
    statement: String,
    parameters: Vec<String>,
) -> Result<Option<String>, Failure> {
    run(address, statement, parameters)
        .await
        .map_err(|error| failure(label, error))
}

async fn run(
    address: String,
    statement: String,
    parameters: Vec<String>,
) -> Result<Option<String>, Error> {
    let parameters: Vec<_> = parameters.into_iter().map(ParameterValue::Str).collect();
    let connection = Connection::open(address).await?;
    let mut result = connection.query(statement, parameters).await?;
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

/// What the interface's error says. The driver's own words may hold addresses, so they are left out.
fn failure(label: &str, error: Error) -> Failure {
    match error {
        Error::PgError(PgError::QueryFailed(QueryError::DbError(error))) => raised(error),
        // Nothing structured came back: there is no connection, or it broke in mid-statement.
        Error::PgError(
            PgError::ConnectionFailed(_) | PgError::QueryFailed(QueryError::Text(_)),
        ) => {
            log::line(format_args!("{label}: no connection to the database"));
            Failure::Unavailable
        }
        _ => {
            log::line(format_args!(
                "{label}: the host could not pass the call to the database"
            ));
            Failure::Internal
        }
    }
}

fn raised(error: DbError) -> Failure {
    let mut extras = error.extras.into_iter();
    Failure::Raised {
        sqlstate: error.code,
        message: error.message,
        detail: error.detail,
        hint: extras
            .find(|(name, _)| name == "hint")
            .map(|(_, hint)| hint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_database_is_taken_apart() {
        let error = DbError {
            as_text: "secret".to_owned(),
            severity: "ERROR".to_owned(),
            code: "PT409".to_owned(),
            message: "the message".to_owned(),
            detail: Some("the detail".to_owned()),
            extras: vec![
                ("where".to_owned(), "secret".to_owned()),
                ("hint".to_owned(), "not_lease_owner".to_owned()),
            ],
        };
        let error = Error::PgError(PgError::QueryFailed(QueryError::DbError(error)));
        let expected = Failure::Raised {
            sqlstate: "PT409".to_owned(),
            message: "the message".to_owned(),
            detail: Some("the detail".to_owned()),
            hint: Some("not_lease_owner".to_owned()),
        };
        assert_eq!(failure("f", error), expected);
    }

    #[test]
    fn a_connection_that_is_not_there_is_no_fault_of_ours() {
        for error in [
            PgError::ConnectionFailed("no route to secret".to_owned()),
            PgError::QueryFailed(QueryError::Text("connection closed".to_owned())),
        ] {
            assert_eq!(failure("f", Error::PgError(error)), Failure::Unavailable);
        }
    }
}
