//! `wasm-image build --sbom`: what an image is made of, as a document that refers to the image.
//!
//! [`mod@contents`] reads what WebAssembly says of itself, [`mod@document`] writes it down (CycloneDX 1.6). The document is the one
//! layer of a manifest whose subject is the image (OCI image specification, "Guidelines for Artifact Usage"), so that
//! `oras discover`, `cosign tree` and scanners find it.

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

/// What the document and the manifest with it are (IANA).
const CYCLONEDX: &str = "application/vnd.cyclonedx+json";

/// The config of a manifest that has none, and its content (OCI image specification, "Guidance for an Empty Descriptor").
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const NOTHING: &[u8] = b"{}";

/// The file that tools write the document to.
const TITLE: &str = "sbom.cdx.json";

/// How WebAssembly begins (core specification, "Modules").
const WASM_MAGIC: [u8; 4] = *b"\0asm";

/// Adds the bill of materials of what was built, and lists it: the same bytes for the same input.
///
/// # Errors
/// Of an image without WebAssembly, and of WebAssembly that is not understood.
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

/// Of each module or component: the wasm layers, then the files.
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
            let wasm = wasm.with_context(|| format!("{name} is not understood"))?;
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
