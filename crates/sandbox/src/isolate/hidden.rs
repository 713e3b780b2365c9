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
    for file in files {
        refuse_links(file)?;
        if !is_there(file) {
            match make(Path::new(file)) {
                // The process cannot make it either.
                Err(error) if error.kind() == ErrorKind::ReadOnlyFilesystem => continue,
                made => made.map_err(Failed::at(Step::Fix(file.into())))?,
            }
        }
        let directory = file.rsplit_once('/').map_or("", |(directory, _)| directory);
        if !directory.is_empty() && !pinned.contains(&directory) {
            pin(directory).map_err(Failed::at(step(directory, directory)))?;
            pinned.push(directory);
        }
        protect(file).map_err(Failed::at(step(file, file)))?;
    }
    Ok(())
}

/// A link is no mount, so that the process could replace it by another one.
fn refuse_links(file: &str) -> Result<(), Failed> {
    let is_link = |path: &&Path| fs::symlink_metadata(path).is_ok_and(|it| it.is_symlink());
    let Some(link) = Path::new(file).ancestors().find(is_link) else { return Ok(()) };
    let reason = format!(
        "{link:?} is a link, which the guest could replace; allowed is a file without links in its path, or a grant of \
         addresses instead of names"
    );
    Err(Failed::new(Step::Fix(file.into()), reason))
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
    use std::os::unix::fs::symlink;

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

    /// Exit code of a process of its own.
    fn in_child(run: impl FnOnce() -> i32) -> i32 {
        // SAFETY: the child has the heap of the C library as fork(2) leaves it, and ends without handlers.
        match unsafe { fork() }.expect("forked") {
            ForkResult::Child => exit(run()),
            ForkResult::Parent { child } => match waitpid(child, None) {
                Ok(WaitStatus::Exited(_, code)) => code,
                other => panic!("{other:?}"),
            },
        }
    }

    #[test]
    fn a_fixed_file_is_neither_changed_nor_replaced_nor_made() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let etc = directory.path().join("etc");
        fs::create_dir(&etc).expect("made");
        fs::write(etc.join("hosts"), "old").expect("written");
        let code = in_child(|| match try_fixed(&etc) {
            Ok(all) => all.iter().position(|is| !is).map_or(0, |line| line as i32 + 1),
            Err(_) => 100,
        });
        assert_eq!(code, 0);
    }

    #[test]
    fn a_link_on_the_way_to_a_fixed_file_is_refused_and_named() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("etc")).expect("made");
        fs::write(path("hosts"), "old").expect("written");
        symlink("../hosts", path("etc/hosts")).expect("linked");
        symlink("nowhere", path("etc/resolv.conf")).expect("linked");
        symlink("etc", path("other")).expect("linked");
        for (file, link) in [
            ("etc/hosts", "etc/hosts"),
            ("etc/resolv.conf", "etc/resolv.conf"),
            ("other/networks", "other"),
        ] {
            let (file, link) = (path(file).display().to_string(), path(link));
            let expected = format!(
                "cannot keep {file:?} as it is for a guest with names in its grants: {link:?} is a link"
            );
            let code = in_child(|| {
                let failed = unshare(CloneFlags::CLONE_NEWNS).is_err()
                    || mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).is_err();
                let refused = fix(std::slice::from_ref(&file)).map_err(|error| error.to_string());
                i32::from(failed || !refused.is_err_and(|text| text.starts_with(&expected)))
            });
            assert_eq!(code, 0, "{file}");
        }
        assert!(!path("etc/networks").exists());
    }
}
