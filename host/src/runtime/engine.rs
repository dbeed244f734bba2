//! The engine that compiles and runs components, and what it has compiled: once for each content in a process,
//! and once for each content on a disk.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::sync::Mutex;
use wasmtime::component::{Component, Linker};
use wasmtime::{
    Cache, CacheConfig, Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig,
};
use wasmtime_wasi_http::handler::ProxyPre;
use wasmtime_wasi_http::{p2, p3};

use super::bindings::Imports;
use super::bindings::cron::SpinCronPre;
use super::bindings::imports::Imports as ImportsWorld;
use super::instance::InstanceState;

/// How often a computing guest gives its thread back.
const TICK: Duration = Duration::from_millis(10);

/// The most instances alive at once in a process, all servers together.
const MOST_INSTANCES: u32 = 1000;

/// Core instances, memories and tables for each component: its main module and the small ones that glue it.
const MOST_CORE_INSTANCES: u32 = MOST_INSTANCES * 8;
const MOST_TABLES: u32 = MOST_INSTANCES * 4;

/// A component with a dependency has two.
const MOST_MEMORIES: u32 = MOST_INSTANCES * 2;

/// Memory that a slot keeps between instances, so that starting one touches no fresh pages.
const KEEP_RESIDENT: usize = 1024 * 1024;

/// Compiles components, and hands out what is compiled.
pub struct Compiler {
    engine: Engine,
    linker: Linker<InstanceState>,
    compiled: Mutex<HashMap<Vec<u8>, Arc<Program>>>,
}

/// A compiled component, all its imports found, by what it can be run for.
pub struct Program {
    component: wasmtime::component::InstancePre<InstanceState>,
}

impl Compiler {
    /// An engine whose instances have at most `memory_bytes` each.
    ///
    /// `cache` is the folder for compiled code; without one it is wasmtime's own in the user's cache folder.
    ///
    /// # Errors
    /// An engine that this machine can't have, a cache folder that can't be used.
    pub fn new(memory_bytes: usize, cache: Option<PathBuf>) -> Result<Self> {
        let cache = compiled_code_cache(cache)?;
        let engine = match Engine::new(&config(Some(memory_bytes), cache.clone())) {
            Ok(engine) => engine,
            // The pool reserves address space ahead, which a `ulimit -v` or a small machine may not grant.
            Err(error) => {
                tracing::warn!("no pool of instances, each is allocated when needed: {error:#}");
                Engine::new(&config(None, cache)).map_err(|e| anyhow!(e))?
            }
        };
        tick(engine.weak())?;
        let linker = linker(&engine).map_err(|e| anyhow!(e))?;
        Ok(Self {
            engine,
            linker,
            compiled: Mutex::default(),
        })
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Compiles a component, or finds it compiled.
    ///
    /// # Errors
    /// Bytes that aren't a component, an import that this host doesn't have.
    pub async fn compile(&self, wasm: Vec<u8>) -> Result<Arc<Program>> {
        // Held while compiling: servers that start together with the same components compile them once.
        let mut compiled = self.compiled.lock().await;
        if let Some(program) = compiled.get(&wasm) {
            return Ok(program.clone());
        }
        let (engine, linker) = (self.engine.clone(), self.linker.clone());
        let (wasm, component) = tokio::task::spawn_blocking(move || {
            let component = Component::from_binary(&engine, &wasm)
                .and_then(|component| linker.instantiate_pre(&component))
                .map_err(|e| anyhow!(e));
            (wasm, component)
        })
        .await?;
        let program = Arc::new(Program {
            component: component?,
        });
        compiled.insert(wasm, program.clone());
        Ok(program)
    }
}

impl Program {
    /// For an http trigger.
    ///
    /// # Errors
    /// The component exports neither `wasi:http/handler@0.3` nor `wasi:http/incoming-handler@0.2`.
    pub fn http(&self) -> Result<ProxyPre<InstanceState>> {
        if let Ok(service) = p3::bindings::ServicePre::new(self.component.clone()) {
            return Ok(ProxyPre::P3(service));
        }
        match p2::bindings::ProxyPre::new(self.component.clone()) {
            Ok(proxy) => Ok(ProxyPre::P2(proxy)),
            Err(_) => bail!(
                "it exports neither wasi:http/handler@0.3 nor wasi:http/incoming-handler@0.2, as an http trigger needs"
            ),
        }
    }

    /// For a cron trigger.
    ///
    /// # Errors
    /// The component doesn't export `handle-cron-event` of `fermyon:spin-cron@2.0.0`.
    pub fn cron(&self) -> Result<SpinCronPre<InstanceState>> {
        SpinCronPre::new(self.component.clone())
            .map_err(|e| anyhow!(e))
            .context("it doesn't export handle-cron-event of fermyon:spin-cron@2.0.0, as a cron trigger needs")
    }
}

/// Without a folder of the caller's a user without a home still gets a host, which compiles at every start.
fn compiled_code_cache(folder: Option<PathBuf>) -> Result<Option<Cache>> {
    let mut config = CacheConfig::new();
    let Some(folder) = folder else {
        let cache = Cache::new(config);
        return Ok(cache
            .inspect_err(|error| tracing::warn!("compiled code is not kept: {error:#}"))
            .ok());
    };
    // The cache insists on an absolute path.
    config.with_directory(std::path::absolute(&folder)?);
    let cache = Cache::new(config).map_err(|e| anyhow!(e));
    let cache =
        cache.with_context(|| format!("the compiled code's folder {}", folder.display()))?;
    Ok(Some(cache))
}

fn config(pool_memory: Option<usize>, cache: Option<Cache>) -> Config {
    let mut config = Config::new();
    config.wasm_component_model_async(true);
    config.epoch_interruption(true);
    config.cache(cache);
    if let Some(memory_bytes) = pool_memory {
        let mut pool = PoolingAllocationConfig::new();
        pool.total_component_instances(MOST_INSTANCES);
        pool.total_core_instances(MOST_CORE_INSTANCES);
        pool.total_memories(MOST_MEMORIES);
        pool.total_tables(MOST_TABLES);
        pool.total_stacks(MOST_INSTANCES * 2);
        pool.max_memory_size(memory_bytes);
        pool.linear_memory_keep_resident(KEEP_RESIDENT);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<InstanceState>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi::p3::add_to_linker(&mut linker)?;
    p2::add_only_http_to_linker_async(&mut linker)?;
    p3::add_to_linker(&mut linker)?;
    ImportsWorld::add_to_linker::<_, Imports>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Advances the epoch for as long as the engine lives.
fn tick(engine: wasmtime::EngineWeak) -> Result<()> {
    std::thread::Builder::new()
        .name("epoch".to_owned())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })
        .context("the epoch's thread")?;
    Ok(())
}
