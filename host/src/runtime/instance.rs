//! The state behind one instance of a component: what WASI shows it, and what it may use up.

use std::sync::Arc;

use wasmtime::component::ResourceTable;
use wasmtime::{ResourceLimiter, Store};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use super::component::Component;
use super::guest_output::GuestOutput;
use super::outbound_http::OutboundHttp;

/// The most elements that the tables of an instance may have together.
const TABLE_ELEMENTS: usize = 100_000;

/// A store's data.
pub struct InstanceState {
    /// The component that this is an instance of.
    pub component: Arc<Component>,
    /// Resources that the guest holds handles of.
    pub table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    outbound: OutboundHttp,
    usage: Usage,
}

impl InstanceState {
    /// A store for a new instance. The guest sees the manifest's environment and folders, no sockets, no arguments.
    ///
    /// # Errors
    /// A folder that is no longer there.
    pub fn store(
        engine: &wasmtime::Engine,
        component: Arc<Component>,
    ) -> wasmtime::Result<Store<Self>> {
        let mut wasi = WasiCtx::builder();
        for (name, value) in &component.environment {
            wasi.env(name, value);
        }
        for mount in &component.files {
            wasi.preopened_dir(&mount.source, &mount.destination, FsPerms::ReadOnly)?;
        }
        wasi.stdout(GuestOutput::new(component.id.clone(), "stdout"));
        wasi.stderr(GuestOutput::new(component.id.clone(), "stderr"));
        let memory_limit = component.limits.memory_bytes;
        let state = Self {
            table: ResourceTable::new(),
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            outbound: OutboundHttp::new(component.clone()),
            usage: Usage {
                component: component.id.clone(),
                memory: 0,
                memory_limit,
            },
            component,
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.usage);
        // A guest that computes gives the thread back at every tick of the epoch, so its time limit can be seen.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        Ok(store)
    }
}

impl WasiView for InstanceState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl WasiHttpView for InstanceState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            hooks: &mut self.outbound,
            table: &mut self.table,
            ctx: &mut self.http,
        }
    }
}

/// Counts the memory of all of an instance's linear memories together.
struct Usage {
    component: Arc<str>,
    memory: usize,
    memory_limit: usize,
}

impl ResourceLimiter for Usage {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory + desired.saturating_sub(current);
        if total > self.memory_limit {
            tracing::warn!(component = %self.component, limit = self.memory_limit,
                "the memory limit is reached");
            return Ok(false);
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}
