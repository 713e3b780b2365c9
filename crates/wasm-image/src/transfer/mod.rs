//! From one place to another: [`source`] is where an image is read, [`target`] where it is put, [`parts`] what it
//! consists of. [`copy`] puts them together: `push`, `pull`, `copy` and what `build` and `convert` end with.

pub mod parts;
pub mod source;
pub mod target;

use anyhow::Result;
use oci_client::Reference;
use serde::Serialize;

use crate::progress;
pub use parts::Parts;
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
}

impl std::fmt::Display for Copied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let blobs = |count| if count == 1 { "blob" } else { "blobs" };
        writeln!(f, "{}@{}", self.image, self.digest)?;
        write!(f, "{} {} written to {}", self.sent, blobs(self.sent), self.place)?;
        write!(f, " ({})", progress::size(self.sent_bytes))?;
        match self.present {
            0 => Ok(()),
            count => {
                write!(f, "; {count} {} there already", if count == 1 { "was" } else { "were" })
            }
        }
    }
}

/// Copies an image with all its platforms; what the target has is not sent again.
pub async fn copy(source: &Source, target: &Target, name: &Reference) -> Result<Copied> {
    let parts = Parts::of(source).await?;
    let mut copied = Copied {
        image: name.whole(),
        place: target.title(),
        digest: source.image.digest().to_string(),
        media_type: source.image.media_type().to_string(),
        size: parts.size(),
        sent: 0,
        sent_bytes: 0,
        present: 0,
    };
    for blob in &parts.blobs {
        if target.has(blob).await? || target.mount(blob, source.origin.as_ref()).await? {
            copied.present += 1;
            continue;
        }
        target.put(blob, &source.file(blob).await?).await?;
        copied.sent += 1;
        copied.sent_bytes += blob.size();
    }
    target.finish(source, &parts, name).await?;
    Ok(copied)
}

/// A digest as people compare it.
pub fn short(digest: &str) -> &str {
    digest.get(.."sha256:".len() + 12).unwrap_or(digest)
}
