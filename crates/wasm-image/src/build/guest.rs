//! A component or module that becomes a layer.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use wasmparser::Parser;

use crate::errors::within;
use crate::platform::Platform;

/// How native code begins, Wasmtime's own `.cwasm` too (ELF, "File header").
const ELF_MAGIC: &[u8] = b"\x7fELF";

/// How much of a file that is not wasm is shown: enough to tell what it is.
const SHOWN_BYTES: usize = 8;

/// WebAssembly in its binary form, and the file it is from.
#[derive(Debug)]
pub struct Guest {
    /// The module or component.
    pub wasm: Vec<u8>,
    path: PathBuf,
}

impl Guest {
    /// Reads a file, binary or text.
    ///
    /// # Errors
    /// Of a file that is neither; [`TooLarge`](crate::errors::Error::TooLarge) for the shim.
    pub fn read(path: &Path) -> Result<Self> {
        let length = std::fs::metadata(path).map(|meta| meta.len()).unwrap_or_default();
        within(provided::WASM_BYTES, || path.display().to_string(), length)?;
        let wasm = binary(crate::read(path)?)
            .with_context(|| format!("{} cannot be packed", path.display()))?;
        Ok(Self { wasm, path: path.into() })
    }

    /// The name of its file, by which its layer is called.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().display().to_string()
    }

    /// What an image of it is for.
    pub fn platform(&self) -> Platform {
        match Parser::is_component(&self.wasm) {
            true => Platform::wasip2(),
            false => Platform::wasip1(),
        }
    }

    /// The entrypoint by which its image is run: its name at the root. The shim takes the layer where there is no
    /// such file.
    pub fn entrypoint(&self) -> String {
        let name = self.path.with_extension("wasm");
        format!("/{}", name.file_name().unwrap_or_default().display())
    }
}

/// Checks that the shim would take that many layers of that size.
pub fn fit(guests: &[Guest]) -> Result<()> {
    let (count, limit) = (guests.len(), provided::LAYERS);
    ensure!(count <= limit, "an image has at most {limit} wasm layers, but {count} were given");
    let bytes = guests.iter().map(|it| it.wasm.len() as u64).sum();
    within(provided::WASM_BYTES, || "the image's wasm".to_owned(), bytes)?;
    Ok(())
}

/// The binary form of what a file holds.
pub fn binary(bytes: Vec<u8>) -> Result<Vec<u8>> {
    ensure!(!bytes.is_empty(), "it is empty");
    if bytes.starts_with(ELF_MAGIC) {
        bail!("it is native code, compiled for one machine: the shim takes WebAssembly only");
    }
    if Parser::is_component(&bytes) || Parser::is_core_wasm(&bytes) {
        return Ok(bytes);
    }
    match std::str::from_utf8(&bytes) {
        // An expression, or a comment before it, is how every text begins (core specification, "Text format").
        Ok(text) if text.trim_start().starts_with(['(', ';']) => {
            wat::parse_str(text).context("it is not valid WebAssembly text")
        }
        _ => {
            let shown = bytes[..bytes.len().min(SHOWN_BYTES)].escape_ascii();
            bail!("it is not WebAssembly: it begins with \"{shown}\"")
        }
    }
}
