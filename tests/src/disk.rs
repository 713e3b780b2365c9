//! A small disk for all files of one node. It can be full without affecting anything else.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::wait::{self, SOON};

/// A disk that is mounted over a directory. Dropping it unmounts it.
#[derive(Debug)]
pub struct Disk {
    pub(crate) directory: PathBuf,
    /// The file that has what is on it, if it is not in memory.
    pub(crate) file: Option<Mutex<File>>,
}

/// The file that fills the disk. When it is dropped, there is room again.
#[derive(Debug)]
pub struct Ballast(PathBuf);

/// Sizes of the writes. The last are single bytes, because some files of containerd are not longer.
const PIECES: [usize; 3] = [1 << 20, 4 << 10, 1];

impl Disk {
    /// Mounts a disk in memory of that many bytes over a directory.
    pub fn mount(directory: &Path, bytes: u64) -> Result<Self> {
        let options = format!("size={bytes},mode=0755");
        mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .with_context(|| format!("mount a disk over {}", directory.display()))?;
        Ok(Self { directory: directory.to_owned(), file: None })
    }

    /// Fills it to the last byte.
    pub fn fill(&self) -> Result<Ballast> {
        let ballast = Ballast(self.directory.join("ballast"));
        let mut file = File::create(&ballast.0).context("create what fills the disk")?;
        let zeros = vec![0; PIECES[0]];
        for piece in PIECES {
            loop {
                match file.write_all(&zeros[..piece]) {
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    written => written.context("fill the disk")?,
                }
            }
        }
        Ok(ballast)
    }

    /// Unmounts the disk with everything on it, once nothing uses it.
    pub fn unmount(self) -> Result<()> {
        wait::until(SOON, "the disk to be unused", || {
            match umount2(&self.directory, MntFlags::empty()) {
                Err(Errno::EBUSY) => Ok(None),
                unmounted => Ok(Some(unmounted?)),
            }
        })
        .with_context(|| format!("unmount {}", self.directory.display()))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // There is nothing to unmount after `unmount`.
        let _ = umount2(&self.directory, MntFlags::MNT_DETACH);
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_no_byte_until_it_is_emptied() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let disk = Disk::mount(folder.path(), 3 << 20)?;
        let write = || fs::write(folder.path().join("file"), "text");
        let ballast = disk.fill()?;
        let refused = write().map_err(|error| error.kind());
        drop(ballast);
        let taken = write();
        disk.unmount()?;
        assert_eq!(refused, Err(ErrorKind::StorageFull));
        Ok(taken?)
    }
}
