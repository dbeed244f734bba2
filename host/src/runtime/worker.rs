//! Instances that serve several requests, as Spin keeps them: so many in all, so many at once, and not for long
//! without any. What ends an instance is kept with it, so that each request it took down can be told why.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::Sleep;
use wasmtime::component::GuestTaskId;
use wasmtime::{Store, StoreContextMut};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};

use super::component::Component;
use super::instance::InstanceState;

/// The request's own timer answers the client; the instance's ends what didn't stop by itself, a little later.
const AFTER_TIMEOUT: Duration = Duration::from_millis(250);

/// How far a server is in shutting down.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Phase {
    /// Instances wait for requests.
    Serving,
    /// Instances finish what they have and end.
    Draining,
    /// Instances end at once.
    Ended,
}

/// Makes the instances of one http component.
pub struct Workers {
    /// What they are instances of.
    pub component: Arc<Component>,
    /// Its handler, ready to be instantiated.
    pub handler: ProxyPre<InstanceState>,
    /// The engine that compiled it.
    pub engine: wasmtime::Engine,
    /// The server's phase.
    pub phase: watch::Receiver<Phase>,
}

impl HandlerState for Workers {
    type StoreData = InstanceState;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> wasmtime::Result<Instance<InstanceState, Expiration, Worker>> {
        let mut store = InstanceState::store(&self.engine, self.component.clone())?;
        let proxy = self.handler.instantiate_async(&mut store).await?;
        let stuck = Arc::new(AtomicBool::new(false));
        Ok(Instance {
            store,
            proxy,
            view: InstanceState::http,
            expiration: Expiration::new(&self.component, &self.phase, stuck.clone()),
            state: Worker {
                component: self.component.clone(),
                end: watch::Sender::new(None),
                stuck,
                phase: self.phase.clone(),
            },
        })
    }
}

/// Why an instance ended before its time: a trap, a timeout.
pub type End = watch::Receiver<Option<Arc<str>>>;

/// Goes with a request to the instance that takes it, and tells the request which one did.
#[derive(Clone, Default)]
pub struct Ticket(Arc<OnceLock<End>>);

impl Ticket {
    /// The end of the instance that took the request; `None` while it waits for one.
    pub fn instance(&self) -> Option<End> {
        self.0.get().cloned()
    }
}

/// One instance's own part in its keeping.
pub struct Worker {
    component: Arc<Component>,
    end: watch::Sender<Option<Arc<str>>>,
    /// Set once a request ran out of time: it can't be cancelled, only its instance can be ended.
    stuck: Arc<AtomicBool>,
    phase: watch::Receiver<Phase>,
}

impl WorkerState for Worker {
    type StoreData = InstanceState;
    type RequestData = Ticket;

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        let limits = &self.component.limits;
        if total >= limits.requests_per_instance {
            ShouldAccept::Never
        } else if concurrent >= limits.concurrent_per_instance {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        _: StoreContextMut<'_, InstanceState>,
        ticket: Ticket,
        _: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + 'static + Send + Sync>> {
        _ = ticket.0.set(self.end.subscribe());
        let time = tokio::time::sleep(self.component.limits.request_timeout);
        let stuck = self.stuck.clone();
        Box::pin(async move {
            time.await;
            stuck.store(true, Ordering::Relaxed);
        })
    }

    fn drop(&self, store: Store<InstanceState>, result: Result<(), wasmtime::Error>) {
        if let Err(error) = result {
            let why = one_line(&error);
            match *self.phase.borrow() {
                // By the server's own end, which may leave it no time to be told: what is dropped unasked is taken for a panic.
                Phase::Ended => {
                    tracing::debug!(component = %self.component.id, "an instance was cut off: {why}");
                }
                _ => tracing::warn!(component = %self.component.id, "an instance ended: {why}"),
            }
            self.end.send_replace(Some(why));
        }
        drop(store);
    }
}

/// An error with its causes and the guest's backtrace, for one line of the log.
pub fn one_line(error: &wasmtime::Error) -> Arc<str> {
    let text = format!("{error:?}");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" | ").into()
}

/// When an instance has to go, seen from outside of it: a guest in a loop can't keep this from being asked.
pub struct Expiration {
    request_timeout: Duration,
    stream_timeout: Duration,
    idle_timeout: Duration,
    stuck: Arc<AtomicBool>,
    deadline: Pin<Box<Sleep>>,
    draining: Wait,
    ended: Wait,
}

type Wait = Pin<Box<dyn Future<Output = ()> + Send + Sync>>;

impl Expiration {
    fn new(component: &Component, phase: &watch::Receiver<Phase>, stuck: Arc<AtomicBool>) -> Self {
        let wait = |least: Phase| -> Wait {
            let mut phase = phase.clone();
            Box::pin(async move { _ = phase.wait_for(|phase| *phase >= least).await })
        };
        Self {
            request_timeout: component.limits.request_timeout,
            stream_timeout: component.limits.stream_timeout,
            idle_timeout: component.limits.idle_instance_timeout,
            stuck,
            deadline: Box::pin(tokio::time::sleep(Duration::ZERO)),
            draining: wait(Phase::Draining),
            ended: wait(Phase::Ended),
        }
    }
}

impl WorkerExpiration for Expiration {
    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        status: WorkerStatus,
        start: Instant,
    ) -> Poll<()> {
        let time = match status {
            WorkerStatus::Idle => self.idle_timeout,
            WorkerStatus::Requests => self.request_timeout + AFTER_TIMEOUT,
            // Work behind the responses, with the time that the limits give streams; a channel's is a request's. A stuck request is work that goes on for nobody and may hold a connection. It takes the responses that
            // still stream with it.
            WorkerStatus::PostReturn if self.stuck.load(Ordering::Relaxed) => AFTER_TIMEOUT,
            WorkerStatus::PostReturn => self.stream_timeout,
        };
        let deadline = tokio::time::Instant::from_std(start + time);
        if self.deadline.deadline() != deadline {
            self.deadline.as_mut().reset(deadline);
        }
        let stop = match status {
            WorkerStatus::Idle => &mut self.draining,
            WorkerStatus::Requests | WorkerStatus::PostReturn => &mut self.ended,
        };
        if stop.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        self.deadline.as_mut().poll(cx)
    }
}
