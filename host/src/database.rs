//! The database as its owner sees it: connecting, and the login role that the functions use.

use anyhow::{Context, Result};
use tokio_postgres::{Client, NoTls};
use url::Url;

/// The login role that `up` makes for the functions: a member of the execute-only role `millrace_functions`.
pub const FUNCTIONS_LOGIN: &str = "millrace_app";

/// Below the 30 s that a request may take, so that a statement does not go on when nobody waits for it any more.
const STATEMENT_TIMEOUT: &str = "25s";

/// Connects to `database_url` (`postgres://…`). Errors name the server, never the password.
pub async fn connect(database_url: &str) -> Result<Client> {
    let place = without_credentials(database_url);
    let (client, connection) = tokio_postgres::connect(database_url, NoTls).await.with_context(|| format!("connecting to {place}"))?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the database ended");
        }
    });
    Ok(client)
}

/// Makes the functions' login role, or sets its password anew, and returns the connection string for it.
pub async fn ensure_functions_login(owner_url: &str, password: &str) -> Result<String> {
    let client = connect(owner_url).await?;
    // A role's password can't be a parameter; the server gets only its salted hash, so no log can show it.
    let hash = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let exists = client.query_opt("select from pg_roles where rolname = $1", &[&FUNCTIONS_LOGIN]).await?.is_some();
    let verb = if exists { "alter" } else { "create" };
    client
        .batch_execute(&format!(
            "{verb} role {FUNCTIONS_LOGIN} login password '{hash}'; grant millrace_functions to {FUNCTIONS_LOGIN}; \
             alter role {FUNCTIONS_LOGIN} set statement_timeout = '{STATEMENT_TIMEOUT}'"
        ))
        .await
        .context("making the functions' login role (set SPIN_VARIABLE_DATABASE_URL to use a login of your own)")?;

    let mut url = Url::parse(owner_url).context("the database URL")?;
    let failed = || anyhow::anyhow!("the database URL can hold no user");
    url.set_username(FUNCTIONS_LOGIN).map_err(|()| failed())?;
    url.set_password(Some(password)).map_err(|()| failed())?;
    Ok(url.into())
}

/// The address of the server as `allowed_outbound_hosts` wants it: `postgres://host:port`.
pub fn outbound_host(database_url: &str) -> Result<String> {
    let url = Url::parse(database_url).context("the database URL")?;
    let host = url.host_str().context("the database URL names no host")?;
    Ok(format!("postgres://{host}:{}", url.port().unwrap_or(5432)))
}

/// `database_url` as it may be shown.
pub fn without_credentials(database_url: &str) -> String {
    match Url::parse(database_url) {
        Ok(url) => format!("{}:{}{}", url.host_str().unwrap_or("(no host)"), url.port().unwrap_or(5432), url.path()),
        Err(_) => "the database (its URL can't be read)".to_owned(),
    }
}
