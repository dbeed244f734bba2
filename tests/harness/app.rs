//! The application under test: served by the project's own host in this process over a fresh database, or whatever
//! answers at `MILLRACE_AGAINST`.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use millrace::database::outbound_host;
use millrace::serve::{Host, Limits, ServeOptions, Server};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::api::Api;
use crate::database::Database;
use crate::keys::{API_KEY, JWT_SECRET};

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

    async fn serve_limited(
        manifest: PathBuf,
        database: Database,
        variables: &[(&str, &str)],
        limits: Limits,
    ) -> Self {
        let functions_url = database.functions_url();
        let database_host = outbound_host(&functions_url).expect("the database's address");
        let defaults = [
            ("database_url", functions_url.as_str()),
            ("database_host", &database_host),
            ("supabase_jwt_secret", JWT_SECRET),
            ("collab_api_key", API_KEY),
        ];
        let variables: BTreeMap<String, String> = defaults
            .iter()
            .chain(variables)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let server = host()
            .await
            .serve(ServeOptions {
                limits,
                ..options(manifest, variables)
            })
            .await
            .expect("the application serves");
        let api = Api::new(&format!("http://{}", server.addr()), API_KEY);
        Self {
            database,
            api,
            server,
        }
    }

    /// Ends the server gracefully.
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }

    /// The server itself.
    pub fn server(&self) -> &Server {
        &self.server
    }
}

/// Options that read nothing from the environment and take any free port.
pub fn options(manifest: PathBuf, variables: BTreeMap<String, String>) -> ServeOptions {
    ServeOptions {
        manifest,
        variables,
        use_environment: false,
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        limits: Limits::default(),
        access_log: false,
    }
}

/// What a black-box test may know: a URL, a database and keys. Its queue names are unique, since
/// the instance may be in use by others.
pub struct BlackBox {
    pub api: Api,
    pub database: Database,
    pub token: String,
    _app: Option<Server>,
}

impl BlackBox {
    /// The instance at `MILLRACE_AGAINST` (with `DATABASE_URL`, `COLLAB_API_KEY` and `TOKEN`), else one of our own.
    pub async fn reach() -> Self {
        match std::env::var("MILLRACE_AGAINST") {
            Ok(url) => Self {
                api: Api::new(&url, &required("COLLAB_API_KEY")),
                database: Database::open(&required("DATABASE_URL")).await,
                token: required("TOKEN"),
                _app: None,
            },
            Err(_) => {
                let App {
                    database,
                    api,
                    server,
                } = App::start().await;
                Self {
                    api,
                    database,
                    token: crate::keys::token("service_role"),
                    _app: Some(server),
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
