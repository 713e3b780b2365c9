//! A file of compiled code: the code, a trailer in JSON, the trailer's length, a magic number.
//!
//! The code comes first because it is mapped, and its sections are aligned to pages. The trailer has the code's digest.
//! It is checked when the file is first opened after a boot, because power cuts and worn out cards leave files with
//! other content than was written. An extended attribute of the file with the boot's id records that the digest was
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

/// How a file of compiled code ends.
const MAGIC: &[u8; 8] = b"wasmcode";

/// The trailer's length, as a little endian u32, and the magic number.
const END_BYTES: usize = 4 + MAGIC.len();

/// The longest trailer: what is known of code is a word or two.
const TRAILER_BYTES: u32 = 64 << 10;

/// The note that the digest was right, whose value is the boot's id.
const CHECKED: &str = "user.wasmtime-shim.checked";

/// Changes with every boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Write permission of anyone but the owner.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Code, and what is known of it.
#[derive(Debug)]
pub struct Artefact {
    code: File,
    trailer: Trailer,
}

/// How large a whole file is, in bytes, and its SHA-256, in hexadecimal digits.
#[derive(Debug, Clone)]
pub struct Whole {
    pub size: u64,
    pub sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Trailer {
    about: Value,
    /// What else it was compiled for ([`super::Key::engine`]).
    engine: String,
    /// The code's length in bytes.
    length: u64,
    /// The code's SHA-256, in hexadecimal digits.
    sha256: String,
}

impl Artefact {
    /// Of code that nobody can change any more.
    ///
    /// # Errors
    /// Of reading it.
    pub fn new(code: File, about: Value, engine: &str) -> io::Result<(Artefact, Whole)> {
        let length = code.metadata()?.len();
        let mut hash = hash(&code, length)?;
        let sha256 = hex::encode(hash.clone().finalize());
        let trailer = Trailer { about, engine: engine.to_owned(), length, sha256 };
        let end = trailer.write()?;
        hash.update(&end);
        let whole = Whole { size: length + end.len() as u64, sha256: hex::encode(hash.finalize()) };
        Ok((Artefact { code, trailer }, whole))
    }

    /// The one in a file, for that engine, if it is fit to be used; why it is not is said in the log.
    pub fn find(path: &Path, engine: &str) -> Option<Artefact> {
        let opened = Artefact::open(path, engine);
        opened
            .inspect_err(|error| log::warn!("compiled code in {} is left: {error}", path.display()))
            .ok()
            .flatten()
    }

    /// The same; none where there is no file, or one for another engine.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a file that is not whole, or that others than root could have written;
    /// those of reading it.
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

    /// What is known of the code, and the file that begins with it.
    pub fn into_parts(self) -> (Value, File) {
        (self.trailer.about, self.code)
    }

    /// The file that begins with the code.
    pub fn file(&self) -> &File {
        &self.code
    }

    /// The bytes of its file, in parts.
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

/// Compares the digest, once a boot.
fn check(code: &File, trailer: &Trailer) -> io::Result<()> {
    let boot = std::fs::read(BOOT_ID)?;
    if code.get_xattr(CHECKED).ok().flatten().as_ref() == Some(&boot) {
        return Ok(());
    }
    if hex::encode(hash(code, trailer.length)?.finalize()) != trailer.sha256 {
        return Err(invalid("its code is not what was compiled"));
    }
    // Where the file system keeps no notes, it is compared each time.
    let noted = code.set_xattr(CHECKED, &boot);
    noted.or_else(|error| {
        log::debug!("note that compiled code was checked: {error}");
        Ok(())
    })
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
