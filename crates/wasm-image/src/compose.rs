//! Composes several components into one, as the node would.

use std::fmt;
use std::path::Path;

use anyhow::{Result, bail};
use serde::Serialize;

use crate::args::Compose;
use crate::build::guest;
use crate::composition::{Composition, Part, compose};
use crate::errors::Error;
use crate::inspect;
use crate::location::Location;
use crate::progress::{note, size};
use crate::store::{blob, output};
use crate::transfer::Source;

/// The report of a composition.
#[derive(Debug, Serialize)]
struct Made {
    /// Path of the file.
    output: String,
    /// Digest of the component.
    digest: String,
    /// Size in bytes.
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

/// Writes the composition that the command line asks for.
///
/// # Errors
/// [`Error::CannotRun`] if the node could not make the composition.
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

/// Warns that a component is left out.
pub fn warn_of_unused(name: &str) {
    note(&format!("warning: {name} is left out: nothing that is run imports from it"));
}

async fn parts(asked: &Compose) -> Result<(String, Vec<Part>)> {
    if let [one] = asked.what.as_slice()
        && !inspect::is_wasm_file(Path::new(one))
    {
        let place = Location::parse(one)?;
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
