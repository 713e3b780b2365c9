//! Converts an image that does not run into one that does. An artifact becomes an image that needs no `command`, with
//! the same layer under another config. An image for a platform of wasm with ordinary layers becomes one for the node's
//! platform, whose files containerd unpacks.

use anyhow::{Context, Result, bail};
use oci_client::Reference;
use oci_spec::image::Descriptor;
use serde_json::{Value, json};
use wasmparser::Parser;

use crate::args::{self, Build};
use crate::build::config::{self, Layers};
use crate::build::{self, entitle, index, media_type};
use crate::config::{Config, is_wasm};
use crate::limits;
use crate::manifest::{Index, Manifest, platform};
use crate::platform::Platform;
use crate::store::{Layout, compressed};
use crate::transfer::Source;
use crate::transfer::parts::is_index;

/// Converts an artifact or an image into an image in `layout`.
pub async fn convert(
    asked: &args::Convert,
    source: &Source,
    layout: &Layout,
) -> Result<Descriptor> {
    let (digest, bytes) = one(source).await?;
    let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else {
        bail!("{digest} of {} is not an image manifest", source.title());
    };
    match manifest.is_image() {
        true => converted(asked, source, layout, &manifest, &bytes).await,
        false => of_artifact(asked, source, layout, &manifest).await,
    }
}

/// Returns the digest and bytes of the manifest to convert. Of an index, it is the first for wasm, or else the first
/// for any platform.
async fn one(source: &Source) -> Result<(String, Vec<u8>)> {
    let mut manifest = source.image.clone();
    for _ in 0..=limits::INDEX_DEPTH {
        let bytes = source.manifest(&manifest).await?;
        if !is_index(manifest.media_type().as_ref()) {
            return Ok((manifest.digest().to_string(), bytes));
        }
        let what = || format!("cannot parse {} of {}", manifest.digest(), source.title());
        let mut entries = serde_json::from_slice::<Index>(&bytes).with_context(what)?.manifests;
        // BuildKit stores an image's provenance beside it, for the platform `unknown/unknown`.
        let named = |it: &Descriptor| it.platform().as_ref().map(platform).unwrap_or_default();
        entries.retain(|it| named(it) != "unknown/unknown");
        entries.sort_by_key(|it| !named(it).ends_with("/wasm"));
        let first = entries.into_iter().next();
        manifest = first.with_context(|| format!("the index of {} is empty", source.title()))?;
    }
    bail!("{} nests too many indexes", source.title())
}

async fn of_artifact(
    asked: &args::Convert,
    source: &Source,
    layout: &Layout,
    manifest: &Manifest,
) -> Result<Descriptor> {
    let found = the_guest(source, manifest)?;
    let bytes = source.read(found, provided::WASM_BYTES).await?;
    let name = args::tagged(&asked.tag)?;
    // Use the media type that containerd and the shim know. The content is the same.
    let suffix = if is_compressed(found) { compressed::SUFFIX } else { "" };
    let mut layer = layout.add(&format!("application/wasm{suffix}"), &bytes)?;
    let own = found.annotations().as_ref().and_then(|it| it.get(provided::LAYER_TITLE));
    let title = own.cloned().unwrap_or_else(|| file_name(&name));
    entitle(&mut layer, &title);

    let media_type = found.media_type().to_string();
    let wasm = compressed::unpacked(&media_type, bytes, provided::WASM_BYTES)?;
    let platforms = match (asked.platforms.as_slice(), Parser::is_component(&wasm)) {
        ([], true) => vec![Platform::wasip2()],
        ([], false) => vec![Platform::wasip1()],
        (given, _) => given.to_vec(),
    };
    let entrypoint = match asked.entrypoint.as_slice() {
        [] => vec![format!("/{}", file_name(&name))],
        given => given.to_vec(),
    };
    let settings = Build { env: asked.env.clone(), ..Build::default() };
    let counted = Layers { wasm: vec![layer.digest().to_string()], ..Layers::default() };
    let annotations = || serde_json::to_value(&manifest.annotations);
    let image = |platform: &Platform| {
        let config = config::of_image(&settings, &entrypoint, platform, &counted);
        let config = layout.add(media_type::CONFIG, &config)?;
        build::manifest(layout, &config, std::slice::from_ref(&layer), annotations()?)
    };
    index::of(layout, &platforms, annotations()?, image)
}

/// Returns the artifact's only layer.
fn the_guest<'a>(source: &Source, manifest: &'a Manifest) -> Result<&'a Descriptor> {
    match manifest.layers.iter().filter(|it| is_wasm(it)).collect::<Vec<_>>().as_slice() {
        [layer] => Ok(layer),
        found => {
            bail!("{} has {} wasm layers, and an artifact has one", source.title(), found.len())
        }
    }
}

fn is_compressed(layer: &Descriptor) -> bool {
    layer.media_type().as_ref().ends_with(compressed::SUFFIX)
}

/// Returns the last part of the image's name, for a layer without a name.
fn file_name(name: &Reference) -> String {
    let repository = name.repository();
    format!("{}.wasm", repository.rsplit('/').next().unwrap_or(repository))
}

/// Returns the image for other platforms. Config and manifest only change where they must.
async fn converted(
    asked: &args::Convert,
    source: &Source,
    layout: &Layout,
    manifest: &Manifest,
    bytes: &[u8],
) -> Result<Descriptor> {
    let config = source.read(&manifest.config, limits::JSON_BYTES).await?;
    let what = || format!("cannot parse the config of {}", source.title());
    let known: Config = serde_json::from_slice(&config).with_context(what)?;
    let files: Vec<_> = manifest.layers.iter().filter(|it| !is_wasm(it)).collect();
    if known.architecture != "wasm" || files.is_empty() {
        let why = match files.is_empty() {
            true => "has no ordinary layers",
            false => "is not for a platform of wasm",
        };
        bail!("{} is already an image that needs no conversion: it {why}", source.title());
    }
    for layer in &manifest.layers {
        layout.take(layer, &source.file(layer).await?)?;
    }
    let (config, manifest_json): (Value, Value) =
        (serde_json::from_slice(&config)?, serde_json::from_slice(bytes)?);
    let platforms = match asked.platforms.as_slice() {
        [] => vec![Platform::host()],
        given => given.to_vec(),
    };
    let image = |platform: &Platform| {
        let mut config = config.clone();
        config["os"] = json!(platform.os);
        config["architecture"] = json!(platform.architecture);
        set(&mut config, asked);
        count(&mut config, manifest);
        let wasm = manifest.layers.iter().filter(|it| is_wasm(it));
        let wasm: Vec<_> = wasm.map(|it| it.digest().to_string()).collect();
        if !wasm.is_empty() {
            config::name_layers(&mut config, &wasm);
        }
        let mut made = manifest_json.clone();
        let media_type = manifest.config.media_type().to_string();
        made["config"] = json!(layout.add(&media_type, config.to_string().as_bytes())?);
        let media_type = source_type(&made);
        layout.add(&media_type, made.to_string().as_bytes())
    };
    index::of(layout, &platforms, Value::Null, image)
}

/// Returns the media type that a manifest states for itself.
fn source_type(manifest: &Value) -> String {
    manifest["mediaType"].as_str().unwrap_or(media_type::MANIFEST).to_owned()
}

/// Applies the other options of the command line.
fn set(config: &mut Value, asked: &args::Convert) {
    if !asked.entrypoint.is_empty() {
        config["config"]["Entrypoint"] = json!(asked.entrypoint);
    }
    let given = asked.env.iter().map(|it| Value::from(config::assignment(it)));
    match config.pointer_mut("/config/Env").and_then(Value::as_array_mut) {
        Some(env) => env.extend(given),
        None if asked.env.is_empty() => {}
        None => config["config"]["Env"] = given.collect(),
    }
}

/// Removes the wasm layers from the config's list, because containerd counts the layers that it unpacks and refuses an
/// image that lists others.
fn count(config: &mut Value, manifest: &Manifest) {
    let diff_ids = config.pointer_mut("/rootfs/diff_ids").and_then(Value::as_array_mut);
    let Some(diff_ids) = diff_ids else { return };
    if diff_ids.len() == manifest.layers.len() {
        let mut layers = manifest.layers.iter();
        diff_ids.retain(|_| !layers.next().is_some_and(is_wasm));
    }
}
