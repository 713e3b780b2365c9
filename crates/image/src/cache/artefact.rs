//! A file of compiled code: the code, a trailer in JSON, the trailer's length, a magic number.
//!
//! The code comes first because it is mapped, and its sections are aligned to pages. The trailer has the code's digest.
//! The digest is checked when the file is first opened after a boot, because power cuts and worn out memory cards can
//! change the content of files. An extended attribute of the file, with the boot's id, records that the digest was
//! checked.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::libc::O_NOFOLLOW;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Digest as _;
use xattr::FileExt as _;

use crate::blob::{hash, parts};

/// Magic number at the end of a file of compiled code.
const MAGIC: &[u8; 8] = b"wasmcode";

/// Size of the file's end: the trailer's length, as a little endian u32, and the magic number.
const END_BYTES: usize = 4 + MAGIC.len();

/// Maximum size of a trailer, in bytes. The description of code is only a few bytes long.
const TRAILER_BYTES: u32 = 64 << 10;

/// Extended attribute that records that the digest was right. Its value is the boot's id.
const CHECKED: &str = "user.wasmtime-shim.checked";

/// File with the boot's id, which changes with every boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Write permission for users other than the owner.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Compiled code, and its trailer.
#[derive(Debug)]
pub struct Artefact {
    code: File,
    trailer: Trailer,
}

/// Size of a whole file in bytes, trailer included, and its SHA-256 in hexadecimal digits.
#[derive(Debug, Clone)]
pub struct WholeFile {
    pub size: u64,
    pub sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Trailer {
    /// Description of the code, from its compiler.
    about: Value,
    /// Engine that the code was compiled for ([`super::Key::engine`]).
    engine: String,
    /// Length of the code in bytes.
    length: u64,
    /// SHA-256 of the code, in hexadecimal digits.
    sha256: String,
}

impl Artefact {
    /// Creates an artefact of code. The code must not change any more.
    ///
    /// # Errors
    /// Those of reading the code.
    pub fn new(code: File, about: Value, engine: &str) -> io::Result<(Artefact, WholeFile)> {
        let length = code.metadata()?.len();
        let mut hash = hash(&code, length)?;
        let sha256 = hex::encode(hash.clone().finalize());
        let trailer = Trailer { about, engine: engine.to_owned(), length, sha256 };
        let end = trailer.write()?;
        hash.update(&end);
        let whole =
            WholeFile { size: length + end.len() as u64, sha256: hex::encode(hash.finalize()) };
        Ok((Artefact { code, trailer }, whole))
    }

    /// Returns the artefact in a file, if it is valid and for this engine. Logs why a file is not valid.
    pub fn find(path: &Path, engine: &str) -> Option<Artefact> {
        let opened = Artefact::open(path, engine);
        opened
            .inspect_err(|error| {
                log::warn!("compiled code in {} is not used: {error}", path.display());
            })
            .ok()
            .flatten()
    }

    /// Like [`Artefact::find`]. Returns `None` if there is no file, or if its code is for another engine.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the file is damaged, or if users other than root can write to it; those of reading
    /// the file.
    fn open(path: &Path, engine: &str) -> io::Result<Option<Artefact>> {
        let code = match File::options().read(true).custom_flags(O_NOFOLLOW).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let metadata = code.metadata()?;
        if !metadata.is_file() || metadata.uid() != 0 || metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            return Err(invalid("it is not a file of root's own"));
        }
        let trailer = Trailer::read(&code, metadata.len())?;
        if trailer.engine != engine {
            return Ok(None);
        }
        check(&code, &trailer)?;
        Ok(Some(Artefact { code, trailer }))
    }

    /// Returns the description of the code, and the file that begins with the code.
    pub fn into_parts(self) -> (Value, File) {
        (self.trailer.about, self.code)
    }

    /// The file that begins with the code.
    pub fn file(&self) -> &File {
        &self.code
    }

    /// Bytes of the whole file, in parts.
    pub fn parts(&self) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>> + Send + 'static> {
        let (code, length) = (self.code.try_clone()?, self.trailer.length);
        let code = parts(code, length);
        Ok(code.chain([self.trailer.write()]))
    }
}

impl Trailer {
    fn write(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        bytes.extend(length.to_le_bytes());
        bytes.extend(MAGIC);
        Ok(bytes)
    }

    fn read(file: &File, length: u64) -> io::Result<Trailer> {
        let mut end = [0; END_BYTES];
        let end_at =
            length.checked_sub(END_BYTES as u64).ok_or_else(|| invalid("it is too short"))?;
        file.read_exact_at(&mut end, end_at)?;
        let json = match end.split_first_chunk() {
            Some((json, magic)) if magic == MAGIC => u32::from_le_bytes(*json),
            _ => return Err(invalid("its end is missing")),
        };
        if json > TRAILER_BYTES {
            return Err(invalid("its end is damaged"));
        }
        let mut bytes = vec![0; json as usize];
        let json_at = end_at.checked_sub(json.into()).ok_or_else(|| invalid("it is too short"))?;
        file.read_exact_at(&mut bytes, json_at)?;
        let trailer: Trailer = serde_json::from_slice(&bytes)?;
        match trailer.length == json_at {
            true => Ok(trailer),
            false => Err(invalid("its code has another length")),
        }
    }
}

/// Checks the digest, once for each boot.
fn check(code: &File, trailer: &Trailer) -> io::Result<()> {
    let boot = std::fs::read(BOOT_ID)?;
    if code.get_xattr(CHECKED).ok().flatten().as_ref() == Some(&boot) {
        return Ok(());
    }
    if hex::encode(hash(code, trailer.length)?.finalize()) != trailer.sha256 {
        return Err(invalid("its code is not what was compiled"));
    }
    // If the file system does not support extended attributes, the digest is checked each time.
    let recorded = code.set_xattr(CHECKED, &boot);
    recorded.or_else(|error| {
        log::debug!("record that compiled code was checked: {error}");
        Ok(())
    })
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
