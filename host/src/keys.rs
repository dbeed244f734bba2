//! `millrace keys`: makes, lists and revokes the API keys that the database knows, as its owner.

use anyhow::{Context, Result, anyhow};
use clap::Subcommand;
use tokio_postgres::Error;

use crate::database::connect;

/// What to do about keys.
#[derive(Subcommand)]
pub enum Keys {
    /// Make a key and print it: the only time that it can be seen, since only its digest is kept
    Create {
        /// What to call it; no other live key may be called so
        name: String,
        /// What it may do; may be given several times
        #[arg(
            long = "scope",
            value_name = "SCOPE",
            required = true,
            value_delimiter = ','
        )]
        #[arg(value_parser = ["enqueue", "work", "read", "operate", "metrics", "tick", "all"])]
        scopes: Vec<String>,
        /// After how long it expires, such as 90d, 12h or "6 months"; never if not given
        #[arg(long, value_name = "TIME")]
        expires_in: Option<String>,
    },
    /// List all keys, the newest first, those that were revoked too
    List,
    /// Revoke the live key of that name; no request that shows it is let in from now on
    Revoke {
        /// The key's name
        name: String,
    },
}

/// Does it in the database at `database_url`.
///
/// # Errors
/// What the database says against it, such as that there is a key of that name already.
pub async fn keys(database_url: &str, what: Keys) -> Result<()> {
    match what {
        Keys::Create {
            name,
            scopes,
            expires_in,
        } => create(database_url, &name, &scopes, expires_in.as_deref()).await,
        Keys::List => list(database_url).await,
        Keys::Revoke { name } => revoke(database_url, &name).await,
    }
}

async fn create(url: &str, name: &str, scopes: &[String], expires_in: Option<&str>) -> Result<()> {
    let client = connect(url).await?;
    let expires_in: Option<String> = client
        .query_one("select $1::text::interval::text", &[&expires_in])
        .await
        .map_err(said)
        .context("--expires-in")?
        .get(0);
    let sql = "select millrace.create_api_key($1, $2, $3::text::interval)";
    let row = client.query_one(sql, &[&name, &scopes, &expires_in]).await;
    // The key alone, so that it can go straight to where it is needed.
    println!("{}", row.map_err(said)?.get::<_, &str>(0));
    Ok(())
}

async fn list(url: &str) -> Result<()> {
    let rows = connect(url)
        .await?
        .query(
            "select k.name,
                    case when k.revoked_at is not null then 'revoked' when k.expires_at <= millrace.clock() then 'expired' else 'live' end,
                    array_to_string(k.scopes, ','),
                    to_char(k.created_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'),
                    coalesce(to_char(k.expires_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), 'never'),
                    coalesce(to_char(k.last_used_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), 'never')
               from millrace.api_key k
              order by k.created_at desc, k.id desc",
            &[],
        )
        .await
        .map_err(said)?;
    let heads = [
        "NAME",
        "STATE",
        "SCOPES",
        "CREATED (UTC)",
        "EXPIRES",
        "LAST USED",
    ];
    let lines: Vec<[String; 6]> = std::iter::once(heads.map(str::to_owned))
        .chain(
            rows.iter()
                .map(|row| std::array::from_fn(|column| row.get(column))),
        )
        .collect();
    let widths: [usize; 6] = std::array::from_fn(|column| {
        let lengths = lines.iter().map(|line| line[column].chars().count());
        lengths.max().unwrap_or_default()
    });
    for line in &lines {
        let cells = line.iter().zip(widths);
        let padded: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        println!("{}", padded.join("  ").trim_end());
    }
    Ok(())
}

async fn revoke(url: &str, name: &str) -> Result<()> {
    let client = connect(url).await?;
    let sql = "select millrace.revoke_api_key($1)";
    client.execute(sql, &[&name]).await.map_err(said)?;
    println!("{name} is revoked");
    Ok(())
}

/// What the database said, without the driver's words around it.
fn said(error: Error) -> anyhow::Error {
    match error.as_db_error() {
        Some(said) => anyhow!("{}", said.message()),
        None => error.into(),
    }
}
