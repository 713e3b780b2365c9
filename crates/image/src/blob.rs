//! A copy of one blob, checked against its descriptor.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use oci_spec::image::{Digest, DigestAlgorithm};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// Size of one read, in bytes. It is large enough that the cost of the calls is negligible.
const PART_BYTES: usize = 1 << 20;

/// Writer for a blob in parts. It checks size and digest when the blob is complete.
pub struct Checked<W> {
    to: W,
    digest: Digest,
    size: u64,
    copied: u64,
    hash: Sha256,
}

impl<W: Write> Checked<W> {
    /// Creates a writer for the content of a descriptor. `size` is in bytes.
    ///
    /// # Errors
    /// [`Error::Content`] if the digest is not sha256. Registries must support sha256 (OCI image specification,
    /// "Digests"), and containerd's store uses it.
    pub fn new(to: W, digest: &Digest, size: u64) -> Result<Checked<W>, Error> {
        if *digest.algorithm() != DigestAlgorithm::Sha256 {
            return Err(Error::content(digest, "its digest is not sha256"));
        }
        Ok(Checked { to, digest: digest.clone(), size, copied: 0, hash: Sha256::new() })
    }

    /// Writes the next part.
    ///
    /// # Errors
    /// [`Error::Content`] if the parts are larger than the size; [`Error::Read`] if the part cannot be written.
    pub fn write(&mut self, part: &[u8]) -> Result<(), Error> {
        self.copied += part.len() as u64;
        if self.copied > self.size {
            return Err(self.damaged(format!("more than its {} bytes", self.size)));
        }
        self.hash.update(part);
        self.to.write_all(part).map_err(Error::read(self.digest.to_string()))
    }

    /// Checks size and digest, and returns what the parts were written to.
    ///
    /// # Errors
    /// [`Error::Content`] if the parts are smaller than the size, or do not match the digest.
    pub fn finish(mut self) -> Result<W, Error> {
        if self.copied < self.size {
            return Err(self.damaged(format!("{} of its {} bytes", self.copied, self.size)));
        }
        let found = hex::encode(self.hash.finalize_reset());
        if found != self.digest.digest() {
            return Err(self.damaged(format!("content of sha256:{found}")));
        }
        Ok(self.to)
    }

    fn damaged(&self, found: String) -> Error {
        Error::content(
            &self.digest,
            format!("damaged in containerd's content store, which has {found}"),
        )
    }
}

/// Creates an empty file in memory, without a name in any directory.
pub fn anonymous() -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    Ok(File::from(memfd_create(c"wasm-layer", flags)?))
}

/// Seals an [`anonymous`] file, so that its content cannot change, and opens it at its start.
pub fn seal(file: File) -> io::Result<File> {
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals | SealFlag::F_SEAL_SEAL))?;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Digest of the first `size` bytes of a file. Ignores the file's offset.
///
/// # Errors
/// Those of reading the file.
pub fn digest(file: &File, size: u64) -> io::Result<Digest> {
    let found = hex::encode(hash(file, size)?.finalize());
    format!("sha256:{found}").parse().map_err(io::Error::other)
}

/// Like [`digest`], but unfinished, so that the caller can add more bytes.
pub fn hash(file: &File, size: u64) -> io::Result<Sha256> {
    let mut hash = Sha256::new();
    for part in parts(file.try_clone()?, size) {
        hash.update(part?);
    }
    Ok(hash)
}

/// Makes a sealed copy of a file with this digest and size.
///
/// # Errors
/// [`Error::Changed`] if the file does not have this digest and size any more.
pub fn copy(file: &File, name: &str, digest: &Digest, size: u64) -> Result<File, Error> {
    let mut checked = Checked::new(anonymous().map_err(Error::read(name))?, digest, size)?;
    let changed = || Error::Changed { name: name.to_owned() };
    for part in parts(file.try_clone().map_err(Error::read(name))?, size) {
        let part = part.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => changed(),
            _ => Error::read(name)(error),
        });
        checked.write(&part?)?;
    }
    seal(checked.finish().map_err(|_| changed())?).map_err(Error::read(name))
}

/// The first `size` bytes of a file, in parts. Ignores the file's offset.
pub fn parts(file: File, size: u64) -> impl Iterator<Item = io::Result<Vec<u8>>> + Send + 'static {
    (0..size).step_by(PART_BYTES).map(move |at| {
        let left = usize::try_from(size - at).unwrap_or(PART_BYTES);
        let mut part = vec![0; left.min(PART_BYTES)];
        file.read_exact_at(&mut part, at)?;
        Ok(part)
    })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    const HELLO: &str = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn copy(digest: &str, size: u64, parts: &[&str]) -> Result<Vec<u8>, String> {
        let copied = || -> Result<Vec<u8>, Error> {
            let mut checked = Checked::new(Vec::new(), &digest.parse().unwrap(), size)?;
            parts.iter().try_for_each(|part| checked.write(part.as_bytes()))?;
            checked.finish()
        };
        copied().map_err(|error| error.to_string())
    }

    #[test]
    fn complete_content_is_copied() {
        assert_eq!(copy(HELLO, 5, &["hel", "lo"]).unwrap(), b"hello");
    }

    #[test]
    fn content_that_does_not_match_its_descriptor_is_refused() {
        let other = format!("sha512:{}", "0".repeat(128));
        for (digest, size, parts, reason) in [
            (HELLO, 5, vec!["hel"], "3 of its 5 bytes"),
            (HELLO, 5, vec!["hel", "lo", "!"], "more than its 5 bytes"),
            (HELLO, 5, vec!["hallo"], "content of sha256:d3751d33f9cd"),
            (&other, 5, vec!["hello"], "not sha256"),
        ] {
            let error = copy(digest, size, &parts).unwrap_err();
            assert!(error.contains(reason) && error.contains(digest), "{error}");
        }
    }

    #[test]
    fn a_sealed_copy_is_read_from_its_start_and_cannot_be_written() {
        let mut file = anonymous().unwrap();
        file.write_all(b"wasm").unwrap();
        let mut sealed = seal(file.try_clone().unwrap()).unwrap();
        assert!(file.write_all(b"more").is_err(), "through the first descriptor");
        assert!(sealed.write_all(b"more").is_err(), "through the second");
        let mut text = String::new();
        sealed.read_to_string(&mut text).unwrap();
        assert_eq!(text, "wasm");
    }
}
