//! Composes several components as the node does.

use std::fmt;

use serde::Serialize;

/// A module or component to compose.
#[derive(Debug)]
pub struct Part {
    /// Name of the file or layer.
    pub name: String,
    /// Its binary form, or the reason why it has none.
    pub wasm: Result<Vec<u8>, String>,
}

/// A description of how components are composed.
#[derive(Debug, Serialize)]
pub struct Composition {
    /// Each import and the export that satisfies it.
    pub wires: Vec<Wire>,
    /// Names of the components that no other component imports from.
    pub unused: Vec<String>,
}

/// An import and the export that satisfies it.
#[derive(Debug, Serialize)]
pub struct Wire {
    /// Name of the component that imports.
    pub importer: String,
    /// The interface, with its version.
    pub import: String,
    /// Name of the component that exports.
    pub exporter: String,
    /// The interface, which may have another version.
    pub export: String,
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} imports {} of {}", self.importer, self.import, self.exporter)?;
        if self.import == self.export { Ok(()) } else { write!(f, " ({})", self.export) }
    }
}

/// Composes parts. The first is the application. Returns the composition and its description, or the reason why it is
/// impossible.
pub fn compose(parts: &[Part]) -> Result<(Part, Composition), String> {
    let layers: Vec<_> = parts.iter().map(layer).collect::<Result<_, _>>()?;
    let made = ::compose::compose(&layers, &provided::interfaces());
    let ::compose::Composed { wasm, wires, unused } = made.map_err(|error| error.to_string())?;
    let name = |at: usize| parts[at].name.clone();
    let wire = |it: ::compose::Wire| {
        let (importer, exporter) = (name(it.importer), name(it.exporter));
        Wire { importer, import: it.import, exporter, export: it.export }
    };
    let wires = wires.into_iter().map(wire).collect();
    let composition = Composition { wires, unused: unused.into_iter().map(name).collect() };
    Ok((Part { name: name(0), wasm: Ok(wasm) }, composition))
}

fn layer(part: &Part) -> Result<::compose::Layer<'_>, String> {
    let Part { name, wasm } = part;
    let wasm = wasm.as_ref().map_err(|error| format!("{name}: {error}"))?;
    Ok(::compose::Layer { name, wasm })
}
