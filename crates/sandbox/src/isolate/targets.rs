//! The places in a container's root where something is mounted.
//!
//! An image may have links in it that lead out of it, or to where nothing is. The kernel resolves every path with the
//! container's root as the root (openat2(2), `RESOLVE_IN_ROOT`), as it will for the container's own process.
//! `pathrs`, which does the same, opens directories again through `/proc`, which is not there where this runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, mkdirat};

/// Directories and files that are made, whatever the umask is; as runc makes them.
const DIRECTORY: Mode = Mode::from_bits_truncate(0o755);
const FILE: Mode = Mode::from_bits_truncate(0o644);

/// A container's root, with what is mounted in it so far.
#[derive(Clone, Copy)]
pub struct Root<'a>(BorrowedFd<'a>);

impl<'a> Root<'a> {
    /// The root that is open as `root`.
    pub fn new(root: &'a OwnedFd) -> Root<'a> {
        Root(root.as_fd())
    }

    /// What is at a path of the container.
    pub fn at(self, path: &Path) -> nix::Result<OwnedFd> {
        self.open(path, OFlag::O_PATH)
    }

    /// The directory at that path, which is made if it is missing, with those above it.
    pub fn directory(self, path: &Path) -> nix::Result<OwnedFd> {
        match self.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Err(Errno::ENOENT) => {}
            other => return other,
        }
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::EINVAL);
        };
        match mkdirat(self.directory(above)?, name, DIRECTORY) {
            // A link to where nothing is: it stays, and opening says that nothing is there.
            Ok(()) | Err(Errno::EEXIST) => self.open(path, OFlag::O_PATH | OFlag::O_DIRECTORY),
            Err(errno) => Err(errno),
        }
    }

    /// The file at that path, whatever kind of file it is. If it is missing, an empty one is made.
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
                // Something was renamed meanwhile (openat2(2)).
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
        let folder = tempfile::tempdir().expect("temporary directory");
        fs::create_dir(folder.path().join("root")).expect("made");
        let opened = File::open(folder.path().join("root")).expect("opened").into();
        (folder, opened)
    }

    #[test]
    fn what_is_missing_is_made_as_runc_makes_it() {
        let (folder, root) = root();
        Root::new(&root).directory(Path::new("/a/b")).expect("made");
        Root::new(&root).file(Path::new("/a/c/hosts")).expect("made");
        let mode = |path: &str| {
            let metadata = fs::metadata(folder.path().join("root").join(path)).expect("is there");
            metadata.permissions().mode() & 0o777
        };
        assert_eq!((mode("a"), mode("a/b")), (0o755, 0o755));
        assert_eq!(mode("a/c/hosts"), 0o644);
        // Once more, what is there is taken.
        Root::new(&root).file(Path::new("/a/c/hosts")).expect("is there");
    }

    #[test]
    fn links_lead_nowhere_out_of_the_root() {
        let (folder, root) = root();
        fs::create_dir(folder.path().join("outside")).expect("made");
        fs::create_dir(folder.path().join("root/outside")).expect("made");
        symlink("../outside", folder.path().join("root/up")).expect("linked");
        symlink(folder.path().join("outside"), folder.path().join("root/away")).expect("linked");
        Root::new(&root).directory(Path::new("/up/made")).expect("made inside");
        assert!(folder.path().join("root/outside/made").is_dir());
        let refused = Root::new(&root).directory(Path::new("/away/made"));
        assert_eq!(refused.expect_err("leads to nothing"), Errno::ENOENT);
        assert!(!folder.path().join("outside/made").exists());
    }
}
