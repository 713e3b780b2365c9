//! Mount points in a container's root.
//!
//! An image may have links that lead out of it, or to a missing file. The kernel resolves every path with the container's root
//! as the root (openat2(2), `RESOLVE_IN_ROOT`), as it will for the container's own process. The crate `pathrs` does the same,
//! but opens directories again through `/proc`, which does not exist where this runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, mkdirat};

/// Modes of directories and files that are made, as by runc. The umask is 0.
const DIRECTORY: Mode = Mode::from_bits_truncate(0o755);
const FILE: Mode = Mode::from_bits_truncate(0o644);

/// A container's root, with the volumes that are mounted so far.
#[derive(Clone, Copy)]
pub struct Root<'a>(BorrowedFd<'a>);

impl<'a> Root<'a> {
    /// A root by its descriptor.
    pub fn new(root: &'a OwnedFd) -> Root<'a> {
        Root(root.as_fd())
    }

    /// Opens the file at a path of the container.
    pub fn at(self, path: &Path) -> nix::Result<OwnedFd> {
        self.open(path, OFlag::O_PATH)
    }

    /// Opens the directory at that path. If it is missing, it is made, with those above it.
    pub fn directory(self, path: &Path) -> nix::Result<OwnedFd> {
        match self.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Err(Errno::ENOENT) => {}
            other => return other,
        }
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::EINVAL);
        };
        match mkdirat(self.directory(above)?, name, DIRECTORY) {
            // A link to a missing file is kept, and opening it reports that.
            Ok(()) | Err(Errno::EEXIST) => self.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY),
            Err(errno) => Err(errno),
        }
    }

    /// Opens the file at that path, of any kind. If it is missing, an empty file is made.
    pub fn file(self, path: &Path) -> nix::Result<OwnedFd> {
        match self.at(path) {
            Err(Errno::ENOENT) => {}
            other => return other,
        }
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::EINVAL);
        };
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(self.directory(above)?, name, flags, FILE) {
            Ok(_) | Err(Errno::EEXIST) => self.at(path),
            Err(errno) => Err(errno),
        }
    }

    fn open(self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
        loop {
            match openat2(self.0, path, how) {
                // A file was renamed at the same time (openat2(2)).
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn root() -> (tempfile::TempDir, OwnedFd) {
        let directory = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(directory.path().join("root")).expect("made");
        let opened = File::open(directory.path().join("root")).expect("opened").into();
        (directory, opened)
    }

    #[test]
    fn what_is_missing_is_made_as_runc_makes_it() {
        let (directory, root) = root();
        Root::new(&root).directory(Path::new("/a/b")).expect("made");
        Root::new(&root).file(Path::new("/a/c/hosts")).expect("made");
        let mode = |path: &str| {
            let metadata =
                fs::metadata(directory.path().join("root").join(path)).expect("is there");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!((mode("a"), mode("a/b")), (0o755, 0o755));
        assert_eq!(mode("a/c/hosts"), 0o644);
        // Once more, what is there is taken.
        Root::new(&root).file(Path::new("/a/c/hosts")).expect("is there");
    }

    #[test]
    fn links_lead_nowhere_out_of_the_root() {
        let (directory, root) = root();
        fs::create_dir(directory.path().join("outside")).expect("made");
        fs::create_dir(directory.path().join("root/outside")).expect("made");
        symlink("../outside", directory.path().join("root/up")).expect("linked");
        symlink(directory.path().join("outside"), directory.path().join("root/away"))
            .expect("linked");
        Root::new(&root).directory(Path::new("/up/made")).expect("made inside");
        assert!(directory.path().join("root/outside/made").is_dir());
        let refused = Root::new(&root).directory(Path::new("/away/made"));
        assert_eq!(refused.expect_err("leads to nothing"), Errno::ENOENT);
        assert!(!directory.path().join("outside/made").exists());
    }
}
