//! Reads an image. An archive is unpacked into a layout on disk, and content from a registry is kept in one.

use std::path::PathBuf;

use anyhow::{Context, Result};
use oci_client::Reference;
use oci_spec::image::Descriptor;

use super::parts::is_index;
use super::referrers::is_tag;
use crate::config::Config;
use crate::errors::{Error, within};
use crate::limits;
use crate::location::{self, Location};
use crate::manifest::{self, Index, Manifest};
use crate::platform::Platform;
use crate::progress::Bar;
use crate::registry::{Options, Remote};
use crate::scratch::Directory;
use crate::store::layout::{NAME, REF_NAME};
use crate::store::output::is_stdout;
use crate::store::{Layout, archive, blob};

/// An image that can be read.
#[derive(Debug)]
pub struct Source {
    /// Manifest or index of the image.
    pub image: Descriptor,
    /// Name of the image at its place, if it has one.
    pub name: Option<Reference>,
    /// Repository that it comes from.
    pub origin: Option<Reference>,
    layout: Layout,
    remote: Option<Remote>,
    _scratch: Option<Directory>,
}

impl Source {
    /// Opens the image at a place. If a layout or archive has several, it must be called `wanted`. Content from a
    /// registry is kept in `keep`, or in a temporary directory.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::Usage`] if there are several.
    pub async fn open(
        place: &Location,
        wanted: Option<&str>,
        keep: Option<Layout>,
        options: &Options,
    ) -> Result<Self> {
        match place {
            Location::Registry(reference) => Self::of_registry(reference, keep, options).await,
            Location::Layout(directory) => Self::of_layout(Layout::open(directory)?, None, wanted),
            Location::Archive(file) if is_stdout(file) => {
                Err(Error::Usage("`-` is standard output, where no image can be read".into())
                    .into())
            }
            Location::Archive(file) => {
                let scratch = Directory::new()?;
                Self::of_layout(archive::unpack(file, scratch.path())?, Some(scratch), wanted)
            }
        }
    }

    /// Makes a source of a new image, which may have blobs of a repository.
    pub fn made(
        layout: Layout,
        image: Descriptor,
        name: Reference,
        origin: Option<Reference>,
    ) -> Self {
        Self { image, name: Some(name), origin, layout, remote: None, _scratch: None }
    }

    fn of_layout(layout: Layout, scratch: Option<Directory>, wanted: Option<&str>) -> Result<Self> {
        let image = choose(&layout, wanted)?;
        let name = name(&image).and_then(|it| location::reference(&it).ok());
        Ok(Self { image, name, origin: None, layout, remote: None, _scratch: scratch })
    }

    async fn of_registry(
        reference: &Reference,
        keep: Option<Layout>,
        options: &Options,
    ) -> Result<Self> {
        let (layout, scratch) = match keep {
            Some(layout) => (layout, None),
            None => {
                let scratch = Directory::new()?;
                (Layout::create(scratch.path())?, Some(scratch))
            }
        };
        let remote = Remote::new(reference.clone(), options)?;
        let wanted = reference.digest().or(reference.tag()).unwrap_or("latest");
        let (image, bytes) = remote.manifest(wanted).await?;
        blob::write(&layout.path(&image)?, &bytes)?;
        let (name, origin) = (Some(reference.clone()), Some(reference.clone()));
        Ok(Self { image, name, origin, layout, remote: Some(remote), _scratch: scratch })
    }

    /// Returns the place, for messages.
    pub fn title(&self) -> String {
        self.remote.as_ref().map_or_else(|| self.layout.title.clone(), Remote::title)
    }

    /// Selects the image for one platform from an index.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none for that platform.
    pub async fn take_apart(&mut self, wanted: &Platform) -> Result<()> {
        let mut there = Vec::new();
        for (image, platform) in self.platforms().await? {
            if wanted.is(&platform) {
                self.image = image;
                return Ok(());
            }
            there.push(platform);
        }
        let what = format!("image for {wanted}; it has {}", there.join(", "));
        Err(Error::NotFound { place: self.title(), what }.into())
    }

    /// Returns the images of an index and their platforms, in its order. Of a single image, the config gives the
    /// platform.
    async fn platforms(&self) -> Result<Vec<(Descriptor, String)>> {
        let bytes = self.manifest(&self.image).await?;
        let what = || format!("cannot parse {} of {}", self.image.digest(), self.title());
        if is_index(self.image.media_type().as_ref()) {
            let index: Index = serde_json::from_slice(&bytes).with_context(what)?;
            let named = |it: Descriptor| {
                let platform = it.platform().as_ref().map(manifest::platform);
                Some((it, platform?))
            };
            return Ok(index.manifests.into_iter().filter_map(named).collect());
        }
        let manifest: Manifest = serde_json::from_slice(&bytes).with_context(what)?;
        let config = self.read(&manifest.config, limits::JSON_BYTES).await?;
        let Config { os, architecture, .. } = serde_json::from_slice(&config).with_context(what)?;
        Ok(vec![(self.image.clone(), format!("{os}/{architecture}"))])
    }

    /// Returns the manifests that refer to that of a digest.
    pub async fn referrers(&self, digest: &str) -> Result<Vec<Descriptor>> {
        if let Some(remote) = &self.remote {
            return remote.referrers(digest).await;
        }
        let mut listed = self.layout.listed()?;
        listed.retain(|it| subject(&self.layout, it).as_deref() == Some(digest));
        Ok(listed)
    }

    /// Returns the manifest or index of a tag, if there is one.
    pub async fn tagged(&self, tag: &str) -> Result<Option<Descriptor>> {
        let Some(remote) = &self.remote else {
            return Ok(self.layout.listed()?.into_iter().find(|it| self::tag(it) == Some(tag)));
        };
        match remote.manifest(tag).await {
            Ok((manifest, _)) => Ok(Some(manifest)),
            Err(error) => match error.downcast_ref() {
                Some(Error::NotFound { .. }) => Ok(None),
                _ => Err(error),
            },
        }
    }

    /// Returns the bytes of a manifest or index.
    pub async fn manifest(&self, manifest: &Descriptor) -> Result<Vec<u8>> {
        if let Some(remote) = &self.remote
            && !self.layout.has(manifest)?
        {
            let (_, bytes) = remote.manifest(manifest.digest().as_ref()).await?;
            blob::write(&self.layout.path(manifest)?, &bytes)?;
        }
        self.layout.read(manifest, limits::JSON_BYTES)
    }

    /// Returns a file with a blob's content, which is checked.
    pub async fn file(&self, blob: &Descriptor) -> Result<PathBuf> {
        match &self.remote {
            Some(remote) if self.layout.checked(blob).is_err() => {
                let digest = blob.digest().to_string();
                let bar = Bar::new(&format!("getting {}", super::short(&digest)), blob.size());
                remote.download(blob, &self.layout, &bar).await?;
                self.layout.path(blob)
            }
            _ => self.layout.checked(blob),
        }
    }

    /// Returns all bytes of a blob of at most `limit` bytes.
    pub async fn read(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        within(limit, || format!("{} of {}", blob.digest(), self.title()), blob.size())?;
        crate::read(&self.file(blob).await?)
    }
}

/// Returns the name of an image in a layout.
fn name(image: &Descriptor) -> Option<String> {
    let annotations = image.annotations().as_ref()?;
    annotations
        .get(NAME)
        .or_else(|| annotations.get(REF_NAME).filter(|it| it.contains('/')))
        .cloned()
}

fn choose(layout: &Layout, wanted: Option<&str>) -> Result<Descriptor> {
    let place = layout.title.clone();
    let Some(wanted) = wanted else {
        let mut images = layout.listed()?;
        images.retain(|it| !tag(it).is_some_and(is_tag) && subject(layout, it).is_none());
        return match images.as_slice() {
            [image] => Ok(image.clone()),
            [] => Err(Error::NotFound { place, what: "image".into() }.into()),
            several => Err(Error::Usage(which(&place, several)).into()),
        };
    };
    let is_wanted = |image: &&Descriptor| {
        let annotations = image.annotations().iter().flatten();
        let mut named = annotations.filter(|(key, _)| [NAME, REF_NAME].contains(&key.as_str()));
        named.any(|(_, value)| value == wanted) || image.digest().as_ref() == wanted
    };
    let found = layout.listed()?.iter().find(is_wanted).cloned();
    Ok(found.ok_or_else(|| Error::NotFound { place, what: format!("image called {wanted}") })?)
}

/// Returns the tag of an entry of a layout.
fn tag(listed: &Descriptor) -> Option<&str> {
    listed.annotations().as_ref()?.get(REF_NAME).map(String::as_str)
}

/// Returns the digest to which an entry of a layout refers. An image refers to none.
fn subject(layout: &Layout, listed: &Descriptor) -> Option<String> {
    let bytes = layout.read(listed, limits::JSON_BYTES).ok()?;
    let manifest: Manifest = serde_json::from_slice(&bytes).ok()?;
    Some(manifest.subject?.digest().to_string())
}

fn which(place: &str, images: &[Descriptor]) -> String {
    let names: Vec<_> =
        images.iter().map(|it| name(it).unwrap_or_else(|| it.digest().to_string())).collect();
    format!("{place} has several images; name one with --image ({})", names.join(", "))
}
