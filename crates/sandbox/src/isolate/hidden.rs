//! Hides paths from the isolated process, or makes them read-only, once its root is the container's (OCI runtime spec,
//! "Masked Paths" and "Readonly Paths").
//!
//! containerd lists paths of kernel file systems, which a guest does not have. A path that does not exist is ignored.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

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
/// directory that is none could be replaced by another one.
pub fn fix(files: &[String]) -> Result<(), Failed> {
    let mut pinned = Vec::new();
    for file in files.iter().filter(|file| is_there(file)) {
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
