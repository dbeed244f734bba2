//! A component's connections to Postgres: one bounded pool for each address that it uses.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::outbound::AllowedHosts;
use crate::runtime::bindings::imports::spin::postgres::postgres::Error;

/// A guest may use many addresses (they carry user and options): the pools of the oldest are dropped.
const MOST_ADDRESSES: usize = 16;

/// How long connecting, or looking whether a pooled connection still lives, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The pools of one component.
pub struct Pools {
    component: Arc<str>,
    hosts: Arc<AllowedHosts>,
    /// Connections for each address.
    size: usize,
    /// How long to wait for a free one.
    wait: Duration,
    pools: Mutex<Vec<(Address, Pool)>>,
}

/// A connection string and the authority to trust, as the guest gave them.
type Address = (String, Option<String>);

impl Pools {
    /// Pools that hold `size` connections for each address, each waited for no longer than `wait`.
    pub fn new(component: Arc<str>, hosts: Arc<AllowedHosts>, size: usize, wait: Duration) -> Self {
        Self {
            component,
            hosts,
            size,
            wait,
            pools: Mutex::default(),
        }
    }

    /// Takes a connection to `address`, a libpq connection string or URL.
    ///
    /// # Errors
    /// An address that can't be parsed or isn't allowed, no connection to be had in time.
    pub async fn lease(&self, address: &str, ca_root: Option<&str>) -> Result<Arc<Lease>, Error> {
        let config: Config = address
            .parse()
            .map_err(|error| Error::ConnectionFailed(causes(&error)))?;
        self.check_allowed(&config)?;
        let pool = self.pool(address, ca_root, config)?;
        let connection = pool.get().await.map_err(|error| {
            let why = causes(&error);
            // Users and hosts may stand in it, passwords don't.
            tracing::warn!(component = %self.component, "no connection to Postgres: {why}");
            Error::ConnectionFailed(why)
        })?;
        Ok(Arc::new(Lease {
            connection: Some(connection),
            abandoned: AtomicBool::new(false),
        }))
    }

    fn check_allowed(&self, config: &Config) -> Result<(), Error> {
        let refused = |why: String| Err(Error::ConnectionFailed(why));
        // This would be connected to in place of the host that is checked below.
        if !config.get_hostaddrs().is_empty() {
            return refused("hostaddr is not supported".to_owned());
        }
        let ports = config.get_ports();
        for (index, host) in config.get_hosts().iter().enumerate() {
            let Host::Tcp(host) = host else {
                return refused("Unix sockets are not supported on WebAssembly".to_owned());
            };
            let port = ports.get(index).or(match ports {
                [only] => Some(only),
                _ => None,
            });
            if !self.hosts.allows("postgres", host, port.copied()) {
                tracing::warn!(component = %self.component, host, port,
                    "Postgres refused: not in allowed_outbound_hosts");
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                return refused(format!("address postgres://{host}{port} is not permitted"));
            }
        }
        Ok(())
    }

    fn pool(&self, address: &str, ca_root: Option<&str>, config: Config) -> Result<Pool, Error> {
        let mut pools = self
            .pools
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let known = pools
            .iter()
            .find(|((known, ca), _)| known == address && ca.as_deref() == ca_root);
        if let Some((_, pool)) = known {
            return Ok(pool.clone());
        }
        let pool = self.create(config, ca_root)?;
        if pools.len() == MOST_ADDRESSES {
            pools.remove(0);
        }
        let key = (address.to_owned(), ca_root.map(str::to_owned));
        pools.push((key, pool.clone()));
        Ok(pool)
    }

    fn create(&self, mut config: Config, ca_root: Option<&str>) -> Result<Pool, Error> {
        if config
            .get_connect_timeout()
            .is_none_or(|timeout| *timeout > CONNECT_TIMEOUT)
        {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        // As Spin does: settings, locks and temporary tables of the last holder are cleared when a connection is
        // taken again, which also finds the dead ones; a transaction left open is not rolled back.
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Clean,
        };
        let manager = if config.get_ssl_mode() == SslMode::Disable {
            Manager::from_config(config, tokio_postgres::NoTls, recycling)
        } else {
            Manager::from_config(config, tls(ca_root)?, recycling)
        };
        Pool::builder(manager)
            .max_size(self.size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(self.wait))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .recycle_timeout(Some(CONNECT_TIMEOUT))
            .build()
            .map_err(|error| Error::Other(error.to_string()))
    }

    /// Closes every pooled connection.
    pub fn close(&self) {
        let pools = self
            .pools
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        for (_, pool) in pools.iter() {
            pool.close();
        }
    }
}

/// A connection while a guest holds it.
pub struct Lease {
    connection: Option<Object>,
    abandoned: AtomicBool,
}

impl Lease {
    /// The connection.
    pub fn client(&self) -> Result<&tokio_postgres::Client, Error> {
        let gone = || Error::ConnectionFailed("the connection is gone".to_owned());
        Ok(self.connection.as_ref().ok_or_else(gone)?)
    }
}

/// A connection whose statement was not waited for is closed: it may run for long, and the next holder would wait.
impl Drop for Lease {
    fn drop(&mut self) {
        if self.abandoned.load(Ordering::Relaxed)
            && let Some(connection) = self.connection.take()
        {
            drop(Object::take(connection));
        }
    }
}

/// Marks a lease abandoned unless its statement came to an end.
pub struct Running {
    lease: Arc<Lease>,
    ended: bool,
}

impl Running {
    /// A statement starts on this connection.
    pub fn start(lease: Arc<Lease>) -> Self {
        Self {
            lease,
            ended: false,
        }
    }

    /// The statement has ended, well or badly.
    pub fn end(&mut self) {
        self.ended = true;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.lease.abandoned.store(true, Ordering::Relaxed);
        }
    }
}

/// An error with all its causes: the outermost alone often says only "db error".
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Whether a guest's text is a certificate (PEM) that can be trusted as a root.
///
/// # Errors
/// It is not.
pub fn check_certificate(pem: &str) -> Result<(), Error> {
    roots(pem).map(drop)
}

fn roots(pem: &str) -> Result<rustls::RootCertStore, Error> {
    let invalid = |why: String| Error::Other(format!("invalid root certificate: {why}"));
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| invalid(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| invalid(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(invalid("no certificate found".to_owned()));
    }
    Ok(roots)
}

/// How TLS is spoken with a server: trusting `ca_root` (PEM), or else the web's usual authorities.
///
/// # Errors
/// `ca_root` is no certificate.
pub fn tls(ca_root: Option<&str>) -> Result<MakeRustlsConnect, Error> {
    let roots = match ca_root {
        Some(pem) => roots(pem)?,
        None => rustls::RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.into(),
        },
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Other(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
