//! `wasm-image build --sbom`: lists what an image is made of, in a document that refers to the image.
//!
//! [`mod@contents`] reads the metadata in WebAssembly, and [`mod@document`] writes it (CycloneDX 1.6). The document is
//! the only layer of a manifest whose subject is the image (OCI image specification, "Guidelines for Artifact Usage"),
//! so that `oras discover`, `cosign tree` and scanners find it.

mod contents;
mod document;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use oci_spec::image::Descriptor;
use serde_json::json;

use crate::args::Build;
use crate::build::guest::{Guest, binary};
use crate::build::{entitle, layer, media_type};
use crate::errors::unreadable;
use crate::store::Layout;
use contents::Contents;

/// Media type of the document and of its manifest (IANA).
const CYCLONEDX: &str = "application/vnd.cyclonedx+json";

/// Media type and content of an empty config (OCI image specification, "Guidance for an Empty Descriptor").
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const NOTHING: &[u8] = b"{}";

/// Name of the file to which tools write the document.
const TITLE: &str = "sbom.cdx.json";

/// Magic bytes of WebAssembly (core specification, "Modules").
const WASM_MAGIC: [u8; 4] = *b"\0asm";

/// Adds the bill of materials of an image to the layout and lists it. The same input gives the same bytes.
///
/// # Errors
/// Fails for an image without WebAssembly, and for WebAssembly that cannot be parsed.
pub fn attach(asked: &Build, image: &Descriptor, layout: &Layout) -> Result<()> {
    let all = contents(asked)?;
    ensure!(!all.is_empty(), "cannot make a bill of materials: the image has no WebAssembly");
    let name = asked.reference()?;
    let document = document::write(name.repository(), image.digest().as_ref(), &all);
    let mut content = layout.add(CYCLONEDX, document.to_string().as_bytes())?;
    entitle(&mut content, TITLE);
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "artifactType": CYCLONEDX,
        "config": layout.add(EMPTY, NOTHING)?,
        "layers": [content],
        "subject": image,
    });
    let mut listed = layout.add(media_type::MANIFEST, manifest.to_string().as_bytes())?;
    listed.set_artifact_type(Some(CYCLONEDX.into()));
    layout.list(&listed)
}

/// Returns the contents of each module or component: the wasm layers, then the files.
fn contents(asked: &Build) -> Result<Vec<Contents>> {
    let mut all: Vec<Contents> = Vec::new();
    for path in &asked.components {
        let guest = Guest::read(path)?;
        let contents = Contents::read(&guest.name(), &guest.wasm)?;
        // Two copies of one file are listed once.
        if all.iter().all(|it| it.name != contents.name || it.digest != contents.digest) {
            all.push(contents);
        }
    }
    for (path, source) in layer::files(asked.rootfs.as_deref(), &asked.files)? {
        let is_text = path.extension().is_some_and(|it| it == "wat");
        if is_text || is_wasm(&source).map_err(|error| unreadable(&source, error))? {
            let name = format!("/{}", path.display());
            let wasm = binary(crate::read(&source)?);
            let wasm = wasm.with_context(|| format!("cannot parse {name}"))?;
            all.push(Contents::read(&name, &wasm)?);
        }
    }
    Ok(all)
}

fn is_wasm(file: &Path) -> std::io::Result<bool> {
    let mut head = Vec::new();
    File::open(file)?.take(WASM_MAGIC.len() as u64).read_to_end(&mut head)?;
    Ok(head == WASM_MAGIC)
}
