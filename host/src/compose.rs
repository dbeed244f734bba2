//! Composes a component with its dependencies, as Spin does with `wac-graph`: each dependency is instantiated once, its export
//! becomes the import of the component, and what is left of their imports, merged where versions are compatible, is the
//! host's. The outcome is one component, with the exports of the first.

use anyhow::{Context, Result, anyhow, bail, ensure};
use wac_graph::types::{Package, SubtypeChecker, WorldId};
use wac_graph::{CompositionGraph, NodeId};

use crate::manifest::{Component, Dependency, Inherit};

/// The interfaces behind a set of configuration that a dependency may be given (Spin's sets, and of each what this host has).
/// A name is that of an interface without its version.
const CONFIGURED: [(&str, &[&str]); 5] = [
    (
        "allowed_outbound_hosts",
        &[
            "wasi:http/client",
            "wasi:http/outgoing-handler",
            "wasi:sockets/",
        ],
    ),
    ("environment", &["wasi:cli/environment"]),
    ("files", &["wasi:filesystem/preopens"]),
    // Spin counts Postgres among the databases that go by this name.
    ("sqlite_databases", &["spin:postgres/"]),
    (
        "variables",
        &["fermyon:spin/variables", "spin:variables/variables"],
    ),
];

/// What a dependency may import whatever it inherits: nothing of it depends on the configuration.
const HARMLESS: [&str; 7] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/types",
    "wasi:http/types",
    "wasi:io/",
    "wasi:logging/",
    "wasi:random/",
];

/// The bytes of a component and of its dependencies, in the manifest's order.
pub struct Parts {
    /// The component.
    pub main: Vec<u8>,
    /// Its dependencies.
    pub dependencies: Vec<Vec<u8>>,
}

/// Composes the component `id`, described by `component`, of its parts. Without dependencies it is what it was.
///
/// # Errors
/// A part that is no component; a dependency that no import, or no export, is for, or whose types are others; two dependencies for one import;
/// a dependency that imports what it has not been given. All name the dependency.
pub fn compose(id: &str, component: &Component, parts: Parts) -> Result<Vec<u8>> {
    if component.dependencies.is_empty() {
        return Ok(parts.main);
    }
    let mut graph = CompositionGraph::new();
    let (world, instance) = register(&mut graph, id, parts.main)?;
    let mut arguments: Vec<(String, NodeId, &Dependency)> = Vec::new();
    for (dependency, wasm) in component.dependencies.iter().zip(parts.dependencies) {
        let place = || {
            format!(
                "its dependency {} ({})",
                dependency.name,
                dependency.source.display()
            )
        };
        let plugged = plug(&mut graph, world, component, dependency, wasm);
        for (import, node) in plugged.with_context(place)? {
            if let Some((_, _, other)) = arguments.iter().find(|(name, _, _)| *name == import) {
                bail!(
                    "its import {import} has two dependencies: {} and {}",
                    other.name,
                    dependency.name
                );
            }
            arguments.push((import, node, dependency));
        }
    }
    for (import, node, _) in &arguments {
        graph.set_instantiation_argument(instance, import, *node)?;
    }
    export_all(&mut graph, world, instance)?;
    let composed = graph.encode(Default::default());
    composed.context("it can't be composed with its dependencies")
}

/// Adds a component to the graph and instantiates it.
fn register(graph: &mut CompositionGraph, name: &str, wasm: Vec<u8>) -> Result<(WorldId, NodeId)> {
    let package = Package::from_bytes(name, None, wasm, graph.types_mut())?;
    let world = package.ty();
    let package = graph.register_package(package)?;
    Ok((world, graph.instantiate(package)))
}

/// Adds a dependency: the imports of `main` that it satisfies, and the exports that do.
fn plug(
    graph: &mut CompositionGraph,
    main: WorldId,
    component: &Component,
    dependency: &Dependency,
    wasm: Vec<u8>,
) -> Result<Vec<(String, NodeId)>> {
    let imports = graph.types()[main].imports.keys();
    let matched: Vec<String> = imports
        .filter(|import| dependency.name.matches(import))
        .cloned()
        .collect();
    ensure!(!matched.is_empty(), "the component has no such import");
    let (world, instance) = register(graph, &dependency.name.to_string(), wasm)?;
    for import in graph.types()[world].imports.keys() {
        check_import(import, component, dependency)?;
    }
    let mut plugged = Vec::new();
    for import in matched {
        let export = dependency.export.as_ref().unwrap_or(&import);
        check_types(graph, (world, export), (main, &import))?;
        let node = graph.alias_instance_export(instance, export)?;
        plugged.push((import, node));
    }
    Ok(plugged)
}

fn check_types(
    graph: &CompositionGraph,
    (world, export): (WorldId, &String),
    (main, import): (WorldId, &String),
) -> Result<()> {
    let types = graph.types();
    let Some(offered) = types[world].exports.get(export) else {
        bail!("it has no export {export}");
    };
    let mut cache = Default::default();
    SubtypeChecker::new(&mut cache)
        .is_subtype(*offered, types, types[main].imports[import], types)
        .map_err(|error| {
            anyhow!("its export {export} is not what the import {import} wants: {error:#}")
        })
}

/// Keeps a dependency from what it was not given. Spin lets it start and has each call trap; here the application does not start.
/// What the component has nothing of itself gives nothing away, and is left to it: the standard library of Rust, for one, always asks for the environment.
fn check_import(import: &str, component: &Component, dependency: &Dependency) -> Result<()> {
    let is = |name: &&str| match name.strip_suffix('/') {
        Some(package) => import.split_once('/').is_some_and(|(p, _)| p == package),
        None => import.split('@').next() == Some(name),
    };
    let set = CONFIGURED.iter().find(|(_, names)| names.iter().any(is));
    match set {
        Some((set, _)) => ensure!(
            dependency.inherit.has(set) || has_nothing_of(set, component),
            "it imports {import}, and inherits no {set} (`inherit_configuration`)"
        ),
        None => ensure!(
            dependency.inherit == Inherit::All || HARMLESS.iter().any(is),
            "it imports {import}, and inherits no configuration that has it (`inherit_configuration`)"
        ),
    }
    Ok(())
}

fn has_nothing_of(set: &str, component: &Component) -> bool {
    match set {
        "environment" => component.environment.is_empty(),
        "files" => component.files.is_empty(),
        "variables" => component.variables.is_empty(),
        _ => component.allowed_outbound_hosts.is_empty(),
    }
}

fn export_all(graph: &mut CompositionGraph, world: WorldId, instance: NodeId) -> Result<()> {
    let names: Vec<String> = graph.types()[world].exports.keys().cloned().collect();
    for name in names {
        let export = graph.alias_instance_export(instance, &name)?;
        graph.export(export, &name)?;
    }
    Ok(())
}
