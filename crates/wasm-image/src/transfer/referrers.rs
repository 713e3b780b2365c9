//! Finds what refers to an image: signatures, bills of materials. Each is a manifest that names the image's manifest as
//! its subject (OCI image specification, "Image Manifest"), and others may refer to it in turn. Those of cosign before
//! 3 name no subject; they have a tag that is made from the image's digest.

use std::collections::HashSet;

use anyhow::{Result, bail};
use oci_spec::image::Descriptor;

use super::{Parts, Source};
use crate::limits;

/// A manifest that refers to another.
#[derive(Debug)]
pub struct Referrer {
    /// The manifest.
    pub manifest: Descriptor,
    /// How it refers to the image.
    pub by: By,
    /// Everything that it consists of, itself included.
    pub parts: Parts,
}

/// The way in which a manifest refers to another.
#[derive(Clone, Debug)]
pub enum By {
    /// It names that digest as its subject.
    Subject(String),
    /// It has this tag.
    Tag(String),
}

/// Endings of cosign's tags: signatures, attestations and bills of materials (its `SIGNATURE_SPEC.md`, "Tag-based
/// Discovery").
const ENDINGS: [&str; 3] = [".sig", ".att", ".sbom"];

/// Returns the tags under which something refers to the manifest of a digest.
pub fn tags(digest: &str) -> impl Iterator<Item = String> {
    let stem = digest.replacen(':', "-", 1);
    ENDINGS.into_iter().map(move |it| format!("{stem}{it}"))
}

/// Returns whether a tag is of that kind.
pub fn is_tag(tag: &str) -> bool {
    tag.starts_with("sha256-") && ENDINGS.iter().any(|it| tag.ends_with(it))
}

/// Returns the manifests that refer to that of a digest, and how.
async fn to(source: &Source, digest: &str) -> Result<Vec<(Descriptor, By)>> {
    let named = source.referrers(digest).await?.into_iter();
    let mut all: Vec<_> = named.map(|it| (it, By::Subject(digest.to_owned()))).collect();
    for tag in tags(digest) {
        all.extend(source.tagged(&tag).await?.map(|it| (it, By::Tag(tag))));
    }
    Ok(all)
}

/// Returns the number of manifests that refer to an image, or to one of its platforms' images.
pub async fn count(source: &Source, image: &Parts) -> Result<usize> {
    let mut found = HashSet::new();
    for (manifest, _) in &image.manifests {
        let referrers = to(source, manifest.digest().as_ref()).await?;
        found.extend(referrers.iter().map(|(it, _)| it.digest().to_string()));
    }
    Ok(found.len())
}

/// Returns everything that refers to an image or to one of its platforms' images, and what refers to that.
pub async fn all(source: &Source, image: &Parts) -> Result<Vec<Referrer>> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    let subjects = image.manifests.iter().map(|(it, _)| (it.digest().to_string(), 0));
    let mut next: Vec<_> = subjects.collect();
    while let Some((subject, depth)) = next.pop() {
        for (manifest, by) in to(source, &subject).await? {
            let digest = manifest.digest().to_string();
            if !seen.insert(digest.clone()) {
                continue;
            }
            if found.len() == limits::BLOBS {
                bail!("more than {} manifests of {} refer to it", limits::BLOBS, source.title());
            }
            if depth < limits::INDEX_DEPTH {
                next.push((digest, depth + 1));
            }
            let parts = Parts::of(source, &manifest).await?;
            found.push(Referrer { manifest, by, parts });
        }
    }
    Ok(found)
}
