//! A handler as a command that listens by itself: the handler and a runner, in one
//! component.
//!
//! Such a command runs under `wasmtime run`, `sockserve run`, and any other host of
//! `wasi:cli` and `wasi:sockets`. What it prints and how it ends connections is as under
//! `sockserve serve`; what differs is in [`compose`].

mod runners;

use crate::component::{COMPOSED, Component};
use crate::contract::Contract;
use crate::guest::handler_error::HandlerError;
use crate::guest::imports;
use runners::Runner;
use std::panic::{AssertUnwindSafe, catch_unwind};
use wac_graph::types::{Package, are_semver_compatible};
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};
use wasm_encoder::{ComponentSection as _, CustomSection};

/// Why a component cannot become a command. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ComposeError {
    /// It is one.
    #[error("{0}: a program already, and not a handler; run it: sockserve run {0}")]
    Command(String),
    /// It is what an earlier call has made.
    #[error(
        "{0}: composed already; run it: wasmtime run -S inherit-network {0} --listen 127.0.0.1:7000"
    )]
    Composed(String),
    /// It has an import that no host has.
    #[error(transparent)]
    Handler(#[from] HandlerError),
    /// It does not go together with its runner.
    #[error("{name}: cannot be composed with the runner of `{contract}` handlers: {reason}")]
    Graph {
        /// The handler's name.
        name: String,
        /// Its contract.
        contract: Contract,
        /// What is wrong.
        reason: String,
    },
}

/// Makes a command of a handler. `name` is its name in errors.
///
/// The command takes `--listen`, `--max-connections` and `--linger`. It has one instance
/// of the handler, whose trap ends it. `blocking` handlers serve one connection after the
/// other, as under the dispatch `sequential`; all others serve all connections at once.
/// A connection is never handed over, because nothing replaces the handler. Hang-ups and
/// errors show as readable, because WASI has no such readiness.
pub fn compose(name: &str, handler: &Component) -> Result<Vec<u8>, ComposeError> {
    let contract = handler.contract();
    if handler.composed().is_some() {
        return Err(ComposeError::Composed(name.to_owned()));
    }
    let Some(runner) = Runner::of(handler) else {
        return Err(ComposeError::Command(name.to_owned()));
    };
    let failed = |reason: String| ComposeError::Graph {
        name: name.to_owned(),
        contract,
        reason,
    };
    let lacks = imports::lacks(handler).map_err(|error| failed(error.to_string()))?;
    for (import, lack) in lacks {
        if let Some(lack) = lack {
            return Err(HandlerError::lacking(name, import, &lack).into());
        }
    }
    // The library is given any component that wasmtime accepts, and some of its checks
    // are panics.
    let composed = catch_unwind(AssertUnwindSafe(|| graph(handler, &runner)));
    let mut bytes = composed
        .unwrap_or_else(|_| Err(anyhow::anyhow!("the composition library has panicked")))
        .map_err(|error| failed(format!("{error:#}")))?;
    // By this `Component::composed` knows a composed command.
    let section = CustomSection {
        name: COMPOSED.into(),
        data: contract.to_string().into_bytes().into(),
    };
    section.append_to_component(&mut bytes);
    Ok(bytes)
}

/// The composition: sockets, handler and main, each with what those before it export.
fn graph(handler: &Component, runner: &Runner) -> anyhow::Result<Vec<u8>> {
    let mut graph = CompositionGraph::new();
    let parts = [
        ("sockserve:sockets", runner.sockets),
        ("sockserve:composed", Some(handler.bytes())),
        ("sockserve:main", Some(runner.main)),
    ];
    let mut instances: Vec<(NodeId, PackageId)> = Vec::new();
    for (name, bytes) in parts {
        let Some(bytes) = bytes else {
            continue;
        };
        let package = Package::from_bytes(name, None, bytes, graph.types_mut())?;
        let package = graph.register_package(package)?;
        let instance = graph.instantiate(package);
        for (from, provider) in &instances {
            connect(&mut graph, (*from, *provider), (instance, package))?;
        }
        instances.push((instance, package));
    }
    if let Some((main, package)) = instances.last() {
        let exports = exports(&graph, *package);
        for export in exports {
            let run = graph.alias_instance_export(*main, &export)?;
            graph.export(run, &export)?;
        }
    }
    Ok(graph.encode(EncodeOptions::default())?)
}

/// Gives an instance what another one exports of its imports.
fn connect(
    graph: &mut CompositionGraph,
    (from, provider): (NodeId, PackageId),
    (to, user): (NodeId, PackageId),
) -> anyhow::Result<()> {
    let exports = exports(graph, provider);
    let imports = graph.types()[graph[user].ty()].imports.keys();
    let imports: Vec<String> = imports.cloned().collect();
    for import in imports {
        let fits = |export: &&String| **export == import || are_semver_compatible(export, &import);
        if let Some(export) = exports.iter().find(fits) {
            let alias = graph.alias_instance_export(from, export)?;
            graph.set_instantiation_argument(to, &import, alias)?;
        }
    }
    Ok(())
}

fn exports(graph: &CompositionGraph, package: PackageId) -> Vec<String> {
    let exports = graph.types()[graph[package].ty()].exports.keys();
    exports.cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component::builtin;
    use wasmparser::{Validator, WasmFeatures};

    #[test]
    fn every_composed_handler_is_valid_and_listens() {
        for builtin in builtin::all() {
            let name = format!("builtin:{}", builtin.name);
            let handler = builtin::load(&name).unwrap();
            if handler.contract().is_command() {
                continue;
            }
            let bytes = compose(&name, &handler).unwrap();
            let features = WasmFeatures::default() | WasmFeatures::CM_ASYNC;
            let mut validator = Validator::new_with_features(features);
            validator.validate_all(&bytes).unwrap();
            let composed = Component::from_bytes(&name, bytes).unwrap();
            assert!(composed.contract().is_command());
            assert_eq!(composed.composed(), Some(&*handler.contract().to_string()));
            // What it imports is WASI, so any host of WASI can run it.
            for import in composed.imports() {
                let is_type = import.starts_with("sockserve:handler/connection-types@");
                assert!(import.starts_with("wasi:") || is_type, "{name}: {import}");
            }
        }
    }
}
