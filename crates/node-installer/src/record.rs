//! What the installer has changed, on disk before it is changed: the way back for `uninstall`, for a rollback, and after a
//! kill or a power cut.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::errors::Error;
use crate::files::{self, Attributes};
use crate::tree::Tree;

/// The shim's own directory, with the compiled code of guests that are files.
const HOME: &str = "/var/lib/wasmtime-shim";

/// Where the record is, unless another directory is named.
pub const DIR: &str = "/var/lib/wasmtime-shim/installer";

/// What is on disk.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    /// The installer's version.
    pub version: String,
    /// The files.
    pub changes: Vec<Change>,
    /// Directories that were made, the outermost first.
    pub dirs: Vec<PathBuf>,
    /// Whether an installation came to its end.
    pub is_complete: bool,
}

/// A file that was changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Change {
    /// Which, as the node has it.
    pub path: PathBuf,
    /// What was there before the first installation.
    pub before: Option<Before>,
    /// The digest of what was written.
    pub after: String,
    /// Whether the whole file is ours.
    pub is_ours: bool,
}

/// What a file was.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Before {
    /// The name of its copy, which is its digest.
    pub copy: String,
    /// Its attributes.
    pub attributes: Attributes,
}

/// The record's directory, which nobody else uses meanwhile.
#[derive(Debug)]
pub struct Store {
    tree: Tree,
    dir: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens the record, and makes its directory where there is none.
    pub fn open(tree: &Tree, dir: &Path) -> Result<Self, Error> {
        let dir = tree.at(dir);
        files::make_dirs(&dir)?;
        let lock = File::open(&dir).map_err(Error::file("open", &dir))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { tree: tree.clone(), dir, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::Busy),
            Err(TryLockError::Error(error)) => Err(Error::file("lock", &dir)(error)),
        }
    }

    /// The record, read without leaving a trace; none if nothing is installed.
    pub fn peek(tree: &Tree, dir: &Path) -> Result<Option<Record>, Error> {
        let path = dir.join("record.json");
        let Some(bytes) = tree.bytes(&path)? else { return Ok(None) };
        let broken = |error: serde_json::Error| Error::file("read", &path)(error.into());
        serde_json::from_slice(&bytes).map(Some).map_err(broken)
    }

    /// The record; none if nothing is installed.
    pub fn read(&self) -> Result<Option<Record>, Error> {
        Self::peek(&Tree::new(Path::new("/")), &self.dir)
    }

    /// Writes the record.
    pub fn write(&self, record: &Record) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(record)
            .map_err(|error| Error::file("write", &self.dir)(error.into()))?;
        files::write(&self.dir.join("record.json"), &text, &Attributes::new(0o600, None))
    }

    /// Keeps a copy of a file as it is.
    pub fn keep(&self, bytes: &[u8], attributes: Attributes) -> Result<Before, Error> {
        let copy = digest(bytes);
        files::write(&self.dir.join(&copy), bytes, &Attributes::new(0o600, None))?;
        Ok(Before { copy, attributes })
    }

    /// The bytes of a copy.
    pub fn copy(&self, before: &Before) -> Result<Vec<u8>, Error> {
        let path = self.dir.join(&before.copy);
        fs::read(&path).map_err(Error::file("read", &path))
    }

    /// Deletes the record and its copies.
    pub fn sweep(self) -> Result<(), Error> {
        files::remove(&self.dir.join("record.json"))?;
        fs::remove_dir_all(&self.dir).map_err(Error::file("delete", &self.dir))
    }

    /// Deletes all that the shim and its installer have kept on the node. The record goes first: without it nothing is
    /// installed, whatever else is still there.
    pub fn clear(self) -> Result<(), Error> {
        files::remove(&self.dir.join("record.json"))?;
        let home = self.tree.at(Path::new(HOME));
        let all = if self.dir.starts_with(&home) { &home } else { &self.dir };
        fs::remove_dir_all(all).map_err(Error::file("delete", all))
    }
}

impl Drop for Store {
    /// Where nothing was installed, or all of it is gone, no empty directory stays.
    fn drop(&mut self) {
        let parent = self.dir.parent().unwrap_or(&self.dir).to_owned();
        files::remove_dirs(&[parent, self.dir.clone()]);
    }
}

/// SHA-256 in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
