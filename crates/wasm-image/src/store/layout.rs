//! An OCI image layout: a directory with `oci-layout`, `index.json` and `blobs/sha256/…` (OCI image specification,
//! "Image Layout"). It may contain several images.

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

/// Annotation with the full name of an image, by containerd's convention.
pub const NAME: &str = "io.containerd.image.name";

/// Annotation with its tag (OCI image specification, "Pre-Defined Annotation Keys").
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";

const VERSION: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;

/// An existing layout.
#[derive(Clone, Debug)]
pub struct Layout {
    directory: PathBuf,
    /// Name in messages: the directory, or the archive that it stands for.
    pub title: String,
}

impl Layout {
    /// Makes an empty layout in a directory that is empty or does not exist, or opens the layout that is there.
    pub fn create(directory: &Path) -> Result<Self> {
        let new = Self { directory: directory.into(), title: directory.display().to_string() };
        if Self::is_one(directory) {
            return Ok(new);
        }
        if fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
            let text = format!("{} is neither empty nor an OCI image layout", directory.display());
            return Err(Error::Usage(text).into());
        }
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).with_context(|| format!("cannot make {}", blobs.display()))?;
        blob::write(&directory.join("oci-layout"), VERSION)?;
        new.write_index(&[])?;
        Ok(new)
    }

    /// Opens a layout.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn open(directory: &Path) -> Result<Self> {
        let title = directory.display().to_string();
        if !Self::is_one(directory) {
            let what = "OCI image layout (oci-layout, index.json and blobs)".into();
            return Err(Error::NotFound { place: title, what }.into());
        }
        Ok(Self { directory: directory.into(), title })
    }

    /// Returns whether a directory is a layout.
    pub fn is_one(directory: &Path) -> bool {
        directory.join("oci-layout").is_file() && directory.join("index.json").is_file()
    }

    /// Returns the directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns the path of a blob, whether it exists or not.
    ///
    /// # Errors
    /// Fails for a digest with another algorithm than SHA-256, and for a blob that is too large.
    pub fn path(&self, blob: &Descriptor) -> Result<PathBuf> {
        let digest = blob.digest();
        if *digest.algorithm() != DigestAlgorithm::Sha256 {
            anyhow::bail!("{digest} of {}: only SHA-256 digests are supported", self.title);
        }
        within(limits::BLOB_BYTES, || format!("{digest} of {}", self.title), blob.size())?;
        Ok(self.directory.join("blobs/sha256").join(digest.digest()))
    }

    /// Returns whether a blob of that name and size exists. Its content is checked when it is used.
    pub fn has(&self, blob: &Descriptor) -> Result<bool> {
        let meta = fs::metadata(self.path(blob)?);
        Ok(meta.is_ok_and(|meta| meta.is_file() && meta.len() == blob.size()))
    }

    /// Returns the path of a blob that exists and matches its digest.
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

    /// Makes a writer for a blob that comes from `source`.
    pub fn writer(&self, blob: &Descriptor, source: &str) -> Result<Writer> {
        Writer::new(&self.path(blob)?, blob, source)
    }

    /// Adds bytes as a blob.
    pub fn add(&self, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
        let descriptor = describe(media_type, bytes)?;
        blob::write(&self.path(&descriptor)?, bytes)?;
        Ok(descriptor)
    }

    /// Takes a blob from a file with its content.
    pub fn take(&self, blob: &Descriptor, file: &Path) -> Result<()> {
        // A blob from a registry was downloaded to this place in the first place.
        if self.path(blob)? == file {
            return Ok(());
        }
        let source = File::open(file).with_context(|| cannot_read(file))?;
        blob::fill(self.writer(blob, &file.display().to_string())?, source)
    }

    /// Returns all bytes of a blob of at most `limit` bytes.
    pub fn read(&self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        within(limit, || format!("{} of {}", blob.digest(), self.title), blob.size())?;
        let path = self.checked(blob)?;
        fs::read(&path).with_context(|| cannot_read(&path))
    }

    /// Returns the listed images and what refers to them.
    pub fn listed(&self) -> Result<Vec<Descriptor>> {
        let path = self.directory.join("index.json");
        let mut text = Vec::new();
        let file = File::open(&path).with_context(|| cannot_read(&path))?;
        let read = file.take(limits::JSON_BYTES + 1).read_to_end(&mut text);
        read.with_context(|| cannot_read(&path))?;
        within(limits::JSON_BYTES, || path.display().to_string(), text.len() as u64)?;
        let index: Index = serde_json::from_slice(&text)
            .with_context(|| format!("cannot parse index.json of {}", self.title))?;
        Ok(index.manifests)
    }

    /// Lists a manifest that refers to an image. It has no name.
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

    /// Lists an image under its name. An image that had the name before is no longer listed.
    pub fn tag(&self, image: &Descriptor, name: &str, tag: &str) -> Result<()> {
        let mut entries: Vec<Value> = Vec::new();
        for listed in self.listed()? {
            let annotations = listed.annotations().as_ref();
            let named = annotations.and_then(|it| it.get(NAME));
            if named.map(String::as_str) != Some(name) {
                entries.push(serde_json::to_value(&listed)?);
            }
        }
        // The entry has no platform, because the config has it. An importer that was not configured to look for wasm
        // would otherwise ignore the image.
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
        blob::write(&self.directory.join("index.json"), index.to_string().as_bytes())
    }

    fn lacks(&self, blob: &Descriptor) -> Error {
        let what = format!("blob {}", blob.digest());
        Error::NotFound { place: self.title.clone(), what }
    }
}

/// Returns the descriptor of bytes.
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
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let blob = layout.add("application/wasm", b"one").unwrap();
        fs::write(layout.path(&blob).unwrap(), b"two").unwrap();
        let error = layout.read(&blob, 10).unwrap_err();
        assert!(error.to_string().contains("has other content for"), "{error}");
    }

    #[test]
    fn a_name_is_listed_once() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
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
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("thesis"), "").unwrap();
        let error = Layout::create(directory.path()).unwrap_err();
        assert!(error.to_string().contains("neither empty nor"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
