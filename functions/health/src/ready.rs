//! Readiness: the database answers, takes writes, and has every migration that the functions were built with. One that is newer
//! will do, so that migrations may go first and the functions follow.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};
use millrace_contract::health::{
    Checks, DatabaseCheck, DatabaseFault, Found, MigrationsCheck, MigrationsFault, Readiness, Ready,
};
use millrace_kit::auth::Caller;
use millrace_kit::database::{self, Failure, Nothing};
use millrace_kit::outbound::within;
use millrace_kit::{Answer, Reply, gateway, log};

use crate::kept::Kept;

/// The number of the newest file in `sql/` at the time of the build (build.rs).
const EXPECTED: u32 = match u32::from_str_radix(env!("MILLRACE_NEWEST_MIGRATION"), 10) {
    Ok(number) => number,
    Err(_) => panic!("build.rs gives a number"),
};

/// How long the database may take: a prober waits for seconds, not for as long as a client does.
const PATIENCE: Duration = Duration::from_secs(3);

static KEPT: Kept = Kept::new();

/// 200 if every check passes, or did a moment ago, else 503, with the same body.
pub async fn reply() -> Reply {
    KEPT.reply(ask).await
}

async fn ask() -> Reply {
    let readiness = readiness(look().await);
    let mut reply = gateway::reply(crate::json(&readiness).map(Answer::json));
    if readiness.status == Ready::NotReady {
        *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        let soon = HeaderValue::from_static("1"); // second
        reply.headers_mut().insert(RETRY_AFTER, soon);
    }
    reply
}

/// Why nothing is known of the migrations, or what is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The database is not to be worked with.
    Database(DatabaseFault),
    /// It is of a version that could not be asked yet.
    NeverMigrated,
}

/// Asks the database.
async fn look() -> Result<Found, Fault> {
    let anyone = Caller::anyone();
    let asked = database::try_call(&anyone, "readiness", &Nothing {});
    match within(PATIENCE, asked).await {
        None => Err(Fault::Database(DatabaseFault::TooSlow)),
        Some(Err(failure)) => Err(fault(failure)),
        Some(Ok(text)) => serde_json::from_str(&text).map_err(|error| {
            log::line(format_args!(
                "readiness answered something else: {:?}",
                error.classify()
            ));
            Fault::Database(DatabaseFault::Internal)
        }),
    }
}

/// What a failure says of the database, in whose appendix A the codes are.
fn fault(failure: Failure) -> Fault {
    let sqlstate = match &failure {
        Failure::Raised { sqlstate, .. } => sqlstate.as_str(),
        _ => "",
    };
    match (&failure, sqlstate) {
        // There is no such function, or no such schema.
        (Failure::Unknown, _) | (_, "42883" | "3F000") => Fault::NeverMigrated,
        (_, "25006") => Fault::Database(DatabaseFault::ReadOnly),
        (_, "57014") => Fault::Database(DatabaseFault::TooSlow),
        _ => {
            let problem = failure.problem("readiness");
            Fault::Database(match problem.code() {
                "database_unavailable" | "try_again" => DatabaseFault::Unavailable,
                "misconfigured" => DatabaseFault::Misconfigured,
                _ => DatabaseFault::Internal,
            })
        }
    }
}

fn readiness(found: Result<Found, Fault>) -> Readiness {
    let (database, applied) = match found {
        Ok(found) if found.read_only => (Some(DatabaseFault::ReadOnly), Some(found.applied)),
        Ok(found) => (None, Some(found.applied)),
        Err(Fault::NeverMigrated) => (None, Some(0)),
        Err(Fault::Database(fault)) => (Some(fault), None),
    };
    let checks = Checks {
        database: DatabaseCheck {
            ok: database.is_none(),
            code: database,
            message: database.map(told),
        },
        migrations: migrations(applied),
    };
    let status = match checks.database.ok && checks.migrations.ok {
        true => Ready::Ready,
        false => Ready::NotReady,
    };
    Readiness { status, checks }
}

fn told(fault: DatabaseFault) -> &'static str {
    match fault {
        DatabaseFault::Unavailable => "the database cannot be reached",
        DatabaseFault::TooSlow => "the database does not answer within 3 seconds",
        DatabaseFault::ReadOnly => "the database takes no writes",
        DatabaseFault::Misconfigured => "the application is not configured correctly",
        DatabaseFault::Internal => "the database could not be asked",
    }
}

fn migrations(applied: Option<u32>) -> MigrationsCheck {
    let (code, message) = match applied {
        None => (
            Some(MigrationsFault::Unknown),
            Some("the database could not be asked"),
        ),
        Some(applied) if applied < EXPECTED => (
            Some(MigrationsFault::Behind),
            Some("the database lacks migrations: run `millrace migrate`"),
        ),
        Some(_) => (None, None),
    };
    MigrationsCheck {
        ok: code.is_none(),
        code,
        message,
        applied,
        expected: EXPECTED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(applied: u32, read_only: bool) -> Result<Found, Fault> {
        Ok(Found { applied, read_only })
    }

    fn raised(sqlstate: &str) -> Fault {
        fault(Failure::Raised {
            sqlstate: sqlstate.to_owned(),
            message: String::new(),
            detail: None,
            hint: None,
        })
    }

    #[test]
    fn a_database_as_new_as_the_functions_or_newer_will_do() {
        for applied in [EXPECTED, EXPECTED + 1] {
            assert_eq!(readiness(found(applied, false)).status, Ready::Ready);
        }
        let older = readiness(found(EXPECTED - 1, false));
        assert_eq!(older.status, Ready::NotReady);
        assert_eq!(older.checks.migrations.code, Some(MigrationsFault::Behind));
        assert!(older.checks.database.ok);
    }

    #[test]
    fn a_standby_is_not_ready_however_new_it_is() {
        let standby = readiness(found(EXPECTED, true));
        assert_eq!(standby.status, Ready::NotReady);
        assert_eq!(standby.checks.database.code, Some(DatabaseFault::ReadOnly));
        assert!(standby.checks.migrations.ok);
    }

    #[test]
    fn a_failure_is_told_apart_from_a_missing_function() {
        for code in ["42883", "3F000"] {
            assert_eq!(raised(code), Fault::NeverMigrated, "{code}");
        }
        assert_eq!(fault(Failure::Unknown), Fault::NeverMigrated);
        for (code, expected) in [
            ("25006", DatabaseFault::ReadOnly),
            ("57014", DatabaseFault::TooSlow),
            ("57P03", DatabaseFault::Unavailable),
            ("42501", DatabaseFault::Internal),
        ] {
            assert_eq!(raised(code), Fault::Database(expected), "{code}");
        }
        let unreachable = readiness(Err(fault(Failure::Unavailable)));
        assert_eq!(
            unreachable.checks.database.code,
            Some(DatabaseFault::Unavailable)
        );
        assert_eq!(
            unreachable.checks.migrations.code,
            Some(MigrationsFault::Unknown)
        );
    }
}
