//! Serves an application: reads its manifest, settles its variables, compiles its components, and listens.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::compose::{Parts, compose};
use crate::cron::Schedules;
use crate::local_pass::{LocalPass, require_loopback};
use crate::manifest::{self, Manifest};
use crate::routes::Routes;
use crate::runtime::component::{Component, CronComponent, HttpComponent};
use crate::runtime::engine::{Compiler, Program};
use crate::runtime::worker::Phase;
use crate::server::Application;
use crate::variables::Values;

/// What is served and how.
pub struct ServeOptions {
    /// The path of `spin.toml`; component sources resolve relative to its folder.
    pub manifest: PathBuf,
    /// Values of application variables; they win over the environment and over the manifest's defaults.
    pub variables: BTreeMap<String, String>,
    /// Whether `SPIN_VARIABLE_*` of the environment count too.
    pub use_environment: bool,
    /// Where to listen; port 0 is any free port.
    pub listen: SocketAddr,
    /// What components and clients may use up.
    pub limits: Limits,
    /// Whether each request is logged.
    pub access_log: bool,
    /// Whether cron triggers fire by themselves; [`Server::fire_cron`] runs them either way.
    pub cron: bool,
    /// Values of variables that name the address on which it listens. They take the place of defaults in the manifest that name
    /// [`USUAL_ADDRESS`]; a default that names another place was put there by somebody, and stays.
    pub at_address: fn(SocketAddr) -> Vec<(&'static str, String)>,
    /// What requests of this machine's programs are given that show no credentials. Only on a loopback address.
    pub local_pass: Option<LocalPass>,
}

/// Where an application is served unless something else is asked for, and what a manifest's defaults may therefore name.
pub const USUAL_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3000);

/// What components and clients may use up.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From a request's arrival to the head of its response; then it is answered 504.
    pub request_timeout: Duration,
    /// How long a response may go on streaming after its head.
    pub stream_timeout: Duration,
    /// How long one run of a cron trigger may take.
    pub cron_timeout: Duration,
    /// For each step of an outbound HTTP request: connecting, waiting for the head, waiting for more.
    pub outbound_timeout: Duration,
    /// How long a client may take to send a request's head, idle time between requests included.
    pub header_timeout: Duration,
    /// How long what was sent to a client may wait for it to take it, before its connection is closed; it is what frees the place
    /// of somebody who follows a stream and stopped reading, or fell asleep. Linux only.
    pub unread_timeout: Duration,
    /// The most that a request's head may have, in bytes.
    pub header_bytes: usize,
    /// The most that a request's body may have, in bytes.
    pub body_bytes: usize,
    /// All linear memory of an instance, in bytes. Counts for the pool when given to [`Host::new`].
    pub memory_bytes: usize,
    /// Requests at work at once in a server; more wait.
    pub concurrent_requests: usize,
    /// Responses of a component that are still streaming after their heads; more are refused. They are bounded because each
    /// holds a client connection, and may do so for long.
    pub streams_per_component: usize,
    /// Open client connections at once in a server; more wait to be accepted.
    pub client_connections: usize,
    /// Pooled Postgres connections for each component and address.
    pub pg_connections_per_component: usize,
    /// Requests that an instance serves in its life.
    pub requests_per_instance: usize,
    /// Requests that an instance serves at once.
    pub concurrent_per_instance: usize,
    /// How long an instance waits for another request.
    pub idle_instance_timeout: Duration,
    /// How long a shutdown waits for what is still at work.
    pub shutdown_grace: Duration,
}

/// Instances are reused as Spin reuses them: 128 requests, 16 at once, a second idle.
impl Default for Limits {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(30),
            stream_timeout: Duration::from_secs(600),
            cron_timeout: Duration::from_secs(300),
            outbound_timeout: Duration::from_secs(60),
            header_timeout: Duration::from_secs(60),
            unread_timeout: Duration::from_secs(30),
            header_bytes: 64 * 1024,
            body_bytes: 8 * 1024 * 1024,
            memory_bytes: 256 * 1024 * 1024,
            concurrent_requests: 512,
            streams_per_component: 256,
            client_connections: 1024,
            pg_connections_per_component: 16,
            requests_per_instance: 128,
            concurrent_per_instance: 16,
            idle_instance_timeout: Duration::from_secs(1),
            shutdown_grace: Duration::from_secs(10),
        }
    }
}

/// Serves applications on one engine, so that many servers in a process compile each component once.
pub struct Host {
    compiler: Compiler,
}

impl Host {
    /// A host with wasmtime's own cache folder. Instances of all its servers together have a pool of memory, for
    /// which only `memory_bytes` of `limits` counts.
    ///
    /// # Errors
    /// An engine that this machine can't have.
    pub fn new(limits: Limits) -> Result<Self> {
        Ok(Self {
            compiler: Compiler::new(limits.memory_bytes, None)?,
        })
    }

    /// A host that keeps compiled code in a folder of the caller's.
    ///
    /// # Errors
    /// As [`Host::new`], and a folder that can't be used.
    pub fn with_cache(limits: Limits, folder: PathBuf) -> Result<Self> {
        Ok(Self {
            compiler: Compiler::new(limits.memory_bytes, Some(folder))?,
        })
    }

    /// Serves an application; returns once it listens and every component is ready.
    ///
    /// # Errors
    /// A manifest, a variable or a component that is not right, an address that can't be listened on, or that others reach where there is a local pass.
    pub async fn serve(&self, options: ServeOptions) -> Result<Server> {
        if options.local_pass.is_some() {
            require_loopback(options.listen)?;
        }
        let mut manifest = Manifest::load(&options.manifest)?;
        let environment = |key: &str| match options.use_environment {
            true => std::env::var(key).ok(),
            false => None,
        };
        let routes = Routes::build(&manifest.http)?;
        // Before the variables are settled: some may name the port that it gets.
        let listener = TcpListener::bind(options.listen)
            .await
            .with_context(|| format!("cannot listen on {}", options.listen))?;
        let addr = listener.local_addr()?;
        let mut declared = std::mem::take(&mut manifest.variables);
        let usual = (options.at_address)(USUAL_ADDRESS).into_iter();
        for ((name, value), (_, usual)) in (options.at_address)(addr).into_iter().zip(usual) {
            if let Some(variable) = declared.get_mut(name)
                && variable.default.as_ref() == Some(&usual)
            {
                variable.default = Some(value);
            }
        }
        let values = Values::settle(&declared, &options.variables, environment)?;
        let (phase, phase_seen) = watch::channel(Phase::Serving);
        let own_address = Arc::new(OnceLock::new());

        let mut components = Vec::new();
        let mut http = BTreeMap::new();
        let mut cron = BTreeMap::new();
        for (id, described) in &manifest.components {
            let place = || format!("component {id} ({})", described.source.display());
            let program = self.compile(id, described).await.with_context(place)?;
            let (limits, own) = (options.limits.clone(), own_address.clone());
            let component = Arc::new(Component::new(id, described, &values, limits, own)?);
            components.push(component.clone());
            if manifest.http.iter().any(|trigger| trigger.component == *id) {
                let phase = phase_seen.clone();
                let ready = HttpComponent::new(component.clone(), &self.compiler, &program, phase);
                http.insert(id.clone(), ready.with_context(place)?);
            }
            if manifest.cron.iter().any(|trigger| trigger.component == *id) {
                let ready = CronComponent::new(component, &self.compiler, &program);
                cron.insert(id.clone(), Arc::new(ready.with_context(place)?));
            }
        }
        let mut schedules = Schedules::new(&manifest.cron, cron)?;
        _ = own_address.set(addr);
        let grace = options.limits.shutdown_grace;
        let local_pass = options.local_pass.map(|pass| (pass, addr.port()));
        let (limits, access_log) = (options.limits, options.access_log);
        let application = Application::new(routes, http, limits, access_log, local_pass);
        let accepting = tokio::spawn(application.accept(listener, phase.subscribe()));
        // Last: what a trigger runs may call this very server.
        if options.cron {
            schedules.start();
        }
        Ok(Server {
            addr,
            manifest,
            values,
            phase,
            accepting,
            schedules,
            components,
            grace,
        })
    }

    async fn compile(&self, id: &str, described: &manifest::Component) -> Result<Arc<Program>> {
        let mut parts = Parts {
            main: read(&described.source).await?,
            dependencies: Vec::new(),
        };
        for dependency in &described.dependencies {
            let source = &dependency.source;
            let place = || format!("its dependency {} ({})", dependency.name, source.display());
            parts
                .dependencies
                .push(read(source).await.with_context(place)?);
        }
        self.compiler.compile(compose(id, described, parts)?).await
    }
}

async fn read(source: &Path) -> Result<Vec<u8>> {
    let wasm = tokio::fs::read(source).await;
    wasm.context("cannot read it: is it built?")
}

/// Serves one application on an engine of its own; see [`Host`] for more than one.
///
/// # Errors
/// As [`Host::new`] and [`Host::serve`].
pub async fn serve(options: ServeOptions) -> Result<Server> {
    Host::new(options.limits.clone())?.serve(options).await
}

/// An application being served, until it is shut down or dropped.
pub struct Server {
    addr: SocketAddr,
    manifest: Manifest,
    values: Values,
    phase: watch::Sender<Phase>,
    accepting: JoinHandle<()>,
    schedules: Schedules,
    components: Vec<Arc<Component>>,
    grace: Duration,
}

impl Server {
    /// The address it listens on, the port filled in.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it serves; without `variables`, whose values are settled.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The value of an application variable.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.values.get(name)
    }

    /// Runs a component's cron handler once, now, as its trigger would.
    ///
    /// # Errors
    /// No cron trigger names it; or what the run failed with.
    pub async fn fire_cron(&self, component: &str) -> Result<()> {
        self.schedules.fire(component).await
    }

    /// Waits for as long as it serves: in the ordinary way for ever.
    ///
    /// # Errors
    /// It no longer accepts connections.
    pub async fn run(&mut self) -> Result<()> {
        (&mut self.accepting).await?;
        Err(anyhow!("the server on {} has stopped accepting", self.addr))
    }

    /// Stops accepting, lets what is at work finish within the grace, then ends the rest.
    pub async fn shutdown(mut self) {
        self.schedules.stop();
        self.phase.send_replace(Phase::Draining);
        let at_work = async {
            _ = (&mut self.accepting).await;
            self.schedules.ended().await;
        };
        if tokio::time::timeout(self.grace, at_work).await.is_err() {
            tracing::warn!("work that went on after {:?} is cut off", self.grace);
        }
    }
}

/// A server that is dropped without a shutdown ends at once.
impl Drop for Server {
    fn drop(&mut self) {
        self.schedules.stop();
        self.accepting.abort();
        self.phase.send_replace(Phase::Ended);
        for component in &self.components {
            component.databases.close();
        }
    }
}
