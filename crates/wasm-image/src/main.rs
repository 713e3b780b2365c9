//! `wasm-image` packs a WebAssembly guest as an OCI image archive that `ctr image import` takes.
//!
//! Read [`args`] for what can be asked, then [`image`] for how the answer is put together from
//! [`layer`] (a root file system as a tar layer), [`config`] (the JSON that describes the image) and
//! [`archive`] (the OCI image layout in one tar file). [`componentize`] stands apart: it turns a
//! WASI 0.1 core module into a WASI 0.2 component.
#![forbid(unsafe_code)]

mod archive;
mod args;
mod componentize;
mod config;
mod image;
mod layer;

use std::path::Path;

use anyhow::{Context, Result};
use clap::Parser;

use args::{Args, Command, Convert};

fn main() -> Result<()> {
    match Args::parse().command {
        Command::Build(build) => {
            let bytes = image::build(&build)?;
            write(&build.output, &bytes)
        }
        Command::Componentize(it) => convert(&it, "a component", componentize::componentize),
        Command::Wat(it) => convert(&it, "a module", |text| Ok(wat::parse_bytes(text)?.into())),
    }
}

/// Reads the input, turns it into `what` and writes that.
fn convert(it: &Convert, what: &str, turn: impl Fn(&[u8]) -> Result<Vec<u8>>) -> Result<()> {
    let made = turn(&read(&it.input)?)
        .with_context(|| format!("cannot make {what} of {}", it.input.display()))?;
    write(&it.output, &made)
}

/// Reads a whole file; the error names it.
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes a whole file; the error names it.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
