//! The database as its owner sees it: connecting, and the login role that the functions use.

use std::net::IpAddr;

use anyhow::{Context, Result, anyhow, ensure};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

use crate::postgres::pool::tls;

/// Below the 30 s that a request may take, so that a statement does not go on when nobody waits for it any more.
const STATEMENT_TIMEOUT: &str = "25s";

/// Connects to `database_url` (`postgres://…`), over TLS where the server has it and `sslmode` does not say otherwise.
/// Errors name the server, never the password.
pub async fn connect(database_url: &str) -> Result<Client> {
    let (client, connection) = connect_raw(database_url).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the database ended");
        }
    });
    Ok(client)
}

type Encrypted = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// The same with the connection itself, for its messages; nothing happens on it unless somebody polls it.
pub async fn connect_raw(database_url: &str) -> Result<(Client, Connection<Socket, Encrypted>)> {
    let place = without_credentials(database_url);
    let tls = tls(None).map_err(|error| anyhow!("TLS: {error:?}"))?;
    tokio_postgres::connect(&plain_on_loopback(database_url), tls)
        .await
        .with_context(|| format!("connecting to {place}"))
}

/// `database_url` with TLS switched off where it leads to this very machine and says nothing of TLS itself: the certificate
/// that a distribution's Postgres comes with is trusted by nobody.
fn plain_on_loopback(database_url: &str) -> String {
    let Ok(mut url) = Url::parse(database_url) else {
        return database_url.to_owned();
    };
    // The parser takes an address for a name where the scheme is not one of the web's.
    let host = url.host_str().unwrap_or_default();
    let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
    let is_loopback = host == "localhost" || address.is_some_and(|address| address.is_loopback());
    if is_loopback && !url.query_pairs().any(|(name, _)| name == "sslmode") {
        url.query_pairs_mut().append_pair("sslmode", "disable");
    }
    url.into()
}

/// Makes the functions' login role `name`, a member of the execute-only role `millrace_functions`, or sets its password
/// anew, and returns the connection string for it. Roles belong to the whole server: give each installation one of its own.
///
/// # Errors
/// A name that is not of lower-case letters, digits and underscores; an owner who may make no roles.
pub async fn ensure_functions_login(owner_url: &str, name: &str, password: &str) -> Result<String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    ensure!(
        name.chars().all(is_plain),
        "{name:?} is not a plain name for a role"
    );
    let client = connect(owner_url).await?;
    // A role's password can't be a parameter; the server gets only its salted hash, so no log can show it.
    let hash = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let exists = client
        .query_opt("select from pg_roles where rolname = $1", &[&name])
        .await?;
    let verb = if exists.is_some() { "alter" } else { "create" };
    client
        .batch_execute(&format!(
            "set client_min_messages = warning; {verb} role {name} login password '{hash}'; grant millrace_functions to {name}; \
             alter role {name} set statement_timeout = '{STATEMENT_TIMEOUT}'"
        ))
        .await
        .context("making the functions' login role (set SPIN_VARIABLE_DATABASE_URL to use a login of your own)")?;

    let mut url = Url::parse(&plain_on_loopback(owner_url)).context("the database URL")?;
    let failed = || anyhow!("the database URL can hold no user");
    url.set_username(name).map_err(|()| failed())?;
    url.set_password(Some(password)).map_err(|()| failed())?;
    Ok(url.into())
}

/// The address of the server as `allowed_outbound_hosts` wants it: `postgres://host:port`, or that of a PostgREST,
/// `https://host:port`.
pub fn outbound_host(database_url: &str) -> Result<String> {
    let url = Url::parse(database_url).context("the URL")?;
    let host = url.host_str().context("the URL names no host")?;
    let scheme = match url.scheme() {
        scheme @ ("http" | "https") => scheme,
        _ => "postgres",
    };
    let port = url.port_or_known_default().unwrap_or(5432);
    Ok(format!("{scheme}://{host}:{port}"))
}

/// `database_url` as it may be shown.
pub fn without_credentials(database_url: &str) -> String {
    let url = Url::parse(database_url).ok();
    // Without a host the credentials of a mistyped URL may stand in what looks like its path.
    match url.as_ref().and_then(|url| Some((url, url.host_str()?))) {
        Some((url, host)) => format!("{host}:{}{}", url.port().unwrap_or(5432), url.path()),
        None => "the database (its URL can't be read)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{outbound_host, plain_on_loopback};

    #[test]
    fn an_address_has_its_scheme_and_a_port() {
        for (url, host) in [
            ("postgres://u:p@db.example/d", "postgres://db.example:5432"),
            (
                "postgresql://u@db.example:6432/d",
                "postgres://db.example:6432",
            ),
            ("https://p.supabase.co/rest/v1", "https://p.supabase.co:443"),
            ("http://127.0.0.1:54321/rest/v1", "http://127.0.0.1:54321"),
        ] {
            assert_eq!(outbound_host(url).expect("an address"), host);
        }
    }

    #[test]
    fn tls_is_switched_off_on_this_machine_alone_and_only_where_nothing_was_said() {
        for here in [
            "postgres://u:p@127.0.0.1:5432/d",
            "postgres://u@localhost/d",
            "postgresql://[::1]/d",
        ] {
            assert_eq!(plain_on_loopback(here), format!("{here}?sslmode=disable"));
        }
        for other in [
            "postgres://u:p@db.example.com/d",
            "postgres://u@localhost/d?sslmode=require",
            "host=localhost",
        ] {
            assert_eq!(plain_on_loopback(other), other);
        }
    }
}
