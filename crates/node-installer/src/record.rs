//! Record of what the installer changes. It is on disk before the change, for `uninstall`, for a rollback, and for the
//! time after a kill or a power cut.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::errors::Error;
use crate::files::{self, Attributes};
use crate::tree::Tree;

/// The shim's own directory, with the compiled code of guests that are files.
const HOME: &str = "/var/lib/wasmtime-shim";

/// Directory of the record, unless another one is named.
pub const DIR: &str = "/var/lib/wasmtime-shim/installer";

/// The record on disk.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    /// Version of the installer.
    pub version: String,
    /// Changed files.
    pub changes: Vec<Change>,
    /// Created directories, the outermost first.
    pub dirs: Vec<PathBuf>,
    /// Whether an installation was completed.
    pub is_complete: bool,
}

/// A file that was changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Change {
    /// Path of the file on the node.
    pub path: PathBuf,
    /// The file before the first installation.
    pub before: Option<Before>,
    /// Digest of the new content.
    pub after: String,
    /// Whether the whole file is ours.
    pub is_ours: bool,
}

/// The former state of a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Before {
    /// Name of its copy, which is its digest.
    pub copy: String,
    /// Attributes of the file.
    pub attributes: Attributes,
}

/// The record's directory, locked against other installers.
#[derive(Debug)]
pub struct Store {
    tree: Tree,
    dir: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens the record. Creates its directory if it does not exist.
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

    /// Reads the record without changing anything on disk. Returns `None` if nothing is installed.
    pub fn peek(tree: &Tree, dir: &Path) -> Result<Option<Record>, Error> {
        let path = dir.join("record.json");
        let Some(bytes) = tree.bytes(&path)? else { return Ok(None) };
        let broken = |error: serde_json::Error| Error::file("read", &path)(error.into());
        serde_json::from_slice(&bytes).map(Some).map_err(broken)
    }

    /// Reads the record. Returns `None` if nothing is installed.
    pub fn read(&self) -> Result<Option<Record>, Error> {
        Self::peek(&Tree::new(Path::new("/")), &self.dir)
    }

    /// Writes the record.
    pub fn write(&self, record: &Record) -> Result<(), Error> {
        let text = serde_json::to_vec_pretty(record)
            .map_err(|error| Error::file("write", &self.dir)(error.into()))?;
        files::write(&self.dir.join("record.json"), &text, &Attributes::new(0o600, None))
    }

    /// Keeps a copy of a file.
    pub fn keep(&self, bytes: &[u8], attributes: Attributes) -> Result<Before, Error> {
        let copy = digest(bytes);
        files::write(&self.dir.join(&copy), bytes, &Attributes::new(0o600, None))?;
        Ok(Before { copy, attributes })
    }

    /// Reads a copy.
    pub fn copy(&self, before: &Before) -> Result<Vec<u8>, Error> {
        let path = self.dir.join(&before.copy);
        fs::read(&path).map_err(Error::file("read", &path))
    }

    /// Deletes the record and its copies.
    pub fn sweep(self) -> Result<(), Error> {
        files::remove(&self.dir.join("record.json"))?;
        fs::remove_dir_all(&self.dir).map_err(Error::file("delete", &self.dir))
    }

    /// Deletes everything that the shim and its installer have kept on the node. The record is deleted first, because
    /// without it nothing counts as installed, whatever else still exists.
    pub fn clear(self) -> Result<(), Error> {
        files::remove(&self.dir.join("record.json"))?;
        let home = self.tree.at(Path::new(HOME));
        let all = if self.dir.starts_with(&home) { &home } else { &self.dir };
        fs::remove_dir_all(all).map_err(Error::file("delete", all))
    }
}

impl Drop for Store {
    /// If nothing is installed, or everything is removed, no empty directory may stay.
    fn drop(&mut self) {
        let parent = self.dir.parent().unwrap_or(&self.dir).to_owned();
        files::remove_dirs(&[parent, self.dir.clone()]);
    }
}

/// SHA-256 in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
