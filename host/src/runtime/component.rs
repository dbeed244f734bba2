//! A component of a running application: what its instances may see and use, and how a request gets its answer
//! from one of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use hyper::body::Body;
use tokio::sync::{Semaphore, watch};
use wasmtime::PoolConcurrencyLimitError;
use wasmtime_wasi_http::WasiBody;
use wasmtime_wasi_http::handler::{
    ExpirationError, InstantiationError, ProxyHandler, TrapOrPanicError,
};

use super::engine::{Compiler, Program};
use super::instance::InstanceState;
use super::worker::{Phase, Ticket, Workers, one_line};
use crate::channels::has_handler;
use crate::manifest::{self, Mount};
use crate::outbound::AllowedHosts;
use crate::postgres::Pools;
use crate::serve::Limits;
use crate::variables::{Name, Values};

/// How long a failed request waits to be told what ended its instance.
const CAUSE_TIMEOUT: Duration = Duration::from_secs(1);

/// All that instances of a component share. Its variables may be secrets, so it has no Debug.
pub struct Component {
    /// Its id in the manifest.
    pub id: Arc<str>,
    /// What `spin:variables` answers.
    pub variables: BTreeMap<Name, String>,
    /// The guest's environment.
    pub environment: BTreeMap<String, String>,
    /// The hosts it may call.
    pub hosts: Arc<AllowedHosts>,
    /// The folders it may read, seen as they are at any time.
    pub files: Vec<Mount>,
    /// Its connections to Postgres.
    pub databases: Pools,
    /// Where the application listens; set once it does.
    pub own_address: Arc<OnceLock<SocketAddr>>,
    /// What its instances may use up; a channel has less than others.
    pub limits: Limits,
}

impl Component {
    /// Resolves a component of the manifest.
    ///
    /// # Errors
    /// An allowed host that is not one once its variables are filled in (the error shows the template), or a
    /// mounted folder that is not there.
    pub fn new(
        id: &str,
        component: &manifest::Component,
        values: &Values,
        mut limits: Limits,
        own_address: Arc<OnceLock<SocketAddr>>,
    ) -> Result<Self> {
        // What a channel does behind an answer is a run, which has a request's time; it streams nothing.
        if has_handler(component) {
            limits.stream_timeout = limits.request_timeout;
        }
        let mut hosts = Vec::new();
        for template in &component.allowed_outbound_hosts {
            let host = template.resolve(values)?;
            let place = || format!("component.{id}.allowed_outbound_hosts: {template}");
            // Parsed one by one only to say which template it was.
            AllowedHosts::parse(&[&host]).with_context(place)?;
            hosts.push(host);
        }
        let variables = component
            .variables
            .iter()
            .map(|(name, template)| Ok((name.clone(), template.resolve(values)?)))
            .collect::<Result<_>>()?;
        for mount in &component.files {
            mount
                .check()
                .with_context(|| format!("in component.{id}.files"))?;
        }
        let id: Arc<str> = id.into();
        let hosts = Arc::new(AllowedHosts::parse(&hosts)?);
        let size = limits.pg_connections_per_component;
        Ok(Self {
            databases: Pools::new(id.clone(), hosts.clone(), size, limits.request_timeout),
            id,
            variables,
            environment: component.environment.clone(),
            files: component.files.clone(),
            hosts,
            own_address,
            limits,
        })
    }
}

/// Why a request has no answer from its component.
pub enum Failure {
    /// It took too long.
    TimedOut,
    /// No instance, or no place for another stream, can be had just now.
    Overloaded,
    /// The guest trapped, or gave an error for an answer; the text is for the log alone.
    Internal(Arc<str>),
}

/// A component that answers requests.
pub struct HttpComponent {
    /// What it is.
    pub component: Arc<Component>,
    workers: ProxyHandler<Workers>,
    /// Places for responses that stream.
    streams: Arc<Semaphore>,
}

impl HttpComponent {
    /// Makes a compiled component ready to answer.
    ///
    /// # Errors
    /// The component has no http handler.
    pub fn new(
        component: Arc<Component>,
        compiler: &Compiler,
        program: &Program,
        phase: watch::Receiver<Phase>,
    ) -> Result<Self> {
        let workers = ProxyHandler::new(Workers {
            component: component.clone(),
            handler: program.http()?,
            engine: compiler.engine().clone(),
            phase,
        });
        Ok(Self {
            streams: Arc::new(Semaphore::new(component.limits.streams_per_component)),
            component,
            workers,
        })
    }

    /// Has an instance answer a request.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn handle(
        &self,
        request: http::Request<WasiBody>,
    ) -> Result<http::Response<WasiBody>, Failure> {
        let ticket = Ticket::default();
        let answer = self.workers.handle(ticket.clone(), request);
        match tokio::time::timeout(self.component.limits.request_timeout, answer).await {
            Err(_) => Err(Failure::TimedOut),
            Ok(Ok(response)) => self.place(response),
            Ok(Err(error)) => Err(failure(error, ticket).await),
        }
    }

    /// Gives a response that streams a place until its body ends or the client goes away. Only its head tells that it does, so
    /// a component with all places taken still runs; the guest hears that nobody reads when it next writes.
    fn place(
        &self,
        response: http::Response<WasiBody>,
    ) -> Result<http::Response<WasiBody>, Failure> {
        if response.body().size_hint().exact().is_some() {
            return Ok(response);
        }
        let Ok(place) = self.streams.clone().try_acquire_owned() else {
            return Err(Failure::Overloaded);
        };
        Ok(response.map(|body| {
            let held = body.map_frame(move |frame| {
                let _ = &place; // dropped with the body
                frame
            });
            held.boxed_unsync()
        }))
    }
}

async fn failure(error: wasmtime::Error, ticket: Ticket) -> Failure {
    if error.is::<ExpirationError>() {
        return Failure::TimedOut;
    }
    if let Some(instantiation) = error.downcast_ref::<InstantiationError<Ticket>>() {
        return if instantiation.error.is::<PoolConcurrencyLimitError>() {
            Failure::Overloaded
        } else {
            Failure::Internal(one_line(&instantiation.error))
        };
    }
    if !error.is::<TrapOrPanicError>() {
        return Failure::Internal(one_line(&error));
    }
    // The trap itself goes to the instance's keeper, which tells everyone whose request it took down.
    let unknown = || Failure::Internal("the instance ended for an unknown cause".into());
    let Some(mut end) = ticket.instance() else {
        return unknown();
    };
    let told = tokio::time::timeout(CAUSE_TIMEOUT, end.wait_for(Option::is_some)).await;
    match told {
        Ok(Ok(cause)) => cause.clone().map_or_else(unknown, Failure::Internal),
        _ => unknown(),
    }
}

/// A component that a cron trigger runs.
pub struct CronComponent {
    /// What it is.
    pub component: Arc<Component>,
    handler: super::bindings::cron::SpinCronPre<InstanceState>,
    engine: wasmtime::Engine,
}

impl CronComponent {
    /// Makes a compiled component ready to be run.
    ///
    /// # Errors
    /// The component has no cron handler.
    pub fn new(component: Arc<Component>, compiler: &Compiler, program: &Program) -> Result<Self> {
        Ok(Self {
            component,
            handler: program.cron()?,
            engine: compiler.engine().clone(),
        })
    }

    /// Runs it once in an instance of its own; `timestamp` is in seconds since 1970.
    ///
    /// # Errors
    /// A trap, an error that the guest returned, or the time limit.
    pub async fn run(&self, timestamp: u64) -> Result<()> {
        use super::bindings::cron::fermyon::spin_cron::cron_types::{Error, Metadata};
        let run = async {
            let mut store = InstanceState::store(&self.engine, self.component.clone())?;
            let instance = self.handler.instantiate_async(&mut store).await?;
            let event = Metadata { timestamp };
            instance.call_handle_cron_event(&mut store, event).await
        };
        let limit = self.component.limits.cron_timeout;
        let outcome = tokio::time::timeout(limit, run)
            .await
            .with_context(|| format!("still running after {limit:?}"))?;
        match outcome {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Error::Other(why))) => anyhow::bail!("the component says: {why}"),
            Err(trap) => Err(anyhow::anyhow!(trap).context("the component trapped")),
        }
    }
}
