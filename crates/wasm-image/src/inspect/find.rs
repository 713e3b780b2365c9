//! The guests of an image: its wasm layers, or the file that its entrypoint names.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageManifest, Os, Platform};

use super::Report;
use super::layers::{find_file, plain};
use super::report::Layer;
use crate::build::guest::binary;
use crate::build::media_type;
use crate::compose::Part;
use crate::config::{Config, Settings, is_wasm};
use crate::errors::Error;
use crate::limits;
use crate::store::compressed;
use crate::transfer::Source;
use crate::transfer::parts::is_index;

/// Looks at the image that the shim would run.
pub async fn report(source: &Source, title: &str) -> Result<Report> {
    let mut report = Report { image: title.into(), ..Report::default() };
    report.digest = Some(source.image.digest().to_string());
    let (manifest, platforms) = one_platform(source).await?;
    report.platforms = platforms;
    let config = source.read(manifest.config(), limits::JSON_BYTES).await?;
    let config: Config = serde_json::from_slice(&config)
        .with_context(|| format!("the config of {title} is not understood"))?;
    if report.platforms.is_empty() {
        report.platforms.push(format!("{}/{}", config.os, config.architecture));
    }
    report.entrypoint = config.config.args();
    report.layers = manifest.layers().iter().map(layer).collect();
    let is_artifact = manifest.config().media_type().as_ref() == media_type::WASM_CONFIG;
    if is_artifact {
        let note = "an artifact: its Pod has to give a `command`; `wasm-image convert` makes an image of it";
        report.notes.push(note.into());
    }
    let (path, export) = entry(&report.entrypoint);
    let parts = parts(source, &manifest, &path, &config.config).await?;
    if parts.is_empty() {
        report
            .notes
            .push("no WebAssembly is run by its entrypoint: it is run as a Linux program".into());
    }
    report.add(&parts, export.is_none());
    Ok(report)
}

fn layer(layer: &Descriptor) -> Layer {
    let (media_type, digest) = (layer.media_type().to_string(), layer.digest().to_string());
    Layer { media_type, digest, size: layer.size() }
}

/// An entrypoint is `path`, `path#export` or `#export`.
pub fn entry(entrypoint: &[String]) -> (String, Option<String>) {
    let first = entrypoint.first().map(String::as_str).unwrap_or_default();
    match first.split_once('#') {
        Some((path, export)) => (path.into(), Some(export.into())),
        None => (first.into(), None),
    }
}

/// The manifest that the shim prefers: for wasm, for this machine, any. And the platforms of its index.
async fn one_platform(source: &Source) -> Result<(ImageManifest, Vec<String>)> {
    let (mut manifest, mut all) = (source.image.clone(), Vec::new());
    for _ in 0..=limits::INDEX_DEPTH {
        let bytes = source.manifest(&manifest).await?;
        let what = || format!("{} of {} is not understood", manifest.digest(), source.title());
        if !is_index(manifest.media_type().as_ref()) {
            return Ok((serde_json::from_slice(&bytes).with_context(what)?, all));
        }
        let index: ImageIndex = serde_json::from_slice(&bytes).with_context(what)?;
        let entries = by_preference(&index);
        let platforms = entries.iter().filter_map(|it| it.platform().as_ref());
        all = platforms.map(|it| format!("{}/{}", it.os(), it.architecture())).collect();
        manifest = entries.into_iter().next().context("the index is empty")?;
    }
    bail!("{} has too many indexes in indexes", source.title())
}

/// An index's entries, the ones to prefer first: for wasm, for this machine, for others.
pub fn by_preference(index: &ImageIndex) -> Vec<Descriptor> {
    let mut entries = index.manifests().clone();
    entries.sort_by_key(|entry| entry.platform().as_ref().map_or(2, rank));
    entries
}

fn rank(platform: &Platform) -> u8 {
    match (platform.os(), platform.architecture()) {
        (_, Arch::Wasm) => 0,
        (Os::Linux, architecture) if *architecture == Arch::default() => 1,
        _ => 3,
    }
}

/// The wasm layers, when the root has no file that the entrypoint names.
async fn parts(
    source: &Source,
    manifest: &ImageManifest,
    path: &str,
    settings: &Settings,
) -> Result<Vec<Part>> {
    let files: Vec<_> = manifest.layers().iter().filter(|it| !is_wasm(it)).collect();
    if let Some((name, bytes)) = find_file(source, &files, &candidates(path, settings)).await? {
        let is_named_so = name.ends_with(".wasm") || name.ends_with(".wat");
        return Ok(match binary(bytes).map_err(|error| error.to_string()) {
            Err(_) if !is_named_so => Vec::new(),
            wasm => vec![Part { name, wasm }],
        });
    }
    of_layers(source, manifest).await
}

async fn of_layers(source: &Source, manifest: &ImageManifest) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for layer in manifest.layers().iter().filter(|it| is_wasm(it)) {
        let title = layer.annotations().as_ref().and_then(|it| it.get(provided::LAYER_TITLE));
        let name = provided::layer_name(title.map(String::as_str), layer.digest().as_ref());
        let bytes = source.read(layer, provided::WASM_BYTES).await?;
        let media_type = layer.media_type().to_string();
        let wasm = compressed::unpacked(&media_type, bytes, provided::WASM_BYTES).and_then(binary);
        parts.push(Part { name, wasm: wasm.map_err(|error| error.to_string()) });
    }
    Ok(parts)
}

/// The wasm layers of the image that the shim would run, in their order.
///
/// # Errors
/// [`Error::NotFound`] when it has none.
pub async fn wasm_layers(source: &Source) -> Result<Vec<Part>> {
    let (manifest, _) = one_platform(source).await?;
    let parts = of_layers(source, &manifest).await?;
    let nothing = || Error::NotFound { place: source.title(), what: "wasm layer".into() };
    if parts.is_empty() { Err(nothing().into()) } else { Ok(parts) }
}

/// Where the entrypoint may be, without the leading slash: the path itself, or a bare name in the working directory
/// and the folders of PATH.
fn candidates(path: &str, settings: &Settings) -> Vec<PathBuf> {
    if path.is_empty() {
        return Vec::new();
    }
    let mut found = vec![Path::new(settings.cwd()).join(path)];
    if !path.contains('/') {
        let env = settings.env().iter().rev().find_map(|it| it.strip_prefix("PATH="));
        found.extend(env.unwrap_or_default().split(':').map(|it| Path::new(it).join(path)));
    }
    found.iter().map(|it| plain(it)).collect()
}
