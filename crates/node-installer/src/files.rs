//! Replaces a file so that it is completely old or completely new at each moment, whichever process is killed.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::errors::Error;

/// Extended attribute with the SELinux label of a file.
const LABEL: &str = "security.selinux";

/// Suffix of the name of an incomplete file. No import and no PATH matches it.
const UNFINISHED: &str = ".wasmtime-shim-new";

/// Owner, permissions and label of a file.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attributes {
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// SELinux label, if there is one.
    pub label: Option<String>,
}

impl Attributes {
    /// Returns the attributes of a new file of root.
    pub fn new(mode: u32, label: Option<String>) -> Self {
        Self { mode, uid: 0, gid: 0, label }
    }

    /// Reads the attributes of an existing file.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let label =
            xattr::get(path, LABEL).ok().flatten().and_then(|it| String::from_utf8(it).ok());
        Ok(Self {
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            label: label.map(|it| it.trim_end_matches('\0').to_owned()),
        })
    }

    fn give(&self, path: &Path) -> io::Result<()> {
        if (self.uid, self.gid) != owner(path)? {
            chown(path, Some(self.uid), Some(self.gid))?;
        }
        fs::set_permissions(path, Permissions::from_mode(self.mode))?;
        match &self.label {
            Some(label) => xattr::set(path, LABEL, label.as_bytes()),
            None => Ok(()),
        }
    }
}

fn owner(path: &Path) -> io::Result<(u32, u32)> {
    fs::metadata(path).map(|it| (it.uid(), it.gid()))
}

/// Returns the path where a file is prepared. It is beside its destination, because a rename cannot cross file systems.
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(UNFINISHED);
    path.with_file_name(name)
}

/// Replaces or creates a file. If the path is a link, its target is replaced.
pub fn write(path: &Path, bytes: &[u8], attributes: &Attributes) -> Result<(), Error> {
    write_if(path, bytes, attributes, |_| Ok(()))
}

/// As [`write()`], but first calls a check on the prepared file, which may refuse the replacement.
pub fn write_if(
    path: &Path,
    bytes: &[u8],
    attributes: &Attributes,
    check: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<(), Error> {
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let new = unfinished(path);
    let write = || Error::file("write", path);
    let prepared = prepare(&new, bytes, attributes).map_err(write()).and_then(|()| check(&new));
    let replaced = prepared.and_then(|()| fs::rename(&new, path).map_err(write()));
    if replaced.is_err() {
        // This file filled the disk, or could not be created at all.
        let _ = fs::remove_file(&new);
    }
    replaced.and_then(|()| sync_dir(path).map_err(write()))
}

fn prepare(new: &Path, bytes: &[u8], attributes: &Attributes) -> io::Result<()> {
    // No other user may read the file before it has its owner and permissions.
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(new)?;
    file.write_all(bytes)?;
    attributes.give(new)?;
    file.sync_all()
}

/// Deletes a file if it exists.
pub fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path).and_then(|()| sync_dir(path)) {
        Err(error) if !is_absent(&error) => Err(Error::file("delete", path)(error)),
        _ => Ok(()),
    }
}

/// Deletes the unfinished file of a killed installer.
pub fn remove_unfinished(path: &Path) -> Result<(), Error> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    remove(&unfinished(&path))
}

/// Creates a directory and its parents. Returns those that did not exist, the outermost first.
pub fn make_dirs(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let missing: Vec<_> =
        dir.ancestors().take_while(|it| !it.exists()).map(Path::to_owned).collect();
    fs::create_dir_all(dir).map_err(Error::file("make the directory", dir))?;
    for made in &missing {
        sync_dir(made).map_err(Error::file("make the directory", made))?;
    }
    Ok(missing.into_iter().rev().collect())
}

/// Deletes directories that are empty. `dirs` has the outermost first; the innermost are deleted first.
pub fn remove_dirs(dirs: &[PathBuf]) {
    for dir in dirs.iter().rev() {
        // A directory that is in use by now stays.
        let _ = fs::remove_dir(dir);
    }
}

/// A rename or deletion is on disk when its directory is.
fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
