//! A directory of compiled code: a file for each key, for root alone.
//!
//! A file gets its name only when all of it is on the disk. So no file is ever incomplete, and a writer that is killed
//! leaves no file without a name. If there is no room, the code that was used longest ago is removed. Containers that
//! have it mapped keep it.

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

/// All code in the directory, in bytes: of a hundred components of a usual size, or of five with an interpreter.
const MAX_BYTES: u64 = 1 << 30;

/// Of what is free on the disk, no more than one part in so many.
const SHARE_OF_FREE: u64 = 2;

/// How exactly it is known when code was last used: a note on each start would wear a card out.
const USE_NOTED_AFTER: Duration = Duration::from_secs(3600);

/// Where code is kept.
#[derive(Debug, Clone)]
pub struct Directory(PathBuf);

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

impl Directory {
    /// Not made yet.
    pub fn new(path: PathBuf) -> Directory {
        Directory(path)
    }

    /// The directory, which is there from now on.
    ///
    /// # Errors
    /// Of making it; [`io::ErrorKind::PermissionDenied`] for one that others than root may write to.
    pub fn open(&self) -> io::Result<PathBuf> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let metadata = fs::symlink_metadata(&self.0)?;
        if !metadata.is_dir() || metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
            let reason = "it is not a directory that root alone can write to";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
        }
        Ok(self.0.clone())
    }

    /// The code of a key, if it is there. That it was asked for is noted.
    pub fn find(&self, key: &Key) -> Option<Artefact> {
        let found = Artefact::find(&self.0.join(&key.name), &key.engine)?;
        let used = found.file().metadata().and_then(|metadata| metadata.modified());
        if used.is_ok_and(is_long_ago)
            && let Err(error) = found.file().set_modified(SystemTime::now())
        {
            log::debug!(
                "note that compiled code is used, without which it goes the sooner: {error}"
            );
        }
        Some(found)
    }

    /// Writes the code of a key.
    ///
    /// # Errors
    /// Of writing it; [`io::ErrorKind::StorageFull`] where there is no room for it.
    pub fn keep(&self, key: &Key, artefact: &Artefact, size: u64) -> io::Result<()> {
        let directory = self.open()?;
        make_room(&directory, size)?;
        let mut file =
            File::options().write(true).custom_flags(O_TMPFILE).mode(0o400).open(&directory)?;
        for part in artefact.parts()? {
            file.write_all(&part?)?;
        }
        file.sync_all()?;
        let path = directory.join(&key.name);
        // What has the name was not fit to be used.
        fs::remove_file(&path).or_else(unless(io::ErrorKind::NotFound))?;
        let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
        linkat(AT_FDCWD, unnamed.as_str(), AT_FDCWD, &path, AtFlags::AT_SYMLINK_FOLLOW)?;
        File::open(&directory)?.sync_all()
    }
}

/// How much a file may take of the disk that has `folder`, when `used` bytes of it may be taken back.
///
/// # Errors
/// Of statvfs(3); [`io::ErrorKind::StorageFull`] when it is less than `bytes`.
pub fn room(folder: &Path, bytes: u64, used: u64) -> io::Result<u64> {
    let disk = statvfs(folder)?;
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    let allowed = MAX_BYTES.min(used.saturating_add(free / SHARE_OF_FREE));
    if bytes > allowed {
        let reason = format!("{bytes} bytes where {allowed} may be used");
        return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
    }
    Ok(allowed)
}

fn make_room(directory: &Path, bytes: u64) -> io::Result<()> {
    let mut kept = kept(directory)?;
    kept.sort();
    let total: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
    let allowed = room(directory, bytes, total)?;
    let mut over = (total + bytes).saturating_sub(allowed);
    for (_, bytes, path) in kept {
        if over == 0 {
            break;
        }
        fs::remove_file(path).or_else(unless(io::ErrorKind::NotFound))?;
        over = over.saturating_sub(bytes);
    }
    Ok(())
}

/// Of each file of code: when it was last used, its bytes, its path. Others that may be in the directory are not ours.
fn kept(directory: &Path) -> io::Result<Vec<(SystemTime, u64, PathBuf)>> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        // It may have gone since.
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_file);
        if let Some(metadata) = metadata.filter(|_| Key::is_name(&entry.file_name())) {
            kept.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    Ok(kept)
}

fn is_long_ago(time: SystemTime) -> bool {
    time.elapsed().is_ok_and(|passed| passed > USE_NOTED_AFTER)
}

fn unless(kind: io::ErrorKind) -> impl FnOnce(io::Error) -> io::Result<()> {
    move |error| if error.kind() == kind { Ok(()) } else { Err(error) }
}
