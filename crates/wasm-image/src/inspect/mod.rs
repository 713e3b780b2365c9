//! `wasm-image inspect`: describes an image or a WebAssembly file, what it needs, and whether it would run.
//!
//! [`find`] finds the guests of an image, in the [`tree`] of its [`layers`] if they are files; [`program`] decides
//! whether the kernel would find a Linux program; [`guest`] reads a guest; [`grants`] derives what it will need, and
//! [`asks`] reads what its image asks for;
//! [`verdict`] decides whether the shim can run it; and [`report`] formats the result. Nothing is compiled or run.

pub mod asks;
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
use crate::location::Location;
use crate::transfer::Source;
pub use find::{labels, wasm_layers};
pub use report::Report;

/// Inspects what the command line names.
///
/// # Errors
/// [`Error::NotFound`], and errors of content that cannot be read. If the guest cannot run, the report says so.
pub async fn inspect(asked: &Inspect) -> Result<Report> {
    if is_wasm_file(Path::new(&asked.what)) {
        return of_file(Path::new(&asked.what));
    }
    let place = Location::parse(&asked.what)?;
    let source = Source::open(&place, asked.image.as_deref(), None, &asked.registry).await?;
    let platform = asked.node.clone().unwrap_or_else(Platform::here);
    let node = Node { platform, containerd: asked.containerd };
    find::report(&source, &place.to_string(), &node).await
}

/// Returns a node like this machine, with the newest containerd.
pub fn this_machine() -> Node {
    Node { platform: Platform::here(), containerd: Containerd::V2_3 }
}

/// Returns the error for a report whose guest cannot run.
pub fn refusal(report: &Report) -> Option<Error> {
    let reason = report.reason.clone()?;
    Some(Error::CannotRun { image: report.image.clone(), reason })
}

/// Returns whether the name says that this is a single WebAssembly file.
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

/// Describes the parts of a new image, so that `build` can warn if it cannot run.
pub fn of_parts(parts: &[Part], entrypoint: &[String], labels: &[(String, String)]) -> Report {
    let mut report = Report::default();
    report.add_labels(labels);
    let first = entrypoint.first().map(String::as_str).unwrap_or_default();
    report.add(parts, Entrypoint::parse(first).export);
    report
}
