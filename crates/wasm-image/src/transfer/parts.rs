//! Lists what an image consists of (OCI image specification, "Image Index" and "Image Manifest").

use std::collections::HashSet;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::image::Descriptor;

use super::Source;
use crate::limits;
use crate::manifest::{Index, Manifest};

/// Media types of indexes: OCI's, and Docker's name for the same.
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Everything that an image names.
#[derive(Debug)]
pub struct Parts {
    /// Configs and layers, each once.
    pub blobs: Vec<Descriptor>,
    /// Manifests and indexes with their bytes. One that another names comes before it.
    pub manifests: Vec<(Descriptor, Vec<u8>)>,
}

/// Returns whether a media type is that of an index.
pub fn is_index(media_type: &str) -> bool {
    INDEXES.contains(&media_type)
}

impl Parts {
    /// Reads all manifests of an image, or of something that refers to one.
    pub async fn of(source: &Source, image: &Descriptor) -> Result<Self> {
        let mut parts = Self { blobs: Vec::new(), manifests: Vec::new() };
        let (mut blobs, mut seen) = (HashSet::new(), HashSet::new());
        let mut next = vec![(image.clone(), 0)];
        while let Some((manifest, depth)) = next.pop() {
            ensure!(depth <= limits::INDEX_DEPTH, "{} nests too many indexes", source.title());
            if !seen.insert(manifest.digest().clone()) {
                continue;
            }
            let bytes = source.manifest(&manifest).await?;
            let named = named(&manifest, &bytes)
                .with_context(|| format!("{} of {}", manifest.digest(), source.title()))?;
            match named {
                Named::Manifests(found) => next.extend(found.into_iter().map(|it| (it, depth + 1))),
                Named::Blobs(found) => {
                    let new = found.into_iter().filter(|it| blobs.insert(it.digest().clone()));
                    parts.blobs.extend(new);
                }
            }
            parts.manifests.push((manifest, bytes));
            if parts.blobs.len() + next.len() > limits::BLOBS {
                bail!("{} names more than {} blobs", source.title(), limits::BLOBS);
            }
        }
        parts.manifests.reverse();
        Ok(parts)
    }

    /// Returns the size of everything together, in bytes.
    pub fn size(&self) -> u64 {
        let manifests = self.manifests.iter().map(|(it, _)| it.size());
        self.blobs.iter().map(Descriptor::size).chain(manifests).fold(0, u64::saturating_add)
    }
}

enum Named {
    Manifests(Vec<Descriptor>),
    Blobs(Vec<Descriptor>),
}

fn named(manifest: &Descriptor, bytes: &[u8]) -> Result<Named> {
    if is_index(manifest.media_type().as_ref()) {
        let index: Index = serde_json::from_slice(bytes).context("is not an image index")?;
        return Ok(Named::Manifests(index.manifests));
    }
    let manifest: Manifest = serde_json::from_slice(bytes).context("is not an image manifest")?;
    Ok(Named::Blobs([manifest.config].into_iter().chain(manifest.layers).collect()))
}
