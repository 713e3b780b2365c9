//! An OCI image layout: a folder with `oci-layout`, `index.json` and `blobs/sha256/…` (OCI image
//! specification, "Image Layout"), which may hold several images.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oci_spec::image::{Descriptor, DigestAlgorithm, MediaType, Sha256Digest};
use serde_json::{Value, json};

use super::blob::{self, Writer};
use crate::errors::{Error, within};
use crate::limits;
use crate::manifest::Index;

/// The whole name of an image, by containerd's custom.
pub const NAME: &str = "io.containerd.image.name";

/// Its tag (OCI image specification, "Pre-Defined Annotation Keys").
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// A layout that is there.
#[derive(Clone, Debug)]
pub struct Layout {
    folder: PathBuf,
    /// What it is called in messages: the folder, or what the folder stands for.
    pub title: String,
}

impl Layout {
    /// Makes an empty layout of a folder that is empty or not there, or opens the one it is already.
    pub fn create(folder: &Path) -> Result<Self> {
        let new = Self { folder: folder.into(), title: folder.display().to_string() };
        if Self::is_one(folder) {
            return Ok(new);
        }
        if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) {
            let text = format!("{} is neither empty nor an OCI image layout", folder.display());
            return Err(Error::Usage(text).into());
        }
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).with_context(|| format!("cannot make {}", blobs.display()))?;
        blob::write(&folder.join("oci-layout"), VERSION)?;
        new.write_index(&[])?;
        Ok(new)
    }

    /// Opens a layout.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn open(folder: &Path) -> Result<Self> {
        let title = folder.display().to_string();
        if !Self::is_one(folder) {
            let what = "OCI image layout (oci-layout, index.json and blobs)".into();
            return Err(Error::NotFound { place: title, what }.into());
        }
        Ok(Self { folder: folder.into(), title })
    }

    /// Whether a folder is one.
    pub fn is_one(folder: &Path) -> bool {
        folder.join("oci-layout").is_file() && folder.join("index.json").is_file()
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a blob is, or will be.
    ///
    /// # Errors
    /// Of a digest by another algorithm than SHA-256, and of a blob that is too large to be one.
    pub fn path(&self, blob: &Descriptor) -> Result<PathBuf> {
        let digest = blob.digest();
        if *digest.algorithm() != DigestAlgorithm::Sha256 {
            anyhow::bail!("{digest} of {}: only digests by SHA-256 are understood", self.title);
        }
        within(limits::BLOB_BYTES, || format!("{digest} of {}", self.title), blob.size())?;
        Ok(self.folder.join("blobs/sha256").join(digest.digest()))
    }

    /// Whether a blob of that name and size is there. What it holds is looked at when it is used.
    pub fn has(&self, blob: &Descriptor) -> Result<bool> {
        let meta = fs::metadata(self.path(blob)?);
        Ok(meta.is_ok_and(|meta| meta.is_file() && meta.len() == blob.size()))
    }

    /// The path of a blob that is there and is what it is called.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Size`], [`Error::Digest`].
    pub fn checked(&self, blob: &Descriptor) -> Result<PathBuf> {
        let path = self.path(blob)?;
        let file = File::open(&path).map_err(|_| self.lacks(blob))?;
        let (place, expected) = (self.title.clone(), blob.digest().to_string());
        let (found, length) = blob::digest_of(file).with_context(|| cannot_read(&path))?;
        if length != blob.size() {
            let (stated, found) = (blob.size(), format!("{length} bytes"));
            return Err(Error::Size { place, digest: expected, stated, found }.into());
        }
        if found != expected {
            return Err(Error::Digest { place, expected, found }.into());
        }
        Ok(path)
    }

    /// A writer for a blob that comes from `source`.
    pub fn writer(&self, blob: &Descriptor, source: &str) -> Result<Writer> {
        Writer::new(&self.path(blob)?, blob, source)
    }

    /// Adds bytes as a blob.
    pub fn add(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = describe(media_type, bytes)?;
        blob::write(&self.path(&descriptor)?, bytes)?;
        Ok(descriptor)
    }

    /// Takes a blob over from a file with its content.
    pub fn take(&self, blob: &Descriptor, file: &Path) -> Result<()> {
        // What comes from a registry was put here in the first place.
        if self.path(blob)? == file {
            return Ok(());
        }
        let source = File::open(file).with_context(|| cannot_read(file))?;
        blob::fill(self.writer(blob, &file.display().to_string())?, source)
    }

    /// All bytes of a blob that is at most `limit` long.
    pub fn read(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        within(limit, || format!("{} of {}", blob.digest(), self.title), blob.size())?;
        let path = self.checked(blob)?;
        fs::read(&path).with_context(|| cannot_read(&path))
    }

    /// What is listed: images, and what refers to them.
    pub fn listed(&self) -> Result<Vec<Descriptor>> {
        let path = self.folder.join("index.json");
        let mut text = Vec::new();
        let file = File::open(&path).with_context(|| cannot_read(&path))?;
        let read = file.take(limits::JSON_BYTES + 1).read_to_end(&mut text);
        read.with_context(|| cannot_read(&path))?;
        within(limits::JSON_BYTES, || path.display().to_string(), text.len() as u64)?;
        let index: Index = serde_json::from_slice(&text)
            .with_context(|| format!("index.json of {} is not understood", self.title))?;
        Ok(index.manifests)
    }

    /// Lists what refers to an image: it has no name.
    pub fn list(&self, manifest: &Descriptor) -> Result<()> {
        let mut entries = self.listed()?;
        if entries.iter().any(|it| it.digest() == manifest.digest()) {
            return Ok(());
        }
        let mut entry = manifest.clone();
        entry.set_annotations(None);
        entries.push(entry);
        let entries: Result<Vec<_>, _> = entries.iter().map(serde_json::to_value).collect();
        self.write_index(&entries?)
    }

    /// Lists an image under its name; one that had the name before is listed no longer.
    pub fn tag(&self, image: &Descriptor, name: &str, tag: &str) -> Result<()> {
        let mut entries: Vec<Value> = Vec::new();
        for listed in self.listed()? {
            let annotations = listed.annotations().as_ref();
            let named = annotations.and_then(|it| it.get(NAME));
            if named.map(String::as_str) != Some(name) {
                entries.push(serde_json::to_value(&listed)?);
            }
        }
        // No platform: the config has it, and an importer that was not told to look for wasm would
        // otherwise pass the image over.
        entries.push(json!({
            "mediaType": image.media_type(),
            "digest": image.digest(),
            "size": image.size(),
            "annotations": { NAME: name, REF_NAME: tag },
        }));
        self.write_index(&entries)
    }

    fn write_index(&self, manifests: &[Value]) -> Result<()> {
        let media_type = MediaType::ImageIndex;
        let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
        blob::write(&self.folder.join("index.json"), index.to_string().as_bytes())
    }

    fn lacks(&self, blob: &Descriptor) -> Error {
        let what = format!("blob {}", blob.digest());
        Error::NotFound { place: self.title.clone(), what }
    }
}

/// What some bytes are called.
pub fn describe(media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
    let digits: Sha256Digest = blob::digest(bytes)["sha256:".len()..].parse()?;
    Ok(Descriptor::new(MediaType::from(media_type), bytes.len() as u64, digits))
}

fn cannot_read(path: &Path) -> String {
    format!("cannot read {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_that_was_changed_on_disk_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        let blob = layout.add("application/wasm", b"one").unwrap();
        fs::write(layout.path(&blob).unwrap(), b"two").unwrap();
        let error = layout.read(&blob, 10).unwrap_err();
        assert!(error.to_string().contains("has other content for"), "{error}");
    }

    #[test]
    fn a_name_is_listed_once() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        let [one, two] = ["1", "2"].map(|it| layout.add("a/b", it.as_bytes()).unwrap());
        layout.tag(&one, "r.example/app:1", "1").unwrap();
        layout.tag(&two, "r.example/other:1", "1").unwrap();
        layout.tag(&two, "r.example/app:1", "1").unwrap();
        let digests: Vec<_> =
            layout.listed().unwrap().iter().map(|it| it.digest().clone()).collect();
        assert_eq!(digests, [two.digest().clone(), two.digest().clone()]);
    }

    #[test]
    fn a_folder_with_other_things_in_it_is_not_made_a_layout() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("thesis"), "").unwrap();
        let error = Layout::create(folder.path()).unwrap_err();
        assert!(error.to_string().contains("neither empty nor"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
