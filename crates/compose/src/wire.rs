//! Connects components as `choose` decided.

use std::collections::BTreeMap;

use wac_graph::{EncodeError, EncodeOptions, InstantiationArgumentError, NodeId};

use crate::Error;
use crate::choose::Wire;
use crate::read::{Parts, bounded};

/// Returns the component that exports what the first of `parts` exports. Each component that has a wire is instantiated
/// once.
///
/// # Errors
/// [`Error::Mismatch`], [`Error::Composition`].
pub fn put_together(parts: &mut Parts, wires: &[Wire]) -> Result<Vec<u8>, Error> {
    let application = parts.graph.instantiate(parts.packages[0]);
    let mut instances = BTreeMap::from([(0, application)]);
    for wire in wires {
        connect(parts, &mut instances, wire)?;
    }
    let exports: Vec<String> = parts.world(0).exports.keys().cloned().collect();
    for name in &exports {
        let export = parts.graph.alias_instance_export(application, name).map_err(composition)?;
        parts.graph.export(export, name).map_err(composition)?;
    }
    let encoded = bounded(|| {
        let encoded = parts.graph.encode(EncodeOptions::default());
        encoded.map_err(|error| reason(&error))
    });
    encoded.map_err(Error::Composition)
}

fn connect(
    parts: &mut Parts,
    instances: &mut BTreeMap<usize, NodeId>,
    wire: &Wire,
) -> Result<(), Error> {
    let [importer, exporter] = [wire.importer, wire.exporter].map(|at| {
        let (graph, package) = (&mut parts.graph, parts.packages[at]);
        *instances.entry(at).or_insert_with(|| graph.instantiate(package))
    });
    let export = parts.graph.alias_instance_export(exporter, &wire.export).map_err(composition)?;
    let connected = parts.graph.set_instantiation_argument(importer, &wire.import, export);
    connected.map_err(|error| match error {
        InstantiationArgumentError::ArgumentTypeMismatch { source, .. } => Error::Mismatch {
            importer: parts.names[wire.importer].name.clone(),
            import: wire.import.clone(),
            exporter: parts.names[wire.exporter].name.clone(),
            export: wire.export.clone(),
            reason: text::on_one_line(&format!("{source:#}")),
        },
        other => composition(other),
    })
}

fn composition(error: impl ToString) -> Error {
    Error::Composition(text::on_one_line(&error.to_string()))
}

/// Returns the error with its causes, because they name the interface.
fn reason(error: &EncodeError) -> String {
    text::on_one_line(&text::with_causes(error))
}
