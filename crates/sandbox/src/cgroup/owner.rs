//! Ownership of a cgroup's directories, and their removal.
//!
//! A directory that this runtime makes gets an extended attribute, so that the last container that uses it removes it.
//! Directories that others made stay. So do directories in or below which others have processes or cgroups.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use nix::unistd::{Pid, getpid, getppid};

use super::{Cgroup, EMPTY, is_gone};
use crate::{Error, pidfd, wait};

/// Extended attribute of a directory that this runtime made (xattr(7); cgroupfs of both versions has them).
const OURS: &str = "trusted.wasmtime-shim";
const IN_USE: &[u8] = b"in use";
/// Value of the attribute if the container is gone and the directory stayed, because others were in or below it.
const LEFT: &[u8] = b"left";

/// The process that adopts orphans.
const INIT: Pid = Pid::from_raw(1);

/// Processes or cgroups that prevent the removal of a cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occupants {
    /// Processes of the container that have not ended yet, or an exec process that is being made.
    Ours,
    /// Orphans: processes of the container, if its shim was killed, or others.
    Orphans,
    /// Other containers' processes or cgroups.
    Others,
}

impl Cgroup {
    /// Directories of the cgroup that an administrator or another runtime made.
    pub(crate) fn not_ours(&self) -> Result<Vec<PathBuf>, Error> {
        let mut directories = self.directories()?;
        directories.retain(|directory| !is_ours(directory));
        Ok(directories)
    }

    /// Marks the cgroup's directories, except `not_ours`, as made by this runtime, so that a container that joins the cgroup later
    /// and stays longer removes them. If the kernel has no such attributes, an empty cgroup stays.
    pub(crate) fn mark(&self, not_ours: &[PathBuf]) {
        for directory in self.directories().unwrap_or_default() {
            if !not_ours.contains(&directory) {
                self.mark_one(&directory);
            }
        }
    }

    /// Marks a directory that this runtime has just made.
    pub(super) fn mark_one(&self, directory: &Path) {
        let _ = xattr::set(directory, OURS, IN_USE);
    }

    /// Removes the cgroup's directories, except `not_ours` and those in or below which others are. A missing cgroup is no error.
    pub(crate) fn remove(&self, not_ours: &[PathBuf]) -> Result<(), Error> {
        for directory in
            self.directories()?.iter().filter(|directory| !not_ours.contains(directory))
        {
            match self.remove_directory(directory)? {
                true => remove_left(directory),
                // The last container that uses the directory removes it. Its last process may have ended by now.
                false => {
                    let _ = xattr::set(directory, OURS, LEFT);
                    let _ = fs::remove_dir(directory);
                }
            }
        }
        Ok(())
    }

    /// Removes a directory and those below it that are not another container's. Returns false if others stay in it.
    fn remove_directory(&self, directory: &Path) -> Result<bool, Error> {
        for child in self.children(directory)?.iter().filter(|child| !is_ours(child)) {
            self.remove_directory(child)?;
        }
        let removed = wait::try_until(EMPTY, || match fs::remove_dir(directory) {
            Ok(()) => Ok(Some(true)),
            Err(error) if is_gone(&error) => Ok(Some(true)),
            // A process that has ended counts until the kernel has freed it.
            Err(error) if error.kind() == ErrorKind::ResourceBusy => {
                Ok((self.occupants(directory)? == Occupants::Others).then_some(false))
            }
            Err(error) => Err(self.failed(error)),
        })?;
        if let Some(is_removed) = removed {
            return Ok(is_removed);
        }
        if self.occupants(directory)? == Occupants::Orphans {
            return Ok(false);
        }
        let reason =
            format!("{} stays busy with processes {:?}", directory.display(), self.pids()?);
        Err(self.refuse(&reason))
    }

    /// Occupants of a directory and those below it, after the container's own processes were killed. Those of them that have not
    /// ended yet are children of this process or of the shim. Request processes that enter the container are siblings of this
    /// process.
    fn occupants(&self, directory: &Path) -> Result<Occupants, Error> {
        let mut pids = BTreeSet::new();
        self.collect_pids(directory, &mut pids)?;
        let is_above_others = pids.is_empty() && !self.children(directory)?.is_empty();
        if is_above_others {
            return Ok(Occupants::Others);
        }
        let ours = [Some(getpid()), Some(getppid()), pidfd::parent(getppid())];
        let parents: Vec<_> =
            pids.into_iter().map(|pid| pidfd::parent(Pid::from_raw(pid))).collect();
        // A process without a parent has ended in the meantime, and may have been one of the container's.
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
fn is_ours(directory: &Path) -> bool {
    matches!(xattr::get(directory, OURS), Ok(Some(_)))
}

/// Whether the directory is left: its last container is gone.
fn is_left(directory: &Path) -> bool {
    matches!(xattr::get(directory, OURS), Ok(Some(mark)) if mark == LEFT)
}

/// Removes the cgroups above that stayed only because of cgroups below them.
fn remove_left(directory: &Path) {
    for above in directory.ancestors().skip(1).take_while(|above| is_left(above)) {
        // Fails if others are in it.
        let _ = fs::remove_dir(above);
    }
}
