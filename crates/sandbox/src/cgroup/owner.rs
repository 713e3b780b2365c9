//! Who made a cgroup, and its removal.
//!
//! A directory that this runtime makes gets an extended attribute, so that the last container that uses it removes it,
//! whichever that is. Directories of others stay, and so does one with others in or below it.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::unistd::{Pid, getpid, getppid};

use super::{Cgroup, EMPTY, is_gone};
use crate::{Error, pidfd, wait};

/// Extended attribute of a cgroup directory that this runtime made (xattr(7); cgroupfs of both versions has them).
const OURS: &str = "trusted.wasmtime-shim";
const IN_USE: &[u8] = b"in use";
/// Its value when the container is gone and the directory stayed, because others were in it or below it.
const LEFT: &[u8] = b"left";

/// The process that adopts orphans.
const INIT: Pid = Pid::from_raw(1);

/// Who keeps a cgroup from being removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occupants {
    /// Processes of the container that have not ended yet, or an exec process on its way.
    Ours,
    /// Processes without a parent: the container's, if its shim was killed, or others.
    Orphans,
    /// Other containers' processes or cgroups.
    Others,
}

impl Cgroup {
    /// Existing directories of the cgroup that an administrator or another runtime made.
    pub(crate) fn not_ours(&self) -> Result<Vec<PathBuf>, Error> {
        let mut folders = self.folders()?;
        folders.retain(|folder| !is_ours(folder));
        Ok(folders)
    }

    /// Marks the cgroup's directories, except `not_ours`, as made by this runtime. A container that joins the cgroup later and
    /// stays longer then removes them. Without extended attributes it does not, and an empty cgroup stays.
    pub(crate) fn mark(&self, not_ours: &[PathBuf]) {
        for folder in self.folders().unwrap_or_default() {
            if !not_ours.contains(&folder) {
                self.mark_one(&folder);
            }
        }
    }

    /// Marks a directory that this runtime has just made.
    pub(super) fn mark_one(&self, directory: &Path) {
        let _ = xattr::set(directory, OURS, IN_USE);
    }

    /// Removes the cgroup's directories, except `not_ours` and those that others are in or below. A missing cgroup is no
    /// error.
    pub(crate) fn remove(&self, not_ours: &[PathBuf]) -> Result<(), Error> {
        for folder in self.folders()?.iter().filter(|folder| !not_ours.contains(folder)) {
            match self.remove_folder(folder)? {
                true => remove_left(folder),
                // The last container that uses it removes it. The last process in it may have ended since it was seen.
                false => {
                    let _ = xattr::set(folder, OURS, LEFT);
                    let _ = fs::remove_dir(folder);
                }
            }
        }
        Ok(())
    }

    /// Removes a directory and those below it that are not another container's. Returns false if others stay in it.
    fn remove_folder(&self, folder: &Path) -> Result<bool, Error> {
        for child in self.children(folder)?.iter().filter(|child| !is_ours(child)) {
            self.remove_folder(child)?;
        }
        let removed = wait::try_until(EMPTY, || match fs::remove_dir(folder) {
            Ok(()) => Ok(Some(true)),
            Err(error) if is_gone(&error) => Ok(Some(true)),
            // An ended process counts until the kernel has put it away.
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                Ok((self.occupants(folder)? == Occupants::Others).then_some(false))
            }
            Err(error) => Err(self.failed(error)),
        })?;
        if let Some(is_removed) = removed {
            return Ok(is_removed);
        }
        if self.occupants(folder)? == Occupants::Orphans {
            return Ok(false);
        }
        let reason = format!("{} stays busy with processes {:?}", folder.display(), self.pids()?);
        Err(self.refuse(&reason))
    }

    /// Who is in or below a directory, after the container's own processes were killed. Those of them that are not gone
    /// yet are children of this process or of the shim, and request processes on their way into the container are
    /// siblings of this process.
    fn occupants(&self, folder: &Path) -> Result<Occupants, Error> {
        let mut pids = BTreeSet::new();
        self.collect_pids(folder, &mut pids)?;
        let is_above_others = pids.is_empty() && !self.children(folder)?.is_empty();
        if is_above_others {
            return Ok(Occupants::Others);
        }
        let ours = [Some(getpid()), Some(getppid()), pidfd::parent(getppid())];
        let parents: Vec<_> =
            pids.into_iter().map(|pid| pidfd::parent(Pid::from_raw(pid))).collect();
        // A process without a parent has gone in the meantime: it may have been one of them.
        let is_ours = |parent: &Option<Pid>| parent.is_none() || ours.contains(parent);
        Ok(match &parents[..] {
            [] => Occupants::Ours,
            parents if parents.contains(&Some(INIT)) => Occupants::Orphans,
            parents if parents.iter().any(is_ours) => Occupants::Ours,
            _ => Occupants::Others,
        })
    }
}

/// Whether this runtime made that directory as a container's cgroup.
fn is_ours(folder: &Path) -> bool {
    matches!(xattr::get(folder, OURS), Ok(Some(_)))
}

/// Whether the last container in it has left that directory.
fn is_left(folder: &Path) -> bool {
    matches!(xattr::get(folder, OURS), Ok(Some(mark)) if mark == LEFT)
}

/// Removes the cgroups above that stayed only because of what was below them.
fn remove_left(folder: &Path) {
    for above in folder.ancestors().skip(1).take_while(|above| is_left(above)) {
        // Fails if others are in it.
        let _ = fs::remove_dir(above);
    }
}
