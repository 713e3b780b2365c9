//! Writes a blob to disk. It gets its name only when its size and digest are right.

use std::fs::Permissions;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oci_spec::image::Descriptor;
use sha2::{Digest, Sha256};

use crate::errors::Error;
use crate::scratch;

/// A file that will be moved to `place`. It is removed if it is dropped before.
#[derive(Debug)]
pub struct Writer {
    file: scratch::File,
    place: PathBuf,
    expected: Descriptor,
    source: String,
    hash: Sha256,
    length: u64,
}

impl Writer {
    /// Makes a writer for the blob that `expected` describes, at `place`. Errors name `source`, where the blob comes
    /// from.
    pub fn new(place: &Path, expected: &Descriptor, source: &str) -> Result<Self> {
        let file = beside(place)?;
        let (expected, source) = (expected.clone(), source.to_owned());
        Ok(Self { file, place: place.into(), expected, source, hash: Sha256::new(), length: 0 })
    }

    /// Returns the number of bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// [`Error::Size`] as soon as there are more bytes than stated.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.length += bytes.len() as u64;
        if self.length > self.expected.size() {
            return Err(self
                .wrong_size(format!("more than {} bytes", self.expected.size()))
                .into());
        }
        self.hash.update(bytes);
        self.file.write_all(bytes).with_context(|| self.cannot_write())
    }

    /// Discards all bytes.
    pub fn restart(&mut self) -> Result<()> {
        let place = self.place.clone();
        *self = Self::new(&place, &self.expected, &self.source)?;
        Ok(())
    }

    /// Moves the file to its place.
    ///
    /// # Errors
    /// [`Error::Size`], [`Error::Digest`].
    pub fn finish(self) -> Result<()> {
        if self.length != self.expected.size() {
            return Err(self.wrong_size(format!("{} bytes", self.length)).into());
        }
        let found = written(self.hash.clone());
        let expected = self.expected.digest().to_string();
        if found != expected {
            return Err(Error::Digest { place: self.source, expected, found }.into());
        }
        put(self.file, &self.place)
    }

    fn wrong_size(&self, found: String) -> Error {
        let (place, digest) = (self.source.clone(), self.expected.digest().to_string());
        Error::Size { place, digest, stated: self.expected.size(), found }
    }

    fn cannot_write(&self) -> String {
        format!("cannot write {}", self.place.display())
    }
}

/// Writes everything that can be read, and finishes.
pub fn fill(mut writer: Writer, mut source: impl Read) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            return writer.finish();
        }
        writer.write(&buffer[..count])?;
    }
}

/// Makes a temporary file in the directory of `place`, with the permissions of a new file.
pub fn beside(place: &Path) -> Result<scratch::File> {
    let directory = match place.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".wasm-image-").permissions(Permissions::from_mode(0o666));
    scratch::File::new(|| builder.tempfile_in(directory))
        .with_context(|| format!("cannot write into {}", directory.display()))
}

/// Moves a finished temporary file to `place`, in one step.
pub fn put(file: scratch::File, place: &Path) -> Result<()> {
    file.put(place).with_context(|| format!("cannot write {}", place.display()))
}

/// Writes a whole file. It exists completely or not at all.
pub fn write(place: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = beside(place)?;
    file.write_all(bytes).with_context(|| format!("cannot write {}", place.display()))?;
    put(file, place)
}

/// Returns the digest of bytes, as `sha256:…`.
pub fn digest(bytes: &[u8]) -> String {
    written(Sha256::new_with_prefix(bytes))
}

/// Returns the name of layers that are stacked on each other. It is empty if there are none (OCI image specification,
/// "Layer ChainID").
pub fn chain_id(digests: &[String]) -> String {
    let chain =
        digests.iter().cloned().reduce(|chain, next| digest(format!("{chain} {next}").as_bytes()));
    chain.unwrap_or_default()
}

/// Returns the digest of everything that can be read, as `sha256:…`, and its length.
pub fn digest_of(mut source: impl Read) -> io::Result<(String, u64)> {
    let (mut hash, mut length, mut buffer) = (Sha256::new(), 0, vec![0; 64 << 10]);
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            return Ok((written(hash), length));
        }
        hash.update(&buffer[..count]);
        length += count as u64;
    }
}

fn written(hash: Sha256) -> String {
    format!("sha256:{}", hex::encode(hash.finalize()))
}

#[cfg(test)]
mod tests {
    use oci_spec::image::{MediaType, Sha256Digest};

    use super::*;

    fn descriptor(bytes: &[u8], size: u64) -> Descriptor {
        let digest: Sha256Digest = digest(bytes)["sha256:".len()..].parse().unwrap();
        Descriptor::new(MediaType::Other("application/wasm".into()), size, digest)
    }

    fn entries(directory: &Path) -> usize {
        std::fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn a_digest_is_written_as_oci_does() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest(b""), empty);
        assert_eq!(digest_of(io::empty()).unwrap(), (empty.into(), 0));
    }

    #[test]
    fn layers_on_each_other_are_named_by_all_of_them() {
        let ids = ["sha256:aa", "sha256:bb"].map(str::to_owned);
        assert_eq!(chain_id(&[]), "");
        assert_eq!(chain_id(&ids[..1]), "sha256:aa");
        let both = chain_id(&ids);
        assert_ne!(chain_id(&[ids[1].clone(), ids[0].clone()]), both);
        assert_eq!(both.len(), "sha256:".len() + 64);
    }

    #[test]
    fn a_blob_has_its_place_once_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("blob");
        let mut writer = Writer::new(&place, &descriptor(b"ab", 2), "r.example/app").unwrap();
        writer.write(b"a").unwrap();
        assert!(!place.exists());
        writer.write(b"b").unwrap();
        writer.finish().unwrap();
        assert_eq!(std::fs::read(&place).unwrap(), b"ab");
    }

    #[test]
    fn what_is_not_as_stated_is_refused_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("blob");
        let write = |expected: &Descriptor, bytes: &[u8]| {
            let mut writer = Writer::new(&place, expected, "r.example/app").unwrap();
            writer.write(bytes).and_then(|()| writer.finish()).unwrap_err().to_string()
        };
        let other = write(&descriptor(b"ab", 2), b"xy");
        assert!(other.contains("r.example/app has other content for sha256:fb8e"), "{other}");
        let short = write(&descriptor(b"ab", 2), b"a");
        assert!(short.contains("1 bytes for sha256:fb8e"), "{short}");
        let long = write(&descriptor(b"ab", 2), b"abc");
        assert!(long.contains("more than 2 bytes"), "{long}");
        assert_eq!(entries(directory.path()), 0);
    }
}
