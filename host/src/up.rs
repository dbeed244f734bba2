//! `millrace up`: the whole application for a developer's machine in one process: Postgres, schema, keys, functions.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use crate::channels;
use crate::cluster::{Cluster, Keep};
use crate::database::{ensure_functions_login, outbound_host};
use crate::local_pass::{LocalPass, require_loopback};
use crate::migrate::{is_of_another_version, migrate};
use crate::serve::{Host, Limits, ServeOptions, Server};

/// The state folder that `cargo xtask env` looks into.
const USUAL_STATE: &str = ".millrace";

/// How long the token that `up` prints is good for.
const TOKEN_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// What `millrace up` is told on the command line.
#[derive(clap::Args)]
pub struct UpArguments {
    /// Address to serve on; port 0 takes any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:3000")]
    pub listen: String,
    /// The manifest to serve
    #[arg(long, value_name = "FILE", default_value = "spin.toml")]
    pub manifest: PathBuf,
    /// Where the private Postgres, the keys and the compiled components are kept
    #[arg(long, value_name = "FOLDER", default_value = USUAL_STATE)]
    pub state: PathBuf,
    /// Let in requests of this machine's own programs that show no credentials: they get the API key. Loopback addresses only
    #[arg(long)]
    pub open: bool,
}

/// Where requests show credentials (`functions/kit/src/auth.rs`).
const CREDENTIALS: &[&str] = &["x-api-key", "authorization", "apikey"];

/// The keys of this installation, made once and kept in the state folder, readable by its owner alone.
#[derive(Serialize, Deserialize)]
struct Keys {
    functions_login: String,
    functions_password: String,
    supabase_jwt_secret: String,
    collab_api_key: String,
    /// A key that the database knows, as the next one; empty, or unknown to it, until it was made there.
    service_api_key: String,
    #[serde(default)]
    tick_key: String,
    /// Empty in what an earlier version has written.
    #[serde(default)]
    artifact_signing_key: String,
}

/// Serves until Ctrl-C or SIGTERM, then ends what it started.
pub async fn up(arguments: UpArguments) -> Result<()> {
    let listen = resolve(&arguments.listen).await?;
    if arguments.open {
        require_loopback(listen).context("--open")?;
    }
    fs::create_dir_all(&arguments.state).with_context(|| arguments.state.display().to_string())?;
    let keys_file = arguments.state.join("keys.json");
    let mut keys = Keys::load_or_make(&keys_file)?;

    let folder = arguments.state.join("postgres");
    let (cluster, owner_url) = match foreign_database_url(&folder) {
        Some(url) => (None, url),
        None => {
            say("starting Postgres");
            let cluster = Cluster::start(&folder, Keep::Durable).await?;
            let url = private_database(&cluster).await?;
            (Some(cluster), url)
        }
    };
    say("migrating the database");
    let applied = match migrate(&owner_url).await {
        Err(error) if cluster.is_some() && is_of_another_version(&error) => {
            return Err(error.context(format!(
                "the development database in {folder} was made by an earlier version that was never released: remove {folder} (what is in it is lost), or give another --state",
                folder = folder.display()
            )));
        }
        applied => applied?,
    };
    if applied > 0 {
        say(&format!("{applied} migrations applied"));
    }
    if keys.store(&owner_url).await? {
        keys.save(&keys_file)?;
    }

    say("compiling the functions (cached after the first time)");
    let variables = variables(&owner_url, &keys).await?;
    let token = token(&variables)?;
    let limits = Limits::default();
    let cache = std::path::absolute(arguments.state.join("cache"))?;
    let options = ServeOptions {
        manifest: arguments.manifest,
        variables: variables.clone(),
        use_environment: true,
        listen,
        limits: limits.clone(),
        access_log: true,
        cron: true,
        at_address: tick_at,
        local_pass: (arguments.open)
            .then(|| local_pass(&variables))
            .transpose()?,
    };
    let server = Host::with_cache(limits, cache)?.serve(options).await?;
    if arguments.open {
        require_key_counts(&server).context("--open")?;
    }
    channels::check(&server).await?;
    let listener = channels::listen(&server)?;

    let exports = Exports {
        url: format!("http://{}", server.addr()),
        database_url: owner_url,
        token,
        variables,
        keys,
        open: arguments.open,
    };
    let _file = ExportsFile::write(&arguments.state.join("env"), &exports)?;
    exports.greet(&match arguments.state == Path::new(USUAL_STATE) {
        true => r#"eval "$(cargo xtask env)""#.to_owned(),
        false => format!(
            ". {}",
            std::path::absolute(&arguments.state)?.join("env").display()
        ),
    });
    wait_for_end().await?;
    say("ending");
    drop(listener); // or it would say that it lost the database
    server.shutdown().await;
    if let Some(cluster) = cluster {
        cluster.stop()?;
    }
    Ok(())
}

fn say(what: &str) {
    eprintln!("==> {what}");
}

/// `DATABASE_URL`, unless it is that of our own cluster: in a shell with the exports of an earlier run it names a port that
/// nobody listens on any more.
fn foreign_database_url(folder: &Path) -> Option<String> {
    let url = std::env::var("DATABASE_URL").ok()?;
    let password = fs::read_to_string(folder.join("password")).unwrap_or_default();
    (password.is_empty() || !url.contains(&password)).then_some(url)
}

/// Makes the application's database in the private cluster and returns its URL.
async fn private_database(cluster: &Cluster) -> Result<String> {
    let client = crate::database::connect(&cluster.url("postgres")).await?;
    let exists = client
        .query_opt("select from pg_database where datname = 'millrace'", &[])
        .await?
        .is_some();
    if !exists {
        client.batch_execute("create database millrace").await?;
    }
    Ok(cluster.url("millrace"))
}

/// The application's variables, as far as the environment does not set them itself.
async fn variables(owner_url: &str, keys: &Keys) -> Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    let database_url = match from_environment("database_url") {
        Some(url) => url,
        None => {
            ensure_functions_login(owner_url, &keys.functions_login, &keys.functions_password)
                .await?
        }
    };
    let database_host = outbound_host(&database_url)?;
    let ours = [
        ("database_url", &database_url),
        ("database_host", &database_host),
        ("supabase_jwt_secret", &keys.supabase_jwt_secret),
        ("collab_api_key", &keys.collab_api_key),
        ("artifact_signing_key", &keys.artifact_signing_key),
        ("tick_key", &keys.tick_key),
    ];
    for (name, value) in ours {
        variables.insert(
            name.to_owned(),
            from_environment(name).unwrap_or_else(|| value.clone()),
        );
    }
    // What may be connected to follows from the URL, where it is not said.
    for (host, url) in [
        ("alert_webhook_host", "alert_webhook_url"),
        ("collab_jwks_host", "collab_jwks_url"),
    ] {
        let url = from_environment(url).filter(|url| !url.trim().is_empty());
        if let (Some(url), None) = (url, from_environment(host)) {
            let address =
                outbound_host(url.trim()).with_context(|| format!("{host} is not set"))?;
            variables.insert(host.to_owned(), address);
        }
    }
    Ok(variables)
}

/// The application's key, for requests of this machine's programs that show none.
fn local_pass(variables: &BTreeMap<String, String>) -> Result<LocalPass> {
    let key = variables.get("collab_api_key").map_or("", String::as_str);
    ensure!(
        !key.is_empty(),
        "--open: SPIN_VARIABLE_COLLAB_API_KEY is empty, so there is no key to act with"
    );
    LocalPass::new("x-api-key", key, CREDENTIALS).context("--open")
}

/// A pass that nobody takes would open nothing, and each request would be told to show what it need not show.
fn require_key_counts(server: &Server) -> Result<()> {
    let required = server.variable("collab_require_jwt").unwrap_or_default();
    ensure!(
        matches!(required.trim(), "" | "0" | "false"),
        "tokens are required (SPIN_VARIABLE_COLLAB_REQUIRE_JWT), so the API key lets nobody in"
    );
    Ok(())
}

fn from_environment(variable: &str) -> Option<String> {
    std::env::var(format!("SPIN_VARIABLE_{}", variable.to_uppercase())).ok()
}

/// A JSON Web Token for the worker's role, as Supabase's service-role key is one.
pub fn service_token(secret: &str, issuer: Option<&str>, audience: Option<&str>) -> Result<String> {
    #[derive(Serialize)]
    struct Claims<'a> {
        role: &'a str,
        iss: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        aud: Option<&'a str>,
        iat: u64,
        exp: u64,
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let claims = Claims {
        role: "service_role",
        iss: issuer.unwrap_or("millrace"),
        aud: audience,
        iat: now,
        exp: now + TOKEN_LIFE.as_secs(),
    };
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    Ok(jsonwebtoken::encode(
        &jsonwebtoken::Header::default(),
        &claims,
        &key,
    )?)
}

/// The token that this installation's users are given.
fn token(variables: &BTreeMap<String, String>) -> Result<String> {
    let secret = variables.get("supabase_jwt_secret");
    let (issuer, audience) = (
        from_environment("collab_jwt_issuer"),
        from_environment("collab_jwt_audience"),
    );
    service_token(
        secret.map_or("", String::as_str),
        issuer.as_deref(),
        audience.as_deref(),
    )
}

impl Keys {
    fn load_or_make(file: &Path) -> Result<Self> {
        if let Ok(text) = fs::read_to_string(file) {
            let mut keys: Self = serde_json::from_str(&text)
                .with_context(|| format!("{} is damaged", file.display()))?;
            if keys.artifact_signing_key.is_empty() {
                keys.artifact_signing_key = random_hex();
                keys.save(file)?;
            }
            return Ok(keys);
        }
        let keys = Self {
            functions_login: format!("millrace_app_{:08x}", rand::random::<u32>()),
            functions_password: random_hex(),
            supabase_jwt_secret: random_hex(),
            collab_api_key: random_hex(),
            service_api_key: String::new(),
            tick_key: String::new(),
            artifact_signing_key: random_hex(),
        };
        keys.save(file)?;
        Ok(keys)
    }

    fn save(&self, file: &Path) -> Result<()> {
        write_private(file, &serde_json::to_string_pretty(self)?)
    }

    /// Makes sure that the database knows the stored keys, which another one than that of the last run does not. Returns whether
    /// it made any.
    async fn store(&mut self, owner_url: &str) -> Result<bool> {
        let client = crate::database::connect(owner_url).await?;
        // Several installations may share a database: what they call their keys is their own, like the login.
        let login = &self.functions_login;
        let mut made = false;
        for (key, what_for, scopes) in [
            (
                &mut self.service_api_key,
                "service",
                ["enqueue", "work"].as_slice(),
            ),
            (&mut self.tick_key, "tick", &["tick"]),
        ] {
            made |= store_key(&client, key, &format!("{login} {what_for}"), scopes).await?;
        }
        Ok(made)
    }
}

/// Replaces `key` by a new one called `name`, unless it is good for exactly these scopes. Returns whether it did.
async fn store_key(client: &Client, key: &mut String, name: &str, scopes: &[&str]) -> Result<bool> {
    let is_good = "select exists (select from millrace.api_key k
                    where k.digest = sha256(convert_to($1, 'UTF8')) and k.scopes @> $2 and k.scopes <@ $2
                      and k.revoked_at is null and (k.expires_at > millrace.clock()) is not false)";
    if client.query_one(is_good, &[&*key, &scopes]).await?.get(0) {
        return Ok(false);
    }
    // One of that name is an earlier one that nobody has any more.
    let make = "select millrace.create_api_key($1, $2)
                  from (select count(millrace.revoke_api_key(k.name)) from millrace.api_key k
                         where k.name = $1 and k.revoked_at is null) as revoked";
    *key = client.query_one(make, &[&name, &scopes]).await?.get(0);
    Ok(true)
}

/// 256 random bits.
fn random_hex() -> String {
    format!(
        "{:032x}{:032x}",
        rand::random::<u128>(),
        rand::random::<u128>()
    )
}

/// Writes a file that its owner alone may read. It is whole at any time, whatever ends this: what is new is written beside it, and takes its
/// place then.
fn write_private(file: &Path, text: &str) -> Result<()> {
    let beside = file.with_added_extension("new");
    let mut open = fs::OpenOptions::new();
    let mut handle = open
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .with_context(|| beside.display().to_string())?;
    handle.set_permissions(fs::Permissions::from_mode(0o600))?;
    handle.write_all(text.as_bytes())?;
    handle.sync_all()?;
    fs::rename(&beside, file).with_context(|| file.display().to_string())
}

/// What a shell needs to talk to the running application.
struct Exports {
    url: String,
    database_url: String,
    token: String,
    variables: BTreeMap<String, String>,
    keys: Keys,
    open: bool,
}

impl Exports {
    /// The lines that `cargo xtask env` prints.
    fn shell(&self) -> String {
        let api_key = self
            .variables
            .get("collab_api_key")
            .map_or("", String::as_str);
        [
            ("MILLRACE_URL", self.url.as_str()),
            ("TOKEN", &self.token),
            ("COLLAB_API_KEY", api_key),
            ("SERVICE_API_KEY", &self.keys.service_api_key),
            ("SUPABASE_SERVICE_ROLE_KEY", &self.token),
            ("DATABASE_URL", &self.database_url),
        ]
        .map(|(name, value)| format!("export {name}='{}'\n", value.replace('\'', r"'\''")))
        .concat()
    }

    fn greet(&self, exports: &str) {
        let open = match self.open {
            true => {
                "\n  open      to programs of this machine, and to proxies, containers and VMs that reach its loopback: without credentials they act with the API key"
            }
            false => "",
        };
        let api_key = self
            .variables
            .get("collab_api_key")
            .map_or("", String::as_str);
        println!(
            r#"
Millrace serves {url}

  API key   {api_key}
  exports   {exports}     (TOKEN, COLLAB_API_KEY, DATABASE_URL, …){open}

A first job:

  curl -s -H 'x-api-key: {api_key}' -H 'Content-Type: application/json' \
    -d '{{"type":"browser.run","executorId":"demo","payload":{{"url":"https://example.com"}}}}' \
    {url}/api/collab/task.assign

Ctrl-C ends it; what was enqueued is kept.
"#,
            url = self.url,
        );
    }
}

/// The file of exports, there for as long as the application runs.
struct ExportsFile(PathBuf);

impl ExportsFile {
    fn write(file: &Path, exports: &Exports) -> Result<Self> {
        write_private(file, &exports.shell())?;
        Ok(Self(file.to_owned()))
    }
}

impl Drop for ExportsFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// The address behind `HOST:PORT`, where the host may be a name such as `localhost`.
///
/// # Errors
/// It can't be read, or the name is not known.
pub async fn resolve(listen: &str) -> Result<SocketAddr> {
    let mut addresses = tokio::net::lookup_host(listen)
        .await
        .with_context(|| format!("{listen:?} is no address to listen on (HOST:PORT)"))?;
    addresses
        .next()
        .with_context(|| format!("{listen:?} has no address"))
}

/// Where `tick`, and what wakes channels, finds the application that listens on `address`: the values of its variables, as [`ServeOptions::at_address`] wants them.
pub fn tick_at(address: SocketAddr) -> Vec<(&'static str, String)> {
    let mut reached = address;
    if address.ip().is_unspecified() {
        reached.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    vec![
        ("tick_host", format!("http://{reached}")),
        (
            "tick_url",
            format!("http://{reached}/functions/v1/cron-enqueue"),
        ),
        ("wake_host", format!("http://{reached}")),
        ("wake_url", format!("http://{reached}")),
    ]
}

/// Without a key, a token secret or a URL of keys the functions let hardly anybody in: better said now than by each request. On a
/// loopback address they may be configured later.
///
/// # Errors
/// None is set, and the address can be reached from elsewhere (contract: the server refuses to start).
pub fn refuse_open_door(listen: SocketAddr) -> Result<()> {
    let names = ["collab_api_key", "supabase_jwt_secret", "collab_jwks_url"];
    let is_set = |name| from_environment(name).is_some_and(|value| !value.is_empty());
    if listen.ip().is_loopback() || names.into_iter().any(is_set) {
        return Ok(());
    }
    bail!(
        "no key and no token secret is configured: set SPIN_VARIABLE_COLLAB_API_KEY, SPIN_VARIABLE_SUPABASE_JWT_SECRET or SPIN_VARIABLE_COLLAB_JWKS_URL"
    )
}

/// Returns on Ctrl-C or SIGTERM.
pub async fn wait_for_end() -> Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        ended = tokio::signal::ctrl_c() => ended?,
        _ = terminate.recv() => (),
    }
    Ok(())
}
