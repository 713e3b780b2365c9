//! Reads what a container of an image needs from the node.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result};
use oci_spec::image::Descriptor;
use rule::{Index, Manifest, Platform, by_choice};
use serde::de::DeserializeOwned;

use super::node::Node;
use crate::config::{Config, is_wasm};
use crate::errors::Error;
use crate::limits;
use crate::store::blob::chain_id;
use crate::transfer::parts::is_index;

/// An image on the node.
#[derive(Debug)]
pub struct Image {
    /// Name of the image in containerd.
    pub name: String,
    /// Digest of its manifest.
    pub digest: String,
    /// Digest of its config, by which CRI knows it.
    pub config: String,
    /// Arguments. An artifact has none, so it gets a name that leads to its layer.
    pub args: Vec<String>,
    /// Environment.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: String,
    /// The label that the shim reads. A container has it from its image.
    pub labels: HashMap<String, String>,
    /// Snapshot of its files. Empty if it has none.
    pub snapshot: String,
    /// Wasm layers.
    layers: Vec<Descriptor>,
}

impl Image {
    /// Reads an image from the node.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the node has no image of that name, or its content for no platform.
    pub async fn of(node: &Node, name: &str) -> Result<Self> {
        let missing = |what: String| Error::NotFound { place: node.title(), what };
        let target = node.image(name).await?;
        let pull = || format!("image {name}: pull it first (`crictl pull`, `ctr images pull`)");
        let target = target.ok_or_else(|| missing(pull()))?;
        let found = manifest(node, target).await?;
        let (digest, manifest) =
            found.ok_or_else(|| missing(format!("manifest of {name} for wasm or this machine")))?;
        let found: Option<Config> = json(node, &manifest.config).await?;
        let Config { config, rootfs, .. } =
            found.ok_or_else(|| missing(format!("config of {name}")))?;
        let mut args = config.args();
        if args.is_empty() {
            args.push("/guest.wasm".to_owned());
        }
        Ok(Self {
            name: name.to_owned(),
            digest,
            config: manifest.config.digest().to_string(),
            args,
            env: config.env(),
            cwd: config.cwd().to_owned(),
            labels: config.label(provided::PREINIT).into_iter().collect(),
            snapshot: chain_id(&rootfs.diff_ids),
            layers: manifest.layers.iter().filter(|it| is_wasm(it)).cloned().collect(),
        })
    }

    /// Returns what the shim has noted on the layers about their compiled code. Returns `None` for an image without
    /// wasm layers.
    pub async fn codes(&self, node: &Node) -> Result<Option<BTreeMap<String, String>>> {
        let mut codes = BTreeMap::new();
        for layer in &self.layers {
            let labels = node.labels(layer.digest().as_ref()).await?;
            codes.extend(
                labels.into_iter().filter(|(key, _)| key.starts_with(provided::CODE_LABEL)),
            );
        }
        Ok((!self.layers.is_empty()).then_some(codes))
    }
}

/// Returns the manifest that a Pod would get of those on the node, and its digest.
async fn manifest(node: &Node, target: Descriptor) -> Result<Option<(String, Manifest)>> {
    let mut pending = vec![(target, 0)];
    while let Some((entry, depth)) = pending.pop() {
        if !is_index(entry.media_type().as_ref()) {
            match json(node, &entry).await? {
                Some(manifest) => return Ok(Some((entry.digest().to_string(), manifest))),
                None => continue,
            }
        }
        if depth < limits::INDEX_DEPTH
            && let Some(index) = json::<Index>(node, &entry).await?
        {
            let entries = by_choice(&Platform::here(), &index).into_iter().rev();
            pending.extend(entries.map(|it| (it.clone(), depth + 1)));
        }
    }
    Ok(None)
}

/// Parses content of the node. Returns `None` if it was not pulled.
async fn json<T: DeserializeOwned>(node: &Node, entry: &Descriptor) -> Result<Option<T>> {
    let Some(bytes) = node.content(entry).await? else { return Ok(None) };
    let what = || format!("cannot parse {} of {}", entry.digest(), node.title());
    serde_json::from_slice(&bytes).map(Some).with_context(what)
}
