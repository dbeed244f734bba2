//! Brings a database to this version's schema: the numbered files of `sql/`, which are part of the program.

use anyhow::{Context, Result};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::database::connect;

mod embedded {
    refinery::embed_migrations!("../sql");
}

/// Taken for the length of a migration, so that a second process waits for the first and then finds nothing to do.
/// The number is an arbitrary one of ours.
const LOCK: i64 = 0x6d69_6c6c_7261_6365;

/// Applies what `database_url` lacks, all in one transaction, and makes partitions ahead of time. Returns how many
/// migrations it applied. A file that differs from what was applied before is an error that names it: applied
/// migrations are never edited.
pub async fn migrate(database_url: &str) -> Result<usize> {
    let mut client = connect(database_url).await?;
    // Only the catalogue: what somebody else has put into a schema on the owner's path must not run as the owner.
    client
        .batch_execute("set search_path = pg_catalog; set client_min_messages = warning")
        .await?;
    client
        .execute("select pg_advisory_lock($1)", &[&LOCK])
        .await?;
    let applied = apply(&mut client).await?; // an error ends the session, and with it the lock
    client
        .execute("select pg_advisory_unlock($1)", &[&LOCK])
        .await?;
    make_partitions(&client).await?;
    Ok(applied)
}

/// Whether a migration failed because the database has others than this program: an earlier version's, or a later one's.
pub fn is_of_another_version(error: &anyhow::Error) -> bool {
    use refinery::error::Kind;
    let refused = error.downcast_ref::<refinery::Error>();
    refused.is_some_and(|error| {
        matches!(
            error.kind(),
            Kind::DivergentVersion(..) | Kind::MissingVersion(_)
        )
    })
}

/// Behind a long reader of the history this gives up at once, for everybody else would queue behind it: there are
/// partitions for weeks, and the next housekeeping tries again.
async fn make_partitions(client: &Client) -> Result<()> {
    client.batch_execute("set lock_timeout = '2s'").await?;
    match client
        .execute("select millrace.make_partitions()", &[])
        .await
    {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            tracing::warn!("the history is in use: no partitions were made this time");
            Ok(())
        }
        made => Ok(made.map(drop)?),
    }
}

async fn apply(client: &mut Client) -> Result<usize> {
    // Where the library keeps its history must exist before the first migration can make it.
    client
        .batch_execute("create schema if not exists millrace")
        .await?;
    let mut runner = embedded::migrations::runner()
        .set_grouped(true)
        .set_abort_divergent(true)
        .set_abort_missing(true);
    let report = runner
        .set_migration_table_name("millrace.migration")
        .run_async(client)
        .await
        .context("migrating the database")?;
    Ok(report.applied_migrations().len())
}

/// How many migrations this program has, and how many of them the database lacks.
pub async fn pending(database_url: &str) -> Result<(usize, usize)> {
    let client = connect(database_url).await?;
    let total = embedded::migrations::runner().get_migrations().len();
    let known = client
        .query_one("select to_regclass('millrace.migration') is not null", &[])
        .await?
        .get(0);
    let applied: i64 = if known {
        client
            .query_one("select count(*) from millrace.migration", &[])
            .await?
            .get(0)
    } else {
        0
    };
    Ok((total, total.saturating_sub(usize::try_from(applied)?)))
}
