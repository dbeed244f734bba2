//! A fresh database for each test, copied from a migrated template on one private server.
//!
//! The server is a throw-away cluster that ends, and whose folder goes, when this process does, however that happens.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use millrace::cluster::{Cluster, Keep};
use millrace::database::{connect, ensure_functions_login};
use millrace::migrate::migrate;
use millrace::postgres_programs;
use tokio::sync::OnceCell;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use url::Url;

use crate::deadline::eventually;
use crate::program::has_ended;

const TEMPLATE: &str = "millrace_template";

/// The roles that every Supabase database has, without any rights here: what the migrations grant to them, and keep from
/// them, is under test with the rest.
const SUPABASE_ROLES: &str = "do $$
declare
  v_role text;
begin
  foreach v_role in array array['anon', 'authenticated', 'service_role'] loop
    if not exists (select from pg_roles where rolname = v_role) then
      execute format('create role %I nologin', v_role);
    end if;
  end loop;
exception when duplicate_object or unique_violation then
  null; -- another run on this server made it just now
end
$$";

static SERVER: OnceCell<Server> = OnceCell::const_new();
static NAMES: AtomicU32 = AtomicU32::new(0);

/// The server that all tests of this run share.
struct Server {
    owner_url: String,
    functions_url: String,
    _cluster: Option<Cluster>,
}

impl Server {
    /// A private one, or `DATABASE_URL`'s where this machine has no Postgres to run. Not the other way round: in a
    /// shell with the exports of what `up` serves, that one is in use.
    async fn start() -> Result<Self> {
        sweep();
        let (owner_url, cluster) =
            match (postgres_programs::find(None), std::env::var("DATABASE_URL")) {
                (None, Ok(url)) => (url, None),
                _ => {
                    let folder = scratch_folder().join("postgres");
                    let cluster = Cluster::start(&folder, Keep::Throwaway).await?;
                    (cluster.url("postgres"), Some(cluster))
                }
            };
        let client = connect(&owner_url).await?;
        client.batch_execute(SUPABASE_ROLES).await?;
        let template = format!("{TEMPLATE}_{}", std::process::id());
        client
            .batch_execute(&format!("create database {template}"))
            .await?;
        migrate(&with_database(&owner_url, &template)?).await?;
        let login = format!("millrace_test_{}", std::process::id());
        let password = uuid::Uuid::new_v4().to_string();
        let functions_url = ensure_functions_login(&owner_url, &login, &password).await?;
        Ok(Self {
            owner_url,
            functions_url,
            _cluster: cluster,
        })
    }
}

/// A folder of this process's own below the workspace's git-ignored one.
pub fn scratch_folder() -> PathBuf {
    scratch_folders().join(std::process::id().to_string())
}

fn scratch_folders() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .join(".millrace/test")
}

/// Removes the folders of runs that are over: the server removes what is in its own, but outlives its run to do so.
fn sweep() {
    for entry in std::fs::read_dir(scratch_folders())
        .into_iter()
        .flatten()
        .flatten()
    {
        let run = entry.file_name().to_string_lossy().parse();
        if run.is_ok_and(has_ended) {
            _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn with_database(url: &str, database: &str) -> Result<String> {
    let mut url = Url::parse(url).context("DATABASE_URL")?;
    url.set_path(database);
    Ok(url.into())
}

/// A database of one test's own, migrated, seen as its owner.
pub struct Database {
    url: String,
    functions_url: Option<String>,
    client: Client,
}

impl Database {
    /// Makes a fresh one.
    pub async fn fresh() -> Self {
        let server = SERVER
            .get_or_try_init(Server::start)
            .await
            .expect("a Postgres server for the tests");
        let name = format!(
            "millrace_test_{}_{}",
            std::process::id(),
            NAMES.fetch_add(1, Ordering::Relaxed)
        );
        let client = connect(&server.owner_url)
            .await
            .expect("connecting to the server");
        let template = format!("{TEMPLATE}_{}", std::process::id());
        client
            .batch_execute(&format!("create database {name} template {template}"))
            .await
            .expect("a fresh database");
        let url = |of: &str| with_database(of, &name).expect("a URL");
        Self::open(&url(&server.owner_url))
            .await
            .with_functions_url(&url(&server.functions_url))
    }

    /// The URL of another database on the same server, without anything of Millrace in it.
    pub async fn unmigrated(&self) -> String {
        let name = format!(
            "millrace_test_{}_{}_empty",
            std::process::id(),
            NAMES.fetch_add(1, Ordering::Relaxed)
        );
        self.run(&format!("create database {name} template template0"))
            .await;
        with_database(&self.url, &name).expect("a URL")
    }

    /// One that is there already.
    pub async fn open(url: &str) -> Self {
        let client = connect(url).await.expect("connecting to the database");
        Self {
            url: url.to_owned(),
            functions_url: None,
            client,
        }
    }

    /// With what the functions connect to it.
    pub fn with_functions_url(mut self, url: &str) -> Self {
        self.functions_url = Some(url.to_owned());
        self
    }

    /// The owner's connection string.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The connection string of the functions' login role, which may execute `millrace_api` and nothing else.
    pub fn functions_url(&self) -> String {
        self.functions_url
            .clone()
            .expect("a database of the harness's own")
    }

    /// That role's name.
    pub fn functions_login(&self) -> String {
        let url = Url::parse(&self.functions_url()).expect("a URL");
        url.username().to_owned()
    }

    /// Another connection as the owner.
    pub async fn connect(&self) -> Client {
        connect(&self.url)
            .await
            .expect("connecting to the database")
    }

    /// The owner's connection that came with the database.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The only row that the query answers.
    pub async fn one(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Row {
        self.client
            .query_one(sql, parameters)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {}", explain(&e)))
    }

    /// All rows that the query answers.
    pub async fn all(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Vec<Row> {
        self.client
            .query(sql, parameters)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {}", explain(&e)))
    }

    /// Runs statements without parameters.
    pub async fn run(&self, sql: &str) {
        self.client
            .batch_execute(sql)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {}", explain(&e)));
    }

    /// Moves the queue's clock: from now on it is `seconds` ahead of the machine's. It may not go back.
    pub async fn set_clock_ahead(&self, seconds: f64) {
        self.run(&format!(
            "create or replace function millrace.clock() returns timestamptz language sql volatile parallel safe \
             as 'select clock_timestamp() + interval ''{seconds} seconds'''"
        ))
        .await;
    }

    /// Stops the queue's clock at `instant` (a timestamp as text).
    pub async fn stop_clock_at(&self, instant: &str) {
        self.run(&format!(
            "create or replace function millrace.clock() returns timestamptz language sql volatile parallel safe \
             as 'select timestamptz ''{instant}'''"
        ))
        .await;
    }

    /// Replaces `from` by `to` in the body of a function, given by its signature: for tests that show what a rule is for
    /// by breaking it, or that make something happen more often.
    pub async fn rewrite_function(&self, signature: &str, from: &str, to: &str) {
        let definition: String = self
            .one(
                "select pg_get_functiondef($1::text::regprocedure)",
                &[&signature],
            )
            .await
            .get(0);
        assert!(
            definition.contains(from),
            "{signature} has no {from:?} in it any more"
        );
        self.run(&definition.replace(from, to)).await;
    }

    /// Waits until this many sessions of the database wait for a lock.
    pub async fn lock_waiters(&self, sessions: i64) {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        eventually("sessions that wait for a lock", async || {
            (self.one(sql, &[]).await.get::<_, i64>(0) >= sessions).then_some(())
        })
        .await;
    }

    /// Asserts that every job is in exactly one state.
    pub async fn assert_no_job_misplaced(&self) {
        let rows = self
            .all("select job_id, places from millrace.misplaced_jobs()", &[])
            .await;
        let shown: Vec<_> = rows
            .iter()
            .map(|r| (r.get::<_, i64>(0), r.get::<_, Option<Vec<String>>>(1)))
            .collect();
        assert!(rows.is_empty(), "jobs in no state or in two: {shown:?}");
    }
}

/// What Postgres says of an error: SQLSTATE, message, hint.
pub fn explain(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(e) => format!(
            "{} {} (hint: {})",
            e.code().code(),
            e.message(),
            e.hint().unwrap_or("none")
        ),
        None => error.to_string(),
    }
}

/// The machine code (HINT) of an error that the queue raised, with its HTTP status (SQLSTATE `PTnnn`).
pub fn refusal(error: &tokio_postgres::Error) -> (String, String) {
    let e = error
        .as_db_error()
        .unwrap_or_else(|| panic!("not an error of the database's: {error}"));
    (
        e.code().code().to_owned(),
        e.hint().unwrap_or_default().to_owned(),
    )
}
