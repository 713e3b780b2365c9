//! What others say of an image: signatures, bills of materials. Each is a manifest that names the image's as its subject
//! (OCI image specification, "Image Manifest"), and may have others that refer to it in turn.

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
    /// The digest of what it refers to.
    pub subject: String,
    /// What it consists of, itself included.
    pub parts: Parts,
}

/// How many manifests refer to an image, or to one of its platforms'.
pub async fn count(source: &Source, image: &Parts) -> Result<usize> {
    let mut found = HashSet::new();
    for (manifest, _) in &image.manifests {
        let referrers = source.referrers(manifest.digest().as_ref()).await?;
        found.extend(referrers.iter().map(|it| it.digest().to_string()));
    }
    Ok(found.len())
}

/// All that refers to an image or to one of its platforms', and what refers to that.
pub async fn all(source: &Source, image: &Parts) -> Result<Vec<Referrer>> {
    let (mut found, mut seen) = (Vec::new(), HashSet::new());
    let subjects = image.manifests.iter().map(|(it, _)| (it.digest().to_string(), 0));
    let mut next: Vec<_> = subjects.collect();
    while let Some((subject, depth)) = next.pop() {
        for manifest in source.referrers(&subject).await? {
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
            found.push(Referrer { manifest, subject: subject.clone(), parts });
        }
    }
    Ok(found)
}
