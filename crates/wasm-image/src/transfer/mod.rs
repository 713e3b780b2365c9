//! Moves an image from one location to another. [`source`] reads an image, [`target`] writes it, [`parts`] lists what
//! it consists of, and [`referrers`] what refers to it. [`copy`] combines them for `push`, `pull`, `copy`, and for the
//! end of `build` and `convert`.

pub mod parts;
mod referrers;
pub mod source;
pub mod target;

use anyhow::Result;
use oci_client::Reference;
use oci_spec::image::Descriptor;
use serde::Serialize;

use crate::progress;
pub use parts::Parts;
use referrers::{By, Referrer};
pub use source::Source;
pub use target::Target;

/// The result of a copy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    /// Name of the image at its new place.
    pub image: String,
    /// The new place: registry and repository, archive or directory.
    pub place: String,
    /// Digest of its manifest or index.
    pub digest: String,
    /// Media type of its manifest or index.
    pub media_type: String,
    /// Size of all its blobs and manifests together, in bytes.
    pub size: u64,
    /// Number of blobs that were sent.
    pub sent: usize,
    /// Number of bytes that were sent.
    pub sent_bytes: u64,
    /// Number of blobs that existed before.
    pub present: usize,
    /// Number of manifests that refer to it at its former place, such as signatures. `None` if that cannot be known.
    pub referrers: Option<usize>,
    /// Whether these were copied as well.
    pub referrers_copied: bool,
}

impl std::fmt::Display for Copied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let blobs = |count| if count == 1 { "blob" } else { "blobs" };
        writeln!(f, "{}@{}", self.image, self.digest)?;
        write!(f, "{} {} written to {}", self.sent, blobs(self.sent), self.place)?;
        write!(f, " ({})", progress::size(self.sent_bytes))?;
        match self.present {
            0 => {}
            1 => write!(f, "; 1 was there already")?,
            count => write!(f, "; {count} were there already")?,
        }
        let referrers = |count| if count == 1 { "manifest refers" } else { "manifests refer" };
        match (self.referrers.unwrap_or(0), self.referrers_copied) {
            (0, _) => Ok(()),
            (count, true) => write!(f, "\n{count} {} to it, copied as well", referrers(count)),
            (count, false) => {
                let what = "(signatures, bills of materials) and not copied: give --referrers";
                write!(f, "\n{count} {} to it {what}", referrers(count))
            }
        }
    }
}

/// Copies an image with all its platforms, and what refers to it if that is wanted. Blobs that the target has are not
/// sent again.
pub async fn copy(
    source: &Source,
    target: &Target,
    name: &Reference,
    with_referrers: bool,
) -> Result<Copied> {
    let parts = Parts::of(source, &source.image).await?;
    let mut copied = Copied {
        image: name.whole(),
        place: target.title(),
        digest: source.image.digest().to_string(),
        media_type: source.image.media_type().to_string(),
        size: parts.size(),
        sent: 0,
        sent_bytes: 0,
        present: 0,
        referrers: None,
        referrers_copied: with_referrers,
    };
    send(&parts.blobs, source, target, &mut copied).await?;
    if with_referrers {
        // This comes before the image has its name, so that a reader of the image finds its signature.
        let referrers = referrers::all(source, &parts).await?;
        copied.referrers = Some(referrers.len());
        for referrer in referrers {
            send(&referrer.parts.blobs, source, target, &mut copied).await?;
            target.put_referrer(&referrer, name).await?;
        }
    } else {
        match referrers::count(source, &parts).await {
            Ok(count) => copied.referrers = Some(count),
            Err(error) => {
                progress::note(&format!("cannot list what refers to the image: {error:#}"))
            }
        }
    }
    target.finish(source, &parts, name).await?;
    Ok(copied)
}

async fn send(
    blobs: &[Descriptor],
    source: &Source,
    target: &Target,
    copied: &mut Copied,
) -> Result<()> {
    for blob in blobs {
        if target.has(blob).await? || target.mount(blob, source.origin.as_ref()).await? {
            copied.present += 1;
            continue;
        }
        target.put(blob, &source.file(blob).await?).await?;
        copied.sent += 1;
        copied.sent_bytes += blob.size();
    }
    Ok(())
}

/// Shortens a digest as people compare it.
pub fn short(digest: &str) -> &str {
    digest.get(.."sha256:".len() + 12).unwrap_or(digest)
}
