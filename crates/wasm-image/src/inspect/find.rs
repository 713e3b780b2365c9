//! The guests of an image: its wasm layers, or the file that its entrypoint names.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageManifest, Os, Platform};
use serde::Deserialize;

use super::Report;
use super::guest::Guest;
use super::layers::{find_file, plain};
use super::report::Layer;
use crate::build::guest::binary;
use crate::build::media_type;
use crate::limits;
use crate::transfer::parts::is_index;
use crate::transfer::{Source, short};

/// What is read of an image's config; an artifact's has none of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    os: String,
    architecture: String,
    config: Settings,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Settings {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
}

/// Looks at the image that the shim would run.
pub async fn report(source: &Source, title: &str) -> Result<Report> {
    let mut report = Report { image: title.into(), ..Report::default() };
    report.digest = Some(source.image.digest().to_string());
    let manifest = one_platform(source, &mut report).await?;
    let config = source.read(manifest.config(), limits::JSON_BYTES).await?;
    let config: Config = serde_json::from_slice(&config)
        .with_context(|| format!("the config of {title} is not understood"))?;
    if report.platforms.is_empty() {
        report.platforms.push(format!("{}/{}", config.os, config.architecture));
    }
    let Settings { entrypoint, cmd, .. } = &config.config;
    report.entrypoint = [entrypoint, cmd].into_iter().flatten().flatten().cloned().collect();
    report.layers = manifest.layers().iter().map(layer).collect();
    let is_artifact = manifest.config().media_type().as_ref() == media_type::WASM_CONFIG;
    if is_artifact {
        let note = "an artifact: its Pod has to give a `command`; `wasm-image convert` makes an image of it";
        report.notes.push(note.into());
    }
    let (path, export) = entry(&report.entrypoint);
    let guests = guests(source, &manifest, &path, &config.config).await?;
    if guests.is_empty() {
        report
            .notes
            .push("no WebAssembly is run by its entrypoint: it is run as a Linux program".into());
    }
    report.add_all(guests, export.is_none());
    Ok(report)
}

fn layer(layer: &Descriptor) -> Layer {
    let (media_type, digest) = (layer.media_type().to_string(), layer.digest().to_string());
    Layer { media_type, digest, size: layer.size() }
}

/// An entrypoint is `path`, `path#export` or `#export`.
fn entry(entrypoint: &[String]) -> (String, Option<String>) {
    let first = entrypoint.first().map(String::as_str).unwrap_or_default();
    match first.split_once('#') {
        Some((path, export)) => (path.into(), Some(export.into())),
        None => (first.into(), None),
    }
}

/// The manifest that the shim prefers: for wasm, for this machine, any.
async fn one_platform(source: &Source, report: &mut Report) -> Result<ImageManifest> {
    let mut manifest = source.image.clone();
    for _ in 0..=limits::INDEX_DEPTH {
        let bytes = source.manifest(&manifest).await?;
        let what = || format!("{} of {} is not understood", manifest.digest(), source.title());
        if !is_index(manifest.media_type().as_ref()) {
            return serde_json::from_slice(&bytes).with_context(what);
        }
        let index: ImageIndex = serde_json::from_slice(&bytes).with_context(what)?;
        let mut entries = index.manifests().clone();
        entries.sort_by_key(|entry| entry.platform().as_ref().map_or(2, rank));
        let platforms = entries.iter().filter_map(|it| it.platform().as_ref());
        report.platforms =
            platforms.map(|it| format!("{}/{}", it.os(), it.architecture())).collect();
        manifest = entries.into_iter().next().context("the index is empty")?;
    }
    bail!("{} has too many indexes in indexes", source.title())
}

fn rank(platform: &Platform) -> u8 {
    match (platform.os(), platform.architecture()) {
        (_, Arch::Wasm) => 0,
        (Os::Linux, architecture) if *architecture == Arch::default() => 1,
        _ => 3,
    }
}

/// The wasm layers, when the root has no file that the entrypoint names.
async fn guests(
    source: &Source,
    manifest: &ImageManifest,
    path: &str,
    settings: &Settings,
) -> Result<Vec<Guest>> {
    let is_wasm = |it: &&Descriptor| provided::WASM_LAYERS.contains(&it.media_type().as_ref());
    let (wasm, files): (Vec<_>, Vec<_>) = manifest.layers().iter().partition(is_wasm);
    if let Some((name, bytes)) = find_file(source, &files, &candidates(path, settings)).await? {
        let is_named_so = name.ends_with(".wasm") || name.ends_with(".wat");
        return Ok(match binary(bytes) {
            Ok(wasm) => vec![Guest::read(&name, &wasm)],
            Err(error) if is_named_so => {
                vec![Guest { invalid: Some(error.to_string()), ..Guest::read(&name, b"") }]
            }
            Err(_) => Vec::new(),
        });
    }
    let mut guests = Vec::new();
    for layer in wasm {
        let name = short(layer.digest().as_ref()).to_owned();
        let bytes = source.read(layer, provided::WASM_BYTES).await?;
        guests.push(match binary(bytes) {
            Ok(wasm) => Guest::read(&name, &wasm),
            Err(error) => Guest { invalid: Some(error.to_string()), ..Guest::read(&name, b"") },
        });
    }
    Ok(guests)
}

/// Where the entrypoint may be, without the leading slash: the path itself, or a bare name in the working directory
/// and the folders of PATH.
fn candidates(path: &str, settings: &Settings) -> Vec<PathBuf> {
    if path.is_empty() {
        return Vec::new();
    }
    let cwd = settings.working_dir.as_deref().filter(|it| !it.is_empty()).unwrap_or("/");
    let mut found = vec![Path::new(cwd).join(path)];
    if !path.contains('/') {
        let env = settings.env.iter().flatten().rev().find_map(|it| it.strip_prefix("PATH="));
        found.extend(env.unwrap_or_default().split(':').map(|it| Path::new(it).join(path)));
    }
    found.iter().map(|it| plain(it)).collect()
}
