//! The application under test: served by the project's own host in this process over a fresh database, or whatever
//! answers at `MILLRACE_AGAINST`. With `MILLRACE_DATABASE=postgrest` the application has no connection to its database: it calls
//! another instance of itself, whose `/rpc` stands in for a PostgREST.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use millrace::database::outbound_host;
use millrace::serve::{Host, Limits, ServeOptions, Server};
use millrace::up::tick_at;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::api::Api;
use crate::database::Database;
use crate::keys::{API_KEY, JWT_SECRET, token};

static HOST: OnceCell<Host> = OnceCell::const_new();

/// The host that all tests of this run share: components are compiled once.
pub async fn host() -> &'static Host {
    HOST.get_or_init(|| async { Host::new(Limits::default()).expect("a wasmtime engine") })
        .await
}

/// The project's manifest.
pub fn manifest() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../spin.toml")
}

/// The application and its database, a test's own.
pub struct App {
    pub database: Database,
    pub api: Api,
    server: Server,
    postgrest: Option<Server>,
}

impl App {
    /// Serves the project's manifest with an API key and a token secret, both of which work.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with some variables set otherwise.
    pub async fn start_with(variables: &[(&str, &str)]) -> Self {
        let database = Database::fresh().await;
        Self::serve(database, variables).await
    }

    /// Serves over a database that is there already.
    pub async fn serve(database: Database, variables: &[(&str, &str)]) -> Self {
        Self::serve_manifest(manifest(), database, variables).await
    }

    /// Serves the project's manifest under other limits than the host's own.
    pub async fn start_limited(limits: Limits) -> Self {
        Self::serve_limited(manifest(), Database::fresh().await, &[], limits).await
    }

    /// Serves a manifest that has the variables of the project's own.
    pub async fn serve_manifest(
        manifest: PathBuf,
        database: Database,
        variables: &[(&str, &str)],
    ) -> Self {
        Self::serve_limited(manifest, database, variables, Limits::default()).await
    }

    /// The same under other limits than the host's own.
    pub async fn serve_limited(
        manifest: PathBuf,
        database: Database,
        variables: &[(&str, &str)],
        limits: Limits,
    ) -> Self {
        let postgrest = match database_is_behind_postgrest() {
            true => Some(serve_as_postgrest(&database).await),
            false => None,
        };
        let mut known = reaching(&database);
        if let Some(postgrest) = &postgrest {
            let host = format!("http://{}", postgrest.addr());
            known.insert("database_url".to_owned(), format!("{host}/rest/v1"));
            known.insert("database_host".to_owned(), host);
            known.insert("database_service_key".to_owned(), token("service_role"));
        }
        known.extend(
            variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        let server = host()
            .await
            .serve(ServeOptions {
                limits,
                ..options(manifest, known)
            })
            .await
            .expect("the application serves");
        let api = Api::new(&format!("http://{}", server.addr()), API_KEY);
        Self {
            database,
            api,
            server,
            postgrest,
        }
    }

    /// Ends the server gracefully.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }

    /// Ends the server at once, with whatever it has in hand, and gives the database back.
    pub fn cut_off(self) -> Database {
        self.database
    }

    /// The server itself.
    pub fn server(&self) -> &Server {
        &self.server
    }
}

/// Whether this run has the application reach its database through `/rpc` alone.
fn database_is_behind_postgrest() -> bool {
    match std::env::var("MILLRACE_DATABASE").as_deref() {
        Ok("postgrest") => true,
        Ok("postgres") | Err(_) => false,
        Ok(other) => panic!("MILLRACE_DATABASE is postgres or postgrest, not {other}"),
    }
}

/// Another instance of the project's own application, with a connection to the database.
async fn serve_as_postgrest(database: &Database) -> Server {
    let served = host().await.serve(options(manifest(), reaching(database)));
    served.await.expect("the stand-in for PostgREST serves")
}

/// The variables of an application that connects to the database, and knows the harness's keys.
fn reaching(database: &Database) -> BTreeMap<String, String> {
    let url = database.functions_url();
    let host = outbound_host(&url).expect("the database's address");
    let variables = [
        ("database_url", url.as_str()),
        ("database_host", &host),
        ("supabase_jwt_secret", JWT_SECRET),
        ("collab_api_key", API_KEY),
    ];
    variables
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

/// Options that read nothing from the environment and take any free port. No cron trigger fires by itself, since what it does would
/// be in other tests' way.
pub fn options(manifest: PathBuf, variables: BTreeMap<String, String>) -> ServeOptions {
    ServeOptions {
        manifest,
        variables,
        use_environment: false,
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        limits: Limits::default(),
        access_log: false,
        cron: false,
        at_address: tick_at,
        local_pass: None,
    }
}

/// What a black-box test may know: a URL, a database and keys. Its queue names are unique, since
/// the instance may be in use by others.
pub struct BlackBox {
    pub api: Api,
    pub database: Database,
    pub token: String,
    _servers: Vec<Server>,
}

impl BlackBox {
    /// The instance at `MILLRACE_AGAINST` (with `DATABASE_URL`, `COLLAB_API_KEY` and `TOKEN`), else one of our own.
    pub async fn reach() -> Self {
        match std::env::var("MILLRACE_AGAINST") {
            Ok(url) => Self {
                api: Api::new(&url, &required("COLLAB_API_KEY")),
                database: Database::open(&required("DATABASE_URL")).await,
                token: required("TOKEN"),
                _servers: Vec::new(),
            },
            Err(_) => {
                let App {
                    database,
                    api,
                    server,
                    postgrest,
                } = App::start().await;
                Self {
                    api,
                    database,
                    token: token("service_role"),
                    _servers: [server].into_iter().chain(postgrest).collect(),
                }
            }
        }
    }

    /// A queue name that nobody else uses.
    pub fn queue(&self) -> String {
        format!("test-{}", Uuid::new_v4())
    }
}

fn required(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("MILLRACE_AGAINST needs {name} as well: eval \"$(cargo xtask env)\"")
    })
}
