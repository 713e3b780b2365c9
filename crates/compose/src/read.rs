//! Reads what components import and export.

use std::panic::{AssertUnwindSafe, catch_unwind};

use wac_graph::types::{ItemKind, Package, Type, World};
use wac_graph::{CompositionGraph, PackageId};
use wasmparser::Parser;

use crate::choose::Names;
use crate::depth::is_too_deep;
use crate::limits::NAMES;
use crate::{Error, Layer};

/// Components in a graph, in their order, ready to be connected.
pub struct Parts {
    /// The graph of `wac-graph`.
    pub graph: CompositionGraph,
    /// Position of each component in the graph.
    pub packages: Vec<PackageId>,
    /// Name, imports and exports of each component.
    pub names: Vec<Names>,
}

impl Parts {
    /// Reads the components.
    ///
    /// # Errors
    /// [`Error::Module`], [`Error::Invalid`], [`Error::Deep`], [`Error::Wide`].
    pub fn read(layers: &[Layer<'_>]) -> Result<Parts, Error> {
        let (graph, packages, names) = (CompositionGraph::new(), Vec::new(), Vec::new());
        let mut parts = Parts { graph, packages, names };
        for (at, layer) in layers.iter().enumerate() {
            check(layer)?;
            let package = bounded(|| package(&mut parts.graph, at, layer.wasm));
            let package = package.map_err(invalid(layer))?;
            parts.names.push(names_of(&parts.graph, package, layer)?);
            parts.packages.push(package);
        }
        Ok(parts)
    }

    /// Returns what a component imports and exports, with types.
    pub fn world(&self, at: usize) -> &World {
        &self.graph.types()[self.graph[self.packages[at]].ty()]
    }
}

/// Refuses what must not reach `wac-graph`, because `wac-graph` assumes that a component is valid.
fn check(layer: &Layer<'_>) -> Result<(), Error> {
    if Parser::is_core_wasm(layer.wasm) {
        return Err(Error::Module(layer.name.to_owned()));
    }
    if is_too_deep(layer.wasm) {
        return Err(Error::Deep(layer.name.to_owned()));
    }
    let mut sections = Parser::new(0).parse_all(layer.wasm);
    sections.try_for_each(|it| it.map(drop)).map_err(invalid(layer))
}

fn package(graph: &mut CompositionGraph, at: usize, wasm: &[u8]) -> Result<PackageId, String> {
    let name = format!("layer{at}");
    let package = Package::from_bytes(&name, None, wasm, graph.types_mut());
    let package = package.map_err(|error| format!("{error:#}"))?;
    graph.register_package(package).map_err(|error| error.to_string())
}

/// Runs `work` and turns a panic into a refusal, because `wac-graph` panics on parts that it does not know.
pub fn bounded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| {
        Err("it uses a part of the component model that cannot be composed yet".to_owned())
    })
}

fn names_of(
    graph: &CompositionGraph,
    package: PackageId,
    layer: &Layer<'_>,
) -> Result<Names, Error> {
    let all = graph.types();
    let World { imports, exports, .. } = &all[graph[package].ty()];
    if imports.len().max(exports.len()) > NAMES {
        return Err(Error::Wide(layer.name.to_owned()));
    }
    // A type is imported only to give it a name, so it needs no provider.
    let is_type = |kind: &ItemKind| matches!(kind, ItemKind::Type(_));
    // The component that exports a resource's functions must also provide the resource.
    let is_resource = |kind: &ItemKind| matches!(kind, ItemKind::Type(Type::Resource(_)));
    let needs_no_provider = |kind: &ItemKind| is_type(kind) && !is_resource(kind);
    let has_types_alone = |kind: &ItemKind| matches!(kind, ItemKind::Instance(it) if all[*it].exports.values().all(needs_no_provider));
    let imports = || imports.iter().filter(|(_, kind)| !is_type(kind));
    let types = imports().filter(|(_, kind)| has_types_alone(kind)).map(|(name, _)| name.clone());
    let exports = exports.iter().filter(|(_, kind)| !is_type(kind)).map(|(name, _)| name.clone());
    Ok(Names {
        name: layer.name.into(),
        imports: imports().map(|(name, _)| name.clone()).collect(),
        types: types.collect(),
        exports: exports.collect(),
    })
}

fn invalid<E: ToString>(layer: &Layer<'_>) -> impl Fn(E) -> Error {
    move |error| Error::Invalid {
        layer: layer.name.to_owned(),
        reason: text::on_one_line(&error.to_string()),
    }
}
