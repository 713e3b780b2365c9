//! Reads components and modules that become layers.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use wasmparser::Parser;

use crate::errors::within;
use crate::platform::Platform;

/// Magic bytes of native code, including Wasmtime's own `.cwasm` (ELF, "File header").
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// Number of bytes that an error shows of a file that is not wasm. They are enough to recognise the file.
const SHOWN_BYTES: usize = 8;

/// A module or component in binary form, and the file it was read from.
#[derive(Debug)]
pub struct Guest {
    /// The module or component.
    pub wasm: Vec<u8>,
    path: PathBuf,
}

impl Guest {
    /// Reads a file in binary or text form.
    ///
    /// # Errors
    /// Fails if the file is neither; [`TooLarge`](crate::errors::Error::TooLarge) if the shim would refuse its size.
    pub fn read(path: &Path) -> Result<Self> {
        let length = std::fs::metadata(path).map(|meta| meta.len()).unwrap_or_default();
        within(provided::WASM_BYTES, || path.display().to_string(), length)?;
        let wasm = binary(crate::read(path)?)
            .with_context(|| format!("{} cannot be packed", path.display()))?;
        Ok(Self { wasm, path: path.into() })
    }

    /// Returns the name of the file, which becomes the name of the layer.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().display().to_string()
    }

    /// Returns the platform for an image of this guest.
    pub fn platform(&self) -> Platform {
        match Parser::is_component(&self.wasm) {
            true => Platform::wasip2(),
            false => Platform::wasip1(),
        }
    }

    /// Returns the default entrypoint: the guest's name at the root. The shim takes the layer because there is no such
    /// file.
    pub fn entrypoint(&self) -> String {
        let name = self.path.with_extension("wasm");
        format!("/{}", name.file_name().unwrap_or_default().display())
    }
}

/// Checks that the shim accepts this number of layers of this size.
pub fn fit(guests: &[Guest]) -> Result<()> {
    let (count, limit) = (guests.len(), provided::LAYERS);
    ensure!(count <= limit, "an image has at most {limit} wasm layers, but {count} were given");
    let bytes = guests.iter().map(|it| it.wasm.len() as u64).sum();
    within(provided::WASM_BYTES, || "the image's wasm".to_owned(), bytes)?;
    Ok(())
}

/// Returns the binary form of a file's content.
pub fn binary(bytes: Vec<u8>) -> Result<Vec<u8>> {
    ensure!(!bytes.is_empty(), "it is empty");
    if bytes.starts_with(ELF_MAGIC) {
        bail!("it is native code, compiled for one machine; it must be WebAssembly");
    }
    if Parser::is_component(&bytes) || Parser::is_core_wasm(&bytes) {
        return Ok(bytes);
    }
    match std::str::from_utf8(&bytes) {
        // Every text begins with an expression, or with a comment before it (core specification, "Text format").
        Ok(text) if text.trim_start().starts_with(['(', ';']) => {
            wat::parse_str(text).context("it is not valid WebAssembly text")
        }
        _ => {
            let shown = bytes[..bytes.len().min(SHOWN_BYTES)].escape_ascii();
            bail!("it is not WebAssembly: it begins with \"{shown}\"")
        }
    }
}
