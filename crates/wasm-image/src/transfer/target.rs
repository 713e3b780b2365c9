//! Writes an image.

use std::path::{Path, PathBuf};

use anyhow::Result;
use oci_client::Reference;
use oci_spec::image::Descriptor;

use super::{By, Parts, Referrer, Source};
use crate::errors::Error;
use crate::location::Location;
use crate::progress::Bar;
use crate::registry::{Options, Remote};
use crate::scratch::Directory;
use crate::store::output::{self, is_stdout};
use crate::store::{Layout, archive};

/// A place that an image can be written to.
#[derive(Debug)]
pub enum Target {
    /// A directory.
    Layout(Layout),
    /// An archive, and the layout that will be packed into it.
    Archive {
        /// The file to write.
        file: PathBuf,
        /// Its content so far.
        layout: Layout,
        /// The directory that has the layout.
        _scratch: Directory,
    },
    /// A repository.
    Registry(Box<Remote>),
}

impl Target {
    /// Opens a place. It does not write anything that could be taken for an image.
    pub fn open(place: &Location, options: &Options) -> Result<Self> {
        Ok(match place {
            Location::Registry(reference) => {
                Target::Registry(Box::new(Remote::new(reference.clone(), options)?))
            }
            Location::Layout(directory) => Target::Layout(Layout::create(directory)?),
            Location::Archive(file) => {
                // A terminal is refused before there is anything to write.
                output::check(file)?;
                let scratch = Directory::new()?;
                let layout = Layout::create(scratch.path())?;
                Target::Archive { file: file.clone(), layout, _scratch: scratch }
            }
        })
    }

    /// Returns the layout on disk to which the blobs go, so that they need not be kept elsewhere before.
    pub fn layout(&self) -> Option<Layout> {
        match self {
            Target::Layout(layout) | Target::Archive { layout, .. } => Some(layout.clone()),
            Target::Registry(_) => None,
        }
    }

    /// Returns the place, for messages.
    pub fn title(&self) -> String {
        match self {
            Target::Layout(layout) => layout.title.clone(),
            Target::Archive { file, .. } if is_stdout(file) => "standard output".into(),
            Target::Archive { file, .. } => file.display().to_string(),
            Target::Registry(remote) => remote.title(),
        }
    }

    /// Returns whether the place has the complete blob.
    pub async fn has(&self, blob: &Descriptor) -> Result<bool> {
        match self {
            Target::Layout(layout) | Target::Archive { layout, .. } => {
                Ok(layout.has(blob)? && layout.checked(blob).is_ok())
            }
            Target::Registry(remote) => remote.has_blob(blob).await,
        }
    }

    /// Asks a registry to take a blob from another of its repositories. Returns whether it did.
    pub async fn mount(&self, blob: &Descriptor, origin: Option<&Reference>) -> Result<bool> {
        match (self, origin) {
            (Target::Registry(remote), Some(origin))
                if origin.resolve_registry() == remote.registry()
                    && origin.repository() != remote.reference.repository() =>
            {
                remote.mount(blob, origin.repository()).await
            }
            _ => Ok(false),
        }
    }

    /// Writes a blob from a file with its content.
    pub async fn put(&self, blob: &Descriptor, file: &Path) -> Result<()> {
        match self {
            Target::Registry(remote) => {
                let digest = blob.digest().to_string();
                let bar = Bar::new(&format!("sending {}", super::short(&digest)), blob.size());
                remote.upload(blob, file, &bar).await
            }
            Target::Layout(layout) | Target::Archive { layout, .. } => layout.take(blob, file),
        }
    }

    /// Writes the manifests of what refers to the image called `name`. Its blobs must be there already.
    pub async fn put_referrer(&self, referrer: &Referrer, name: &Reference) -> Result<()> {
        match self {
            Target::Registry(remote) => push_referrer(remote, referrer).await,
            Target::Layout(layout) | Target::Archive { layout, .. } => {
                for (manifest, bytes) in &referrer.parts.manifests {
                    layout.add(manifest.media_type().as_ref(), bytes)?;
                }
                let place = format!("{}/{}", name.registry(), name.repository());
                match &referrer.by {
                    By::Subject(_) => layout.list(&referrer.manifest),
                    By::Tag(tag) => layout.tag(&referrer.manifest, &format!("{place}:{tag}"), tag),
                }
            }
        }
    }

    /// Writes the manifests and gives the image its name. Before that, the image is not visible.
    pub async fn finish(&self, source: &Source, parts: &Parts, name: &Reference) -> Result<()> {
        let image = &source.image;
        match self {
            Target::Registry(remote) => push_manifests(remote, image, parts, name).await,
            Target::Layout(layout) => list(layout, image, parts, name),
            Target::Archive { file, layout, .. } => {
                list(layout, image, parts, name)?;
                archive::pack(layout, file)
            }
        }
    }
}

fn list(layout: &Layout, image: &Descriptor, parts: &Parts, name: &Reference) -> Result<()> {
    for (manifest, bytes) in &parts.manifests {
        layout.add(manifest.media_type().as_ref(), bytes)?;
    }
    layout.tag(image, &name.whole(), name.tag().unwrap_or("latest"))
}

async fn push_referrer(remote: &Remote, referrer: &Referrer) -> Result<()> {
    for (manifest, bytes) in &referrer.parts.manifests {
        let is_whole = manifest.digest() == referrer.manifest.digest();
        let digest = manifest.digest().as_ref();
        match &referrer.by {
            By::Subject(subject) if is_whole => {
                remote.put_referrer(manifest, bytes, subject).await?;
            }
            By::Tag(tag) if is_whole => drop(remote.put_manifest(manifest, tag, bytes).await?),
            _ => drop(remote.put_manifest(manifest, digest, bytes).await?),
        }
    }
    Ok(())
}

async fn push_manifests(
    remote: &Remote,
    image: &Descriptor,
    parts: &Parts,
    name: &Reference,
) -> Result<()> {
    if let Some(digest) = name.digest()
        && digest != image.digest().as_ref()
    {
        let text =
            format!("the image has the digest {}, not that of {}", image.digest(), name.whole());
        return Err(Error::Usage(text).into());
    }
    for (manifest, bytes) in &parts.manifests {
        let digest = manifest.digest().to_string();
        let is_image = manifest.digest() == image.digest();
        let under = name.tag().filter(|_| is_image && name.digest().is_none()).unwrap_or(&digest);
        if under == digest && remote.has_manifest(manifest).await? {
            continue;
        }
        remote.put_manifest(manifest, under, bytes).await?;
    }
    Ok(())
}
