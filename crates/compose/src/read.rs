//! What components import and export.

use std::panic::{AssertUnwindSafe, catch_unwind};

use wac_graph::types::{ItemKind, Package, Type, World};
use wac_graph::{CompositionGraph, PackageId};
use wasmparser::Parser;

use crate::choose::Names;
use crate::depth::is_too_deep;
use crate::limits::NAMES;
use crate::{Error, Layer};

/// Components in a graph that is to be wired, in their order.
pub struct Parts {
    /// For `wac-graph`.
    pub graph: CompositionGraph,
    /// Their place in it.
    pub packages: Vec<PackageId>,
    /// What they are called, import and export.
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

    /// What a component imports and exports, with types.
    pub fn world(&self, at: usize) -> &World {
        &self.graph.types()[self.graph[self.packages[at]].ty()]
    }
}

/// Checks what is not to reach `wac-graph`, which takes for granted that a component is whole.
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

/// `wac-graph` panics where it meets what it does not know: it is told like any other refusal.
pub fn bounded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    let done = catch_unwind(AssertUnwindSafe(work));
    done.unwrap_or_else(|_| Err("it uses what cannot be composed yet".to_owned()))
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
    // A type is imported to give it a name: nobody provides it.
    let is_type = |kind: &ItemKind| matches!(kind, ItemKind::Type(_));
    // A resource is of whoever has its functions.
    let is_resource = |kind: &ItemKind| matches!(kind, ItemKind::Type(Type::Resource(_)));
    let is_of_nobody = |kind: &ItemKind| is_type(kind) && !is_resource(kind);
    let has_types_alone = |kind: &ItemKind| matches!(kind, ItemKind::Instance(it) if all[*it].exports.values().all(is_of_nobody));
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
