//! Finds the guests of an image: its wasm layers, or the file that its entrypoint names.
//!
//! The crate `rule` decides which of them runs, as it does for the shim. This module provides the image's documents and
//! files to it.

use std::path::Path;

use anyhow::{Context, Result, bail};
use oci_spec::image::Descriptor;
use rule::{Config, Entrypoint, Index, Manifest, Node, Platform, Process, Refusal, Step, Unusable};
use serde::de::DeserializeOwned;

use super::layers::Layer;
use super::tree::{File, Tree};
use super::{Report, program, report};
use crate::build::guest::binary;
use crate::composition::Part;
use crate::errors::Error;
use crate::limits;
use crate::store::compressed;
use crate::transfer::Source;
use crate::transfer::parts::is_index;

/// Reports on the image that a node would run.
pub async fn report(source: &Source, title: &str, node: &Node) -> Result<Report> {
    let mut report = Report { image: title.into(), ..Report::default() };
    report.digest = Some(source.image.digest().to_string());
    report.node = Some(format!("{}, containerd {}", node.platform, node.containerd));
    let Some(image) = Image::of(source, node, &mut report).await? else {
        report.add(&[], None);
        return Ok(report);
    };
    report.entrypoint = image.config.config.args();
    report.layers = image.manifest.layers.iter().map(layer).collect();
    let ignored = |layer: &Descriptor| {
        format!("a layer of type {} is neither files nor wasm, and is ignored", layer.media_type())
    };
    report.notes.extend(rule::ignored(&image.manifest).map(ignored));
    let found = image.guests(source, node).await?;
    report.needs_command = report.entrypoint.is_empty();
    if !image.manifest.is_image() {
        let note =
            "an artifact: its Pod must give a `command`; `wasm-image convert` makes an image of it";
        report.notes.push(note.into());
    }
    if found.is_program {
        report.notes.push("it runs as a Linux program".into());
    }
    report.refused = report.refused.or(found.refused);
    if !found.is_program {
        report.add_labels(&image.config.config.labels(provided::PREFIX));
    }
    report.add(&found.parts, found.export.as_deref());
    Ok(report)
}

/// Reads the labels for this runtime of the image that the node's containerd takes.
pub async fn labels(source: &Source, node: &Node) -> Result<Vec<(String, String)>> {
    let image = Image::of(source, node, &mut Report::default()).await?;
    Ok(image.map(|image| image.config.config.labels(provided::PREFIX)).unwrap_or_default())
}

fn layer(layer: &Descriptor) -> report::Layer {
    let (media_type, digest) = (layer.media_type().to_string(), layer.digest().to_string());
    report::Layer { media_type, digest, size: layer.size() }
}

/// The image for one platform.
struct Image {
    manifest: Manifest,
    config: Config,
}

/// The part of an image that would run.
#[derive(Default)]
struct Runs {
    /// The guest, and the components that it is composed with.
    parts: Vec<Part>,
    /// The export that is called instead of that of its world.
    export: Option<String>,
    /// Whether the kernel runs it.
    is_program: bool,
    /// The reason why nothing would run.
    refused: Option<String>,
}

impl Image {
    /// Returns the image that the node's containerd takes. If containerd takes none, the report says so, and the most
    /// suitable image of an index is returned. Returns `None` for an empty index.
    async fn of(source: &Source, node: &Node, report: &mut Report) -> Result<Option<Self>> {
        let (mut manifest, mut index) = (source.image.clone(), None);
        for _ in 0..=limits::INDEX_DEPTH {
            if !is_index(manifest.media_type().as_ref()) {
                let is_open = index.is_some() && manifest.platform().is_none();
                let found = Self::read(source, &manifest).await?;
                if let Some(index) = index.filter(|_| is_open) {
                    refuse(report, node.accept(&index, &found.config));
                }
                if report.platforms.is_empty() {
                    report.platforms.push(Platform::of_config(&found.config).to_string());
                }
                return Ok(Some(found));
            }
            let entries: Index = json(source, &manifest).await?;
            let chosen = node.choose(&entries).cloned();
            let next = rule::by_preference(&entries);
            let named = next.iter().filter_map(|it| Platform::of_entry(it));
            report.platforms = named.map(|it| it.to_string()).collect();
            let next = match chosen {
                Ok(chosen) => Some(chosen),
                Err(why) => {
                    refuse(report, Err(why));
                    next.first().map(|it| (*it).clone())
                }
            };
            let Some(next) = next else { return Ok(None) };
            (manifest, index) = (next, Some(entries));
        }
        bail!("{} nests too many indexes", source.title())
    }

    async fn read(source: &Source, manifest: &Descriptor) -> Result<Self> {
        let manifest: Manifest = json(source, manifest).await?;
        let config = source.read(&manifest.config, limits::JSON_BYTES).await?;
        let what = || format!("cannot parse the config of {}", source.title());
        let config = serde_json::from_slice(&config).with_context(what)?;
        Ok(Self { manifest, config })
    }

    /// Finds what the node would run.
    async fn guests(&self, source: &Source, node: &Node) -> Result<Runs> {
        let mut refused = None;
        let files = match node.unpack(&self.manifest, &self.config) {
            Ok(files) => files,
            Err(why) => {
                refused = Some(why.to_string());
                vec![]
            }
        };
        let tree = match self.tree(source, files).await? {
            Ok(tree) => tree,
            Err(why) => {
                refused = refused.or(Some(why));
                Tree::default()
            }
        };
        let settings = &self.config.config;
        let (args, env) = (settings.args(), settings.env());
        let process = Process { args: &args, cwd: Path::new(settings.cwd()), env: &env };
        let mut runs = self.decide(source, &tree, &process).await?;
        runs.refused = refused.or(runs.refused);
        Ok(runs)
    }

    /// Returns the image's files, or the reason why the node cannot unpack them.
    async fn tree(&self, source: &Source, files: Vec<&Descriptor>) -> Result<Result<Tree, String>> {
        let mut layers = Vec::new();
        for (file, stated) in files.into_iter().zip(&self.config.rootfs.diff_ids) {
            let layer = Layer::new(file, source.file(file).await?, &source.title());
            let found = layer.diff_id()?;
            if found != *stated {
                let digest = file.digest();
                return Ok(Err(format!(
                    "containerd cannot unpack it: layer {digest} has {found}, and the config says {stated}"
                )));
            }
            layers.push(layer);
        }
        Tree::of(layers).map(Ok)
    }

    /// Decides as the shim does, with the same files.
    async fn decide(&self, source: &Source, tree: &Tree, process: &Process<'_>) -> Result<Runs> {
        let found = rule::find(process, |path| Ok(tree.look(path)), |file| tree.head(file));
        let step = found.and_then(|(entrypoint, entry)| {
            let step = entry.step(&entrypoint)?;
            Ok((entrypoint, step))
        });
        let (entrypoint, step) = match step {
            Ok(found) => found,
            Err(error) => return verdict(error),
        };
        let export = entrypoint.export.map(str::to_owned);
        match step {
            Step::Guest(file) => {
                let part = of_file(tree, &file)?;
                Ok(Runs { parts: vec![part], export, ..Runs::default() })
            }
            Step::Program(file) => {
                let refused = program::reason(tree, entrypoint.path, &file)?;
                Ok(Runs { is_program: refused.is_none(), refused, ..Runs::default() })
            }
            Step::Layers => self.of_layers(source, process, &entrypoint).await,
        }
    }

    async fn of_layers(
        &self,
        source: &Source,
        process: &Process<'_>,
        entrypoint: &Entrypoint<'_>,
    ) -> Result<Runs> {
        let layers = match rule::wasm_layers(&self.manifest) {
            Ok(layers) if layers.is_empty() => Err(rule::NO_LAYERS),
            Ok(layers) => Ok(layers),
            Err(error) => return verdict(error.into()),
        };
        let export = entrypoint.export.map(str::to_owned);
        match rule::of_layers(process, entrypoint, layers) {
            Ok(Some(_)) => match self.parts(source).await {
                Ok(parts) => Ok(Runs { parts, export, ..Runs::default() }),
                Err(error) => verdict(error),
            },
            Ok(None) if process.args.is_empty() => {
                let why = "it has no entrypoint: its Pod must give a `command`";
                Ok(Runs { refused: Some(why.into()), ..Runs::default() })
            }
            Ok(None) => {
                let refused = Some(program::missing(process, entrypoint));
                Ok(Runs { refused, ..Runs::default() })
            }
            Err(error) => verdict(error.into()),
        }
    }

    /// Returns the wasm layers, in their order.
    async fn parts(&self, source: &Source) -> Result<Vec<Part>> {
        let mut parts = Vec::new();
        for layer in rule::wasm_layers(&self.manifest)? {
            let bytes = source.read(layer, provided::WASM_BYTES).await?;
            let head = bytes[..bytes.len().min(rule::HEAD_BYTES)].to_vec();
            let head = rule::Head { bytes: head, size: bytes.len() as u64 };
            rule::check_layer(layer, &head)?;
            let media_type = layer.media_type().to_string();
            let wasm =
                compressed::unpacked(&media_type, bytes, provided::WASM_BYTES).and_then(binary);
            let wasm = wasm.map_err(|error| error.to_string());
            parts.push(Part { name: rule::layer_name(layer), wasm });
        }
        Ok(parts)
    }
}

fn of_file(tree: &Tree, file: &File) -> Result<Part> {
    let bytes = tree.bytes(file, provided::WASM_BYTES)?;
    let wasm = binary(bytes).map_err(|error| error.to_string());
    Ok(Part { name: file.path.display().to_string(), wasm })
}

fn refuse(report: &mut Report, found: Result<(), Unusable>) {
    let refused = found.err().map(|why| why.to_string());
    report.refused = report.refused.take().or(refused);
}

/// Turns a refusal by the shim into a result. A file that cannot be read stays an error.
fn verdict(error: anyhow::Error) -> Result<Runs> {
    let refused = error.downcast::<Refusal>()?.to_string();
    Ok(Runs { refused: Some(refused), ..Runs::default() })
}

async fn json<T: DeserializeOwned>(source: &Source, entry: &Descriptor) -> Result<T> {
    let bytes = source.manifest(entry).await?;
    let what = || format!("cannot parse {} of {}", entry.digest(), source.title());
    serde_json::from_slice(&bytes).with_context(what)
}

/// Returns the wasm layers of the image that a node would run, in their order.
///
/// # Errors
/// [`Error::NotFound`] if it has none.
pub async fn wasm_layers(source: &Source, node: &Node) -> Result<Vec<Part>> {
    let image = Image::of(source, node, &mut Report::default()).await?;
    let parts = match image {
        Some(image) => image.parts(source).await?,
        None => vec![],
    };
    let nothing = || Error::NotFound { place: source.title(), what: "wasm layer".into() };
    if parts.is_empty() { Err(nothing().into()) } else { Ok(parts) }
}
