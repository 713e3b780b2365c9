//! Several components as the one that the node would make of them.

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::args::Compose;
use crate::build::guest;
use crate::errors::Error;
use crate::inspect;
use crate::place::Place;
use crate::progress::{note, size};
use crate::store::{blob, output};
use crate::transfer::Source;

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

/// What was made.
#[derive(Debug, Serialize)]
struct Made {
    /// The file.
    output: String,
    /// Its digest.
    digest: String,
    /// Its size in bytes.
    size: u64,
    #[serde(flatten)]
    composition: Composition,
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, a component of {}", self.output, size(self.size))?;
        self.composition.wires.iter().try_for_each(|wire| write!(f, "\n  {wire}"))
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

/// Writes the composition that was asked for.
///
/// # Errors
/// [`Error::CannotRun`] when the node could not make it.
pub async fn run(asked: &Compose) -> Result<impl Serialize + fmt::Display + use<>> {
    let (title, parts) = parts(asked).await?;
    let refused = |reason| Error::CannotRun { image: title.clone(), reason };
    let (whole, composition) = compose(&parts).map_err(refused)?;
    let Ok(wasm) = whole.wasm else { bail!("{title} was not composed") };
    composition.unused.iter().for_each(|it| warn_of_unused(it));
    output::write(&asked.output, &wasm)?;
    let (output, digest) = (asked.output.display().to_string(), blob::digest(&wasm));
    Ok(Made { output, digest, size: wasm.len() as u64, composition })
}

/// Says that a component could be left out.
pub fn warn_of_unused(name: &str) {
    note(&format!("warning: {name} is left out: nothing that is run imports from it"));
}

async fn parts(asked: &Compose) -> Result<(String, Vec<Part>)> {
    if let [one] = asked.what.as_slice()
        && !inspect::is_wasm_file(Path::new(one))
    {
        let place = Place::parse(one)?;
        let source = Source::open(&place, asked.image.as_deref(), None, &asked.registry).await?;
        return Ok((
            place.to_string(),
            inspect::wasm_layers(&source, &inspect::this_machine()).await?,
        ));
    }
    let paths = asked.what.iter().map(Path::new);
    let guests: Vec<_> = paths.map(guest::Guest::read).collect::<Result<_>>()?;
    guest::fit(&guests)?;
    let title = guests.first().map(guest::Guest::name).unwrap_or_default();
    let parts = guests.into_iter().map(|it| Part { name: it.name(), wasm: Ok(it.wasm) });
    Ok((title, parts.collect()))
}
