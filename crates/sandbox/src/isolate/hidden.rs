//! Hides paths from the isolated process, or makes them read-only, once its root is the container's (OCI runtime spec,
//! "Masked Paths" and "Readonly Paths").
//!
//! containerd lists paths of kernel file systems, which a guest does not have. A path that does not exist is ignored.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use nix::sys::statvfs::statvfs;
use oci_spec::runtime::Linux;

use super::errors::{Failed, Step};

const NONE: Option<&str> = None;

/// What covers a file.
const EMPTY: &str = "/dev/null";

/// What covers a directory.
const EMPTY_DIRECTORY: &str = "tmpfs";

/// Keeps these files as they are, whatever the isolated process does. The directory of each becomes a mount as well, because a
/// directory that is none could be replaced by another one. A file that does not exist is made, or else the process would make it.
pub fn fix(files: &[String]) -> Result<(), Failed> {
    let mut pinned = Vec::new();
    // One that cannot be made cannot be made by the process either.
    for file in files.iter().filter(|file| is_there(file) || make(Path::new(file)).is_ok()) {
        let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
        if !directory.is_empty() && !pinned.contains(&directory) {
            pin(directory).map_err(Failed::at(step(directory, directory)))?;
            pinned.push(directory);
        }
        protect(file).map_err(Failed::at(step(file, file)))?;
    }
    Ok(())
}

/// Protects and covers the paths of the spec.
pub fn hide(linux: &Linux) -> Result<(), Failed> {
    for path in linux.readonly_paths().iter().flatten().filter(|path| is_there(path)) {
        protect(path).map_err(Failed::at(step(path, path)))?;
    }
    for path in linux.masked_paths().iter().flatten().filter(|path| is_there(path)) {
        let is_directory = fs::metadata(path).is_ok_and(|it| it.is_dir());
        let cover = if is_directory { EMPTY_DIRECTORY } else { EMPTY };
        let covered = if is_directory { cover_directory(path) } else { cover_file(path) };
        covered.map_err(Failed::at(step(path, cover)))?;
    }
    Ok(())
}

fn step(at: &str, from: &str) -> Step {
    Step::Mount(PathBuf::from(at), PathBuf::from(from))
}

/// What cannot be looked at for another reason is there.
fn is_there(path: &str) -> bool {
    let missing = [ErrorKind::NotFound, ErrorKind::NotADirectory];
    fs::metadata(path).map_or_else(|error| !missing.contains(&error.kind()), |_| true)
}

/// Makes an empty file, with its directory. The umask is 0 here.
fn make(file: &Path) -> io::Result<()> {
    if let Some(directory) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    fs::OpenOptions::new().write(true).create_new(true).mode(0o644).open(file).map(drop)
}

fn pin(path: &str) -> nix::Result<()> {
    mount(Some(path), path, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
}

fn protect(path: &str) -> nix::Result<()> {
    pin(path)?;
    // The flags of statvfs(3) have the numbers of mount(2).
    let present = MsFlags::from_bits_truncate(statvfs(path)?.flags().bits());
    let flags = present | MsFlags::MS_RDONLY | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    mount(NONE, path, NONE, flags, NONE)
}

fn cover_directory(path: &str) -> nix::Result<()> {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let kind = Some(EMPTY_DIRECTORY);
    mount(kind, path, kind, flags, NONE)
}

fn cover_file(path: &str) -> nix::Result<()> {
    mount(Some(EMPTY), path, NONE, MsFlags::MS_BIND, NONE)
}

#[cfg(test)]
mod tests {
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;
    use crate::child::exit;

    /// What cannot be done with files that are fixed in a mount namespace of its own, and what can.
    fn try_fixed(etc: &Path) -> Result<Vec<bool>, Failed> {
        let failed = || Failed::at::<nix::Error>(Step::ChangeRoot);
        unshare(CloneFlags::CLONE_NEWNS).map_err(failed())?;
        mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).map_err(failed())?;
        let (hosts, servers) = (etc.join("hosts"), etc.join("resolv.conf"));
        fix(&[&hosts, &servers].map(|file| file.display().to_string()))?;
        let is = |result: io::Result<()>, kind| result.is_err_and(|error| error.kind() == kind);
        Ok(vec![
            fs::read_to_string(&hosts).is_ok_and(|text| text == "old"),
            is(fs::write(&hosts, "new"), ErrorKind::ReadOnlyFilesystem),
            // It was missing.
            is(fs::write(&servers, "new"), ErrorKind::ReadOnlyFilesystem),
            is(fs::remove_file(&hosts), ErrorKind::ResourceBusy),
            is(fs::rename(&hosts, etc.join("other")), ErrorKind::ResourceBusy),
            is(fs::rename(etc, etc.with_file_name("moved")), ErrorKind::ResourceBusy),
            is(fs::hard_link(&hosts, etc.join("link")), ErrorKind::CrossesDevices),
            fs::write(etc.join("new"), "text").is_ok(),
        ])
    }

    #[test]
    fn a_fixed_file_is_neither_changed_nor_replaced_nor_made() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let etc = directory.path().join("etc");
        fs::create_dir(&etc).expect("made");
        fs::write(etc.join("hosts"), "old").expect("written");
        // SAFETY: the child has the heap of the C library as fork(2) leaves it, and ends without handlers.
        match unsafe { fork() }.expect("forked") {
            ForkResult::Child => match try_fixed(&etc) {
                Ok(all) => exit(all.iter().position(|is| !is).map_or(0, |line| line as i32 + 1)),
                Err(_) => exit(100),
            },
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)));
            }
        }
    }
}
