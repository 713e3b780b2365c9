//! From one place to another: [`source`] is where an image is read, [`target`] where it is put, [`parts`] what it
//! consists of, [`referrers`] what others say of it. [`copy`] puts them together: `push`, `pull`, `copy` and what `build`
//! and `convert` end with.

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

/// What became of a copy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Copied {
    /// The image's name at its new place.
    pub image: String,
    /// Where it is now: registry and repository, archive or folder.
    pub place: String,
    /// The digest of its manifest or index.
    pub digest: String,
    /// The media type of that.
    pub media_type: String,
    /// All its blobs and manifests together, in bytes.
    pub size: u64,
    /// How many blobs were sent.
    pub sent: usize,
    /// How many bytes they have.
    pub sent_bytes: u64,
    /// How many blobs were there before.
    pub present: usize,
    /// How many manifests refer to it where it was, such as signatures; none where that is not to be known.
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

/// Copies an image with all its platforms, and what refers to it where that is wanted; what the target has is not sent
/// again.
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
        // Before the image has its name: whoever looks for a signature then finds it.
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
                progress::note(&format!("what refers to the image is not known: {error:#}"))
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

/// A digest as people compare it.
pub fn short(digest: &str) -> &str {
    digest.get(.."sha256:".len() + 12).unwrap_or(digest)
}
