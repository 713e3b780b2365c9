//! An artifact as an image that runs without a `command`: the same layer under another config.

use anyhow::{Result, bail};
use oci_client::Reference;
use oci_spec::image::{Descriptor, ImageManifest};
use serde_json::json;
use wasmparser::Parser;

use crate::args::{self, Build};
use crate::build::config::{self, Layers, Platform};
use crate::build::media_type;
use crate::store::Layout;
use crate::transfer::Source;

/// Makes an image of an artifact, in `layout`.
pub async fn convert(
    asked: &args::Convert,
    source: &Source,
    layout: &Layout,
) -> Result<Descriptor> {
    let bytes = source.manifest(&source.image).await?;
    let manifest: ImageManifest = match serde_json::from_slice(&bytes) {
        Ok(manifest) => manifest,
        Err(_) => bail!("{} of {} is no image manifest", source.image.digest(), source.title()),
    };
    let layer = the_guest(source, &manifest)?;
    let wasm = source.read(layer, provided::WASM_BYTES).await?;
    let platform = match Parser::is_component(&wasm) {
        true => Platform::wasip2(),
        false => Platform::wasip1(),
    };
    let name = args::tagged(&asked.tag)?;
    let entrypoint = match asked.entrypoint.as_slice() {
        [] => vec![entrypoint(&name)],
        given => given.to_vec(),
    };
    let settings = Build { env: asked.env.clone(), ..Build::default() };
    // By the name that containerd and the shim know it by; the content is the same.
    let layer = layout.add("application/wasm", &wasm)?;
    let layers = Layers { wasm: vec![layer.digest().to_string()], ..Layers::default() };
    let config = config::of_image(&settings, &entrypoint, &platform, &layers);
    let mut made = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": layout.add(media_type::CONFIG, &config)?,
        "layers": [layer],
    });
    if let Some(annotations) = manifest.annotations() {
        made["annotations"] = serde_json::to_value(annotations)?;
    }
    layout.add(media_type::MANIFEST, made.to_string().as_bytes())
}

/// The artifact's one layer.
fn the_guest<'a>(source: &Source, manifest: &'a ImageManifest) -> Result<&'a Descriptor> {
    let config = manifest.config().media_type().to_string();
    if config == media_type::CONFIG {
        bail!("{} is an image already: its config is of type {config}", source.title());
    }
    let is_wasm = |it: &&Descriptor| provided::WASM_LAYERS.contains(&it.media_type().as_ref());
    match manifest.layers().iter().filter(is_wasm).collect::<Vec<_>>().as_slice() {
        [layer] => Ok(layer),
        found => {
            bail!("{} has {} wasm layers, and an artifact has one", source.title(), found.len())
        }
    }
}

/// By the last part of the image's name, since an artifact's layer has none.
fn entrypoint(name: &Reference) -> String {
    let repository = name.repository();
    format!("/{}.wasm", repository.rsplit('/').next().unwrap_or(repository))
}
