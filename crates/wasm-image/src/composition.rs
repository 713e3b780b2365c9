//! The composition of several components, as the node makes it.

use std::fmt;

use serde::Serialize;

/// A module or component that is to be composed with others.
#[derive(Debug)]
pub struct Part {
    /// What it is called: a file or a layer.
    pub name: String,
    /// Its binary form, or why it has none.
    pub wasm: Result<Vec<u8>, String>,
}

/// How components are composed.
#[derive(Debug, Serialize)]
pub struct Composition {
    /// What is satisfied by what.
    pub wires: Vec<Wire>,
    /// The components that nobody needs, by their names.
    pub unused: Vec<String>,
}

/// An import and the export that satisfies it.
#[derive(Debug, Serialize)]
pub struct Wire {
    /// The component that imports.
    pub importer: String,
    /// The interface, with its version.
    pub import: String,
    /// The component that exports.
    pub exporter: String,
    /// The interface, perhaps with another version.
    pub export: String,
}

impl fmt::Display for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} imports {} of {}", self.importer, self.import, self.exporter)?;
        if self.import == self.export { Ok(()) } else { write!(f, " ({})", self.export) }
    }
}

/// Composes parts, of which the first is the application: the whole, and how it was made; or why it cannot be.
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
