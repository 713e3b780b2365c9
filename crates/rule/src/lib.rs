//! Decides how an image runs. The shim on the node and the tools for CI use the same rule.
//!
//! Read in this order: [`find`] here, which returns what is at an entrypoint, and [`Entry::step`], which decides what
//! to do with it; `entrypoint` (what `process.args[0]` names, and where it may be), `links` (following symbolic links),
//! `header` (recognising a file by its first bytes), `document` (index, manifest and config), `platform` and
//! `containerd` (which image of an index a node takes, and what its containerd does with the layers), `error`.
//!
//! This crate does no I/O. The caller provides the files: the shim those of a mounted root file system, the tools those
//! of an image's layers. So both give the same answer.
#![forbid(unsafe_code)]

mod containerd;
mod document;
mod entrypoint;
mod error;
mod header;
mod links;
mod platform;

use std::path::{Path, PathBuf};

use oci_spec::image::Descriptor;

pub use containerd::{Containerd, Node, Unusable, ignored};
pub use document::{Config, Index, Kind, Manifest, Rootfs, Settings, kind};
pub use entrypoint::{Entrypoint, Process};
pub use error::{Refusal, within_limit};
pub use header::{HEAD_BYTES, Head, check_layer};
pub use links::{LINKS, Stopped, without_links};
pub use platform::{Platform, by_choice, by_preference};

/// What exists at a path of the container.
#[derive(Debug)]
pub enum Found<F> {
    /// A regular file.
    File(F),
    /// Something other than a regular file.
    Other {
        /// Path in the container.
        path: PathBuf,
        /// What is there, with its article.
        found: &'static str,
    },
    /// Nothing exists there.
    Nothing,
}

/// What exists at an entrypoint.
#[derive(Debug)]
pub enum Entry<F> {
    /// A file with wasm or its text form.
    Guest(F),
    /// Any other file, which the kernel executes.
    Program(F),
    /// Something other than a regular file.
    Other {
        /// Path in the container.
        path: PathBuf,
        /// What is there, with its article.
        found: &'static str,
    },
    /// Nothing exists there.
    Nothing,
}

/// What to do with an entrypoint.
#[derive(Debug)]
pub enum Step<F> {
    /// Run this file as the guest.
    Guest(F),
    /// Run this file as a Linux program.
    Program(F),
    /// Look for the guest in the image's wasm layers (see [`of_layers`]).
    Layers,
}

/// Finds what a process's first argument means, and what exists there.
///
/// If a file's own name contains a `#`, the argument means that file. Otherwise the part before the first `#` is the
/// path. `look` returns what exists at an absolute path of the container, and `head` returns the beginning of a file.
///
/// # Errors
/// The errors of `look` and `head`, and [`Refusal`] if a file is neither a guest nor a program.
pub fn find<'a, F, E: From<Refusal>>(
    process: &Process<'a>,
    mut look: impl FnMut(&Path) -> Result<Found<F>, E>,
    mut head: impl FnMut(&F) -> Result<Head, E>,
) -> Result<(Entrypoint<'a>, Entry<F>), E> {
    let mut entry_of = |entrypoint: &Entrypoint<'_>| -> Result<Entry<F>, E> {
        Ok(match first(&process.candidates(entrypoint), &mut look)? {
            Found::File(file) => match header::recognise(entrypoint.path, &head(&file)?)? {
                header::Kind::Wasm => Entry::Guest(file),
                header::Kind::Program => Entry::Program(file),
            },
            Found::Other { path, found } => Entry::Other { path, found },
            Found::Nothing => Entry::Nothing,
        })
    };
    let parsed = Entrypoint::parse(process.name());
    if process.name().contains('#') {
        let whole = Entrypoint::whole(process.name());
        let entry = entry_of(&whole)?;
        if matches!(entry, Entry::Guest(_) | Entry::Program(_)) {
            return Ok((whole, entry));
        }
    }
    let entry = entry_of(&parsed)?;
    Ok((parsed, entry))
}

/// Returns the first path that is a file. If there is none, returns what the first existing path is.
fn first<F, E>(
    paths: &[PathBuf],
    mut look: impl FnMut(&Path) -> Result<Found<F>, E>,
) -> Result<Found<F>, E> {
    let mut result = Found::Nothing;
    for path in paths {
        match (look(path)?, &result) {
            (Found::File(file), _) => return Ok(Found::File(file)),
            (other, Found::Nothing) => result = other,
            _ => {}
        }
    }
    Ok(result)
}

impl<F> Entry<F> {
    /// Decides what to do with it.
    ///
    /// # Errors
    /// [`Refusal::NotAFile`] if the entrypoint names a guest.
    pub fn step(self, entrypoint: &Entrypoint<'_>) -> Result<Step<F>, Refusal> {
        match self {
            Entry::Guest(file) => Ok(Step::Guest(file)),
            Entry::Program(file) => Ok(Step::Program(file)),
            Entry::Other { path, found } if entrypoint.looks_like_wasm() => {
                Err(Refusal::NotAFile { path, found })
            }
            Entry::Other { .. } | Entry::Nothing => Ok(Step::Layers),
        }
    }
}

/// Why an image has no wasm layers. A manifest can give no other reason.
pub const NO_LAYERS: &str = "the image has no wasm layers";

/// Returns the wasm layers to run if no file exists at the entrypoint. Returns `None` for a Linux program, which the
/// kernel will not find. `layers` are those of the image, or the reason why there are none.
///
/// # Errors
/// [`Refusal::EntrypointNotFound`] if the entrypoint names a guest.
pub fn of_layers<L>(
    process: &Process<'_>,
    entrypoint: &Entrypoint<'_>,
    layers: Result<L, &'static str>,
) -> Result<Option<L>, Refusal> {
    match layers {
        Ok(layers) => Ok(Some(layers)),
        Err(image) if entrypoint.looks_like_wasm() => Err(Refusal::EntrypointNotFound {
            entrypoint: process.name().to_owned(),
            looked: process.looked(entrypoint),
            image,
        }),
        Err(_) => Ok(None),
    }
}

/// Returns the layers that are wasm, in order. An ordinary image has none.
///
/// # Errors
/// [`Refusal::TooManyLayers`], [`Refusal::TooLarge`].
pub fn wasm_layers(manifest: &Manifest) -> Result<Vec<&Descriptor>, Refusal> {
    let layers: Vec<_> = manifest.layers.iter().filter(|it| is_wasm(it)).collect();
    let (count, limit) = (layers.len(), provided::LAYERS);
    if count > limit {
        return Err(Refusal::TooManyLayers { count, limit });
    }
    let bytes = layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size()));
    within_limit("the image", bytes)?;
    Ok(layers)
}

/// Returns whether a layer is a module or a component.
pub fn is_wasm(layer: &Descriptor) -> bool {
    provided::WASM_LAYERS.contains(&layer.media_type().as_ref())
}

/// Returns the name of a layer: its title, or its digest.
pub fn layer_name(layer: &Descriptor) -> String {
    let title = layer.annotations().as_ref().and_then(|it| it.get(provided::LAYER_TITLE));
    provided::layer_name(title.map(String::as_str), layer.digest().as_ref())
}

#[cfg(test)]
mod tests;
