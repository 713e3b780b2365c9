//! Changing a file so that at each moment, whoever is killed, it is all old or all new.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::errors::Error;

/// What SELinux keeps about a file.
const LABEL: &str = "security.selinux";

/// The end of the name of a file that is not complete. No import and no PATH names it.
const UNFINISHED: &str = ".wasmtime-shim-new";

/// Whose a file is, and who may do what with it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Attributes {
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// SELinux' label, where there is one.
    pub label: Option<String>,
}

impl Attributes {
    /// Those of a new file of root's.
    pub fn new(mode: u32, label: Option<String>) -> Self {
        Self { mode, uid: 0, gid: 0, label }
    }

    /// Those of a file that is there.
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

/// Where a file is prepared: beside its destination, for a rename cannot cross file systems.
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(UNFINISHED);
    path.with_file_name(name)
}

/// Replaces a file, or makes it. A link is followed: what it points at is replaced.
pub fn write(path: &Path, bytes: &[u8], attributes: &Attributes) -> Result<(), Error> {
    write_if(path, bytes, attributes, |_| Ok(()))
}

/// The same, unless a look at what is about to take the file's place says otherwise.
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
        // It is what had no room, or cannot be there at all.
        let _ = fs::remove_file(&new);
    }
    replaced.and_then(|()| sync_dir(path).map_err(write()))
}

fn prepare(new: &Path, bytes: &[u8], attributes: &Attributes) -> io::Result<()> {
    // Nobody else is to read it before it has its owner and permissions.
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(new)?;
    file.write_all(bytes)?;
    attributes.give(new)?;
    file.sync_all()
}

/// Deletes a file, if it is there.
pub fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path).and_then(|()| sync_dir(path)) {
        Err(error) if !is_absent(&error) => Err(Error::file("delete", path)(error)),
        _ => Ok(()),
    }
}

/// Deletes what a killed installer has left beside a file.
pub fn remove_unfinished(path: &Path) -> Result<(), Error> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    remove(&unfinished(&path))
}

/// Makes a directory and those above it, and returns the ones that were not there, the outermost first.
pub fn make_dirs(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let missing: Vec<_> =
        dir.ancestors().take_while(|it| !it.exists()).map(Path::to_owned).collect();
    fs::create_dir_all(dir).map_err(Error::file("make the directory", dir))?;
    for made in &missing {
        sync_dir(made).map_err(Error::file("make the directory", made))?;
    }
    Ok(missing.into_iter().rev().collect())
}

/// Deletes directories that are empty, the innermost first.
pub fn remove_dirs(dirs: &[PathBuf]) {
    for dir in dirs.iter().rev() {
        // One that is in use by now stays.
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
