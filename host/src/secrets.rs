//! `millrace secrets`: the refresh tokens by which workspaces let their calendars be written, encrypted before they reach the database.
//! The keys are those of the Spin variable `calendar_token_key`, read from `SPIN_VARIABLE_CALENDAR_TOKEN_KEY` as the application reads it.

use std::io::Read;

use anyhow::{Result, anyhow, bail};
use clap::Subcommand;
use millrace_vault::{Sealed, Vault, new_key};
use tokio_postgres::{Client, Error};
use uuid::Uuid;

use crate::database::connect;

/// The variable that has the keys.
const KEYS: &str = "SPIN_VARIABLE_CALENDAR_TOKEN_KEY";
/// Google's refresh tokens have at most 512 bytes; longer ones are somebody's mistake.
const LONGEST: u64 = 4096;
/// How many tokens one statement of a rotation reads.
const PAGE: i64 = 100;

/// What to do about secrets.
#[derive(Subcommand)]
pub enum Secrets {
    /// Print a new random key, to be put in front of the others in calendar_token_key as NAME:KEY
    Key,
    /// Keep the refresh token that standard input has, in place of the workspace's last one
    Put {
        /// The workspace's UUID
        #[arg(long)]
        workspace: Uuid,
        /// The calendar that its owner means, such as primary or team@example.com
        #[arg(long)]
        calendar: Option<String>,
    },
    /// List the workspaces' connections, without their secrets
    List,
    /// Encrypt every token anew under the first key. It may be interrupted and run again, also while the application runs
    Rotate,
}

/// Does it. All but a new key is about the database at `database_url`.
///
/// # Errors
/// What is wrong with the keys, or what the database says against it. No error has a secret in it.
pub async fn secrets(database_url: impl FnOnce() -> Result<String>, what: Secrets) -> Result<()> {
    match what {
        Secrets::Key => println!("{}", new_key()?),
        Secrets::Put {
            workspace,
            calendar,
        } => put(&database_url()?, workspace, calendar.as_deref()).await?,
        Secrets::List => list(&database_url()?).await?,
        Secrets::Rotate => rotate(&database_url()?).await?,
    }
    Ok(())
}

fn vault() -> Result<Vault> {
    // The error of a value that is no text has the value in it.
    let keys = std::env::var(KEYS).map_err(|_| anyhow!("{KEYS} is not set, or is no text"))?;
    Vault::new(&keys).map_err(|fault| anyhow!("{KEYS} {fault}"))
}

async fn put(url: &str, workspace: Uuid, calendar: Option<&str>) -> Result<()> {
    let vault = vault()?;
    let mut token = String::new();
    let read = std::io::stdin()
        .take(LONGEST + 1)
        .read_to_string(&mut token);
    read.map_err(|_| anyhow!("standard input is not a text"))?;
    let token = token.trim();
    if token.is_empty() || token.len() as u64 > LONGEST || token.contains(char::is_whitespace) {
        bail!("standard input is to have the refresh token, and nothing else");
    }
    let sealed = vault.seal(&workspace.to_string(), token)?;
    let sql = "select millrace.connect_calendar($1::text::uuid, $2, $3, $4)";
    connect(url)
        .await?
        .execute(
            sql,
            &[
                &workspace.to_string(),
                &calendar,
                &sealed.ciphertext,
                &sealed.key_id,
            ],
        )
        .await
        .map_err(said)?;
    println!(
        "{workspace} is connected, its token encrypted with the key {}",
        sealed.key_id
    );
    Ok(())
}

async fn list(url: &str) -> Result<()> {
    let sql = "select c.workspace_id::text, c.key_id, case when c.is_valid then 'valid' else 'invalid' end,
                      to_char(c.connected_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI'), coalesce(c.calendar_id, '-')
                 from millrace.google_connection c order by c.workspace_id";
    let rows = connect(url).await?.query(sql, &[]).await.map_err(said)?;
    println!(
        "{:36}  {:10}  {:7}  {:16}  CALENDAR",
        "WORKSPACE", "KEY", "STATE", "CONNECTED (UTC)"
    );
    for row in rows {
        let [workspace, key, state, connected, calendar]: [&str; 5] =
            std::array::from_fn(|column| row.get(column));
        println!("{workspace:36}  {key:10}  {state:7}  {connected:16}  {calendar}");
    }
    Ok(())
}

async fn rotate(url: &str) -> Result<()> {
    let vault = vault()?;
    let client = connect(url).await?;
    refuse_missing(&client, &vault).await?;
    let (mut renewed, mut overtaken) = (0_u64, 0_u64);
    let mut after: Option<String> = None;
    loop {
        let sql = "select c.workspace_id::text, c.key_id, c.refresh_token_encrypted from millrace.google_connection c
                    where c.key_id <> $1 and ($2::text is null or c.workspace_id > $2::text::uuid) order by c.workspace_id limit $3";
        let rows = client
            .query(sql, &[&vault.first(), &after, &PAGE])
            .await
            .map_err(said)?;
        let Some(last) = rows.last() else {
            break;
        };
        after = Some(last.get(0));
        for row in &rows {
            let old = Sealed {
                key_id: row.get(1),
                ciphertext: row.get(2),
            };
            match renew(&client, &vault, row.get(0), &old).await? {
                true => renewed += 1,
                false => overtaken += 1,
            }
        }
    }
    let forgotten = forget_access_tokens(&client, &vault).await?;
    let first = vault.first();
    println!(
        "{renewed} refresh tokens are encrypted anew with the key {first}, {overtaken} were put or removed meanwhile, {forgotten} access tokens are forgotten"
    );
    Ok(())
}

/// A rotation that can't open some of the tokens would leave the old keys in use without anybody noticing.
async fn refuse_missing(client: &Client, vault: &Vault) -> Result<()> {
    let sql = "select distinct c.key_id from millrace.google_connection c order by 1";
    let rows = client.query(sql, &[]).await.map_err(said)?;
    let names = rows.iter().map(|row| row.get::<_, String>(0));
    let missing: Vec<String> = names.filter(|name| !vault.knows(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "tokens are encrypted with {}, which {KEYS} does not have; nothing was changed",
        missing.join(", ")
    )
}

/// Encrypts one token anew, unless it is another one by now.
async fn renew(client: &Client, vault: &Vault, workspace: &str, old: &Sealed) -> Result<bool> {
    let token = vault.open(workspace, old);
    let token = token.map_err(|fault| anyhow!("{workspace}: {KEYS} {fault}"))?;
    let new = vault.seal(workspace, &token)?;
    let sql = "update millrace.google_connection set refresh_token_encrypted = $1, key_id = $2
                where workspace_id = $3::text::uuid and refresh_token_encrypted = $4 and key_id = $5";
    let changed = client
        .execute(
            sql,
            &[
                &new.ciphertext,
                &new.key_id,
                &workspace,
                &old.ciphertext,
                &old.key_id,
            ],
        )
        .await;
    Ok(changed.map_err(said)? == 1)
}

/// Access tokens are a cache: the next attempt gets another one.
async fn forget_access_tokens(client: &Client, vault: &Vault) -> Result<u64> {
    let sql = "update millrace.google_connection set access_token_encrypted = null, access_key_id = null, access_expires_at = null
                where access_key_id <> $1";
    client.execute(sql, &[&vault.first()]).await.map_err(said)
}

/// What the database said, without the driver's words around it.
fn said(error: Error) -> anyhow::Error {
    match error.as_db_error() {
        Some(said) => anyhow!("{}", said.message()),
        None => error.into(),
    }
}
