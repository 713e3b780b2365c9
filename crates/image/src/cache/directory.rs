//! A directory of compiled code. It has a file for each key, and only root can use it.
//!
//! A file gets its name only when all of it is on the disk. So no file is ever incomplete, and a writer that is killed
//! leaves no file behind. If there is no room, the code that was used longest ago is removed. Containers that have it
//! mapped can still use it.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::fcntl::{AT_FDCWD, AtFlags};
use nix::libc::O_TMPFILE;
use nix::sys::statvfs::statvfs;
use nix::unistd::linkat;

use super::Key;
use super::artefact::Artefact;

/// Maximum size of all code in the directory, in bytes. It is enough for a hundred components of a usual size, or for five
/// with an interpreter.
const MAX_BYTES: u64 = 1 << 30;

/// Divisor for the disk's free space. Code may use one part in this many.
const FREE_SPACE_DIVISOR: u64 = 2;

/// Age of a file's time of use after which it is updated. An update at each start would wear a memory card out.
const USE_RECORDED_AFTER: Duration = Duration::from_secs(3600);

/// Directory in which code is stored.
#[derive(Debug, Clone)]
pub struct Directory(PathBuf);

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Directory {
    /// Names a directory, and does not create it yet.
    pub fn new(path: PathBuf) -> Directory {
        Directory(path)
    }

    /// Returns the directory's path. Creates the directory if it does not exist.
    ///
    /// # Errors
    /// Those of creating the directory; [`io::ErrorKind::PermissionDenied`] if users other than root can write to it.
    pub fn open(&self) -> io::Result<PathBuf> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let metadata = fs::symlink_metadata(&self.0)?;
        if !metadata.is_dir() || metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
            let reason = "it is not a directory that root alone can write to";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        Ok(self.0.clone())
    }

    /// Returns the code of a key, if it exists. Records that the code is used.
    pub fn find(&self, key: &Key) -> Option<Artefact> {
        let found = Artefact::find(&self.0.join(&key.name), &key.engine)?;
        let used = found.file().metadata().and_then(|metadata| metadata.modified());
        if used.is_ok_and(is_due)
            && let Err(error) = found.file().set_modified(SystemTime::now())
        {
            log::debug!(
                "record the use of compiled code, which is otherwise removed sooner: {error}"
            );
        }
        Some(found)
    }

    /// Writes the code of a key.
    ///
    /// # Errors
    /// Those of writing the file; [`io::ErrorKind::StorageFull`] if there is no room for it.
    pub fn write(&self, key: &Key, artefact: &Artefact, size: u64) -> io::Result<()> {
        let directory = self.open()?;
        make_room(&directory, size)?;
        let mut file =
            File::options().write(true).custom_flags(O_TMPFILE).mode(0o400).open(&directory)?;
        for part in artefact.parts()? {
            file.write_all(&part?)?;
        }
        file.sync_all()?;
        let path = directory.join(&key.name);
        // A file of this name exists only if it was not valid.
        fs::remove_file(&path).or_else(unless(io::ErrorKind::NotFound))?;
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(AT_FDCWD, unnamed.as_str(), AT_FDCWD, &path, AtFlags::AT_SYMLINK_FOLLOW)?;
        File::open(&directory)?.sync_all()
    }
}

/// Returns how many bytes a file may use on the disk that has `directory`, if `used` bytes of older code can be freed.
///
/// # Errors
/// Those of statvfs(3); [`io::ErrorKind::StorageFull`] if fewer than `bytes` are allowed.
pub fn allowed_bytes(directory: &Path, bytes: u64, used: u64) -> io::Result<u64> {
    let disk = statvfs(directory)?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    let allowed = MAX_BYTES.min(used.saturating_add(free / FREE_SPACE_DIVISOR));
    if bytes > allowed {
        let reason = format!("{bytes} bytes where {allowed} may be used");
        return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
    }
    Ok(allowed)
}

/// Removes the code that was used longest ago, until there is room for `bytes`.
fn make_room(directory: &Path, bytes: u64) -> io::Result<()> {
    let mut files = code_files(directory)?;
    files.sort();
    let total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    let allowed = allowed_bytes(directory, bytes, total)?;
    let mut excess = (total + bytes).saturating_sub(allowed);
    for (_, bytes, path) in files {
        if excess == 0 {
            break;
        }
        fs::remove_file(path).or_else(unless(io::ErrorKind::NotFound))?;
        excess = excess.saturating_sub(bytes);
    }
    Ok(())
}

/// Time of last use, size in bytes and path of each file of code. Ignores other files in the directory.
fn code_files(directory: &Path) -> io::Result<Vec<(SystemTime, u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // Another process may have removed the file.
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_file);
        if let Some(metadata) = metadata.filter(|_| Key::is_name(&entry.file_name())) {
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    Ok(files)
}

/// Whether the time of use must be updated.
fn is_due(time: SystemTime) -> bool {
    time.elapsed().is_ok_and(|passed| passed > USE_RECORDED_AFTER)
}

fn unless(kind: io::ErrorKind) -> impl FnOnce(io::Error) -> io::Result<()> {
    move |error| if error.kind() == kind { Ok(()) } else { Err(error) }
}
