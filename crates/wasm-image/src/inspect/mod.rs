//! `wasm-image inspect`: what an image or a file of WebAssembly is, needs, and whether it would run.
//!
//! [`find`] finds the guests of an image, in the [`tree`] of its [`layers`] where they are files, [`program`] says whether
//! a Linux program would be found, [`guest`] reads a guest, [`grants`] says what it will need, [`verdict`] whether the shim
//! can run it, [`report`] writes it down. Nothing is compiled or run.

mod find;
mod grants;
mod guest;
mod layers;
mod program;
mod report;
mod tree;
mod verdict;

use std::path::Path;

use anyhow::{Context, Result};
use rule::{Containerd, Entrypoint, Node, Platform};

use crate::args::Inspect;
use crate::build::guest::binary;
use crate::composition::Part;
use crate::errors::{Error, within};
use crate::place::Place;
use crate::transfer::Source;
pub use find::wasm_layers;
pub use report::Report;

/// Looks at what was asked for.
///
/// # Errors
/// [`Error::NotFound`], and of what cannot be read; that it cannot run is in the report.
pub async fn inspect(asked: &Inspect) -> Result<Report> {
    if is_wasm_file(Path::new(&asked.what)) {
        return of_file(Path::new(&asked.what));
    }
    let place = Place::parse(&asked.what)?;
    let source = Source::open(&place, asked.image.as_deref(), None, &asked.registry).await?;
    let platform = asked.node.clone().unwrap_or_else(Platform::here);
    let node = Node { platform, containerd: asked.containerd };
    find::report(&source, &place.to_string(), &node).await
}

/// A node such as this machine, with a containerd of today.
pub fn this_machine() -> Node {
    Node { platform: Platform::here(), containerd: Containerd::V2_3 }
}

/// The error of a report on what cannot run.
pub fn refusal(report: &Report) -> Option<Error> {
    let reason = report.reason.clone()?;
    Some(Error::CannotRun { image: report.image.clone(), reason })
}

/// Whether a file is looked at by itself, by its name.
pub fn is_wasm_file(path: &Path) -> bool {
    let is_named_so = path.extension().is_some_and(|it| it == "wasm" || it == "wat");
    is_named_so && !path.is_dir()
}

fn of_file(path: &Path) -> Result<Report> {
    let title = path.display().to_string();
    let length = match std::fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let (place, what) = ("this machine".into(), format!("file {title}"));
            return Err(Error::NotFound { place, what }.into());
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {title}")),
    };
    within(provided::WASM_BYTES, || title.clone(), length)?;
    let wasm = binary(crate::read(path)?).with_context(|| format!("{title} cannot be run"))?;
    let mut report = Report { image: title.clone(), ..Report::default() };
    let name = path.file_name().unwrap_or_default().display().to_string();
    report.add(&[Part { name, wasm: Ok(wasm) }], None);
    Ok(report)
}

/// What the parts of a freshly built image are, to warn of what cannot run.
pub fn of_parts(parts: &[Part], entrypoint: &[String]) -> Report {
    let mut report = Report::default();
    let first = entrypoint.first().map(String::as_str).unwrap_or_default();
    report.add(parts, Entrypoint::parse(first).export);
    report
}
