//! Opens a file as the container will see it, and never opens a file outside the container.
//!
//! The image may be hostile. So this module follows links itself, one at a time, and the kernel must not follow any
//! (openat2(2), RESOLVE_NO_SYMLINKS). A link then leads where it will lead inside the container: into its root file system
//! or one of its volumes. A device or fifo is never opened, except for its path (O_PATH).

use std::fs::{File, FileType};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat};
use nix::sys::stat::Mode;
use oci_spec::runtime::Mount;
use rule::{Found, Stopped};

use crate::Error;

/// File tree of a container, with its mounts.
pub struct Root {
    /// Trees in the order in which they are mounted. The last tree that covers a path is the one that has its files.
    trees: Vec<Tree>,
}

struct Tree {
    /// Absolute path in the container, without links.
    at: PathBuf,
    /// Path on the host. `None` for a mount in which no image or volume can have files, such as proc.
    source: Option<PathBuf>,
}

impl Root {
    /// Creates the tree of a mounted root file system with the mounts of the OCI runtime spec ("Mounts"). kubelet or the
    /// administrator chooses the mounts' sources, and not the image.
    pub fn new(rootfs: PathBuf, mounts: &[Mount]) -> Result<Root, Error> {
        let mut root = Root { trees: vec![Tree { at: "/".into(), source: Some(rootfs) }] };
        for mount in mounts {
            let at = root.without_links(mount.destination());
            let at = at.map_err(|errno| unreadable(mount.destination(), errno))?;
            let source = mount.source().clone().filter(|_| is_bind(mount));
            root.trees.push(Tree { at, source });
        }
        Ok(root)
    }

    /// Returns what exists at an absolute path.
    pub fn look(&self, path: &Path) -> Result<Found<File>, Error> {
        let fd = match self.without_links(path).and_then(|real| self.locate(&real)) {
            Ok(fd) => File::from(fd),
            Err(errno) if is_absence(errno) => return Ok(Found::Nothing),
            Err(errno) => return Err(unreadable(path, errno)),
        };
        let read_error = || Error::read(path.display().to_string());
        let kind = fd.metadata().map_err(read_error())?.file_type();
        if !kind.is_file() {
            return Ok(Found::Other { path: path.to_owned(), found: describe(kind) });
        }
        let itself = format!("/proc/self/fd/{}", fd.as_raw_fd());
        File::open(itself).map(Found::File).map_err(read_error())
    }

    /// Follows the links of a path as the kernel will in the container. Parts that do not exist remain unchanged.
    fn without_links(&self, path: &Path) -> nix::Result<PathBuf> {
        rule::without_links(path, |path| self.link(path)).map_err(|stopped| match stopped {
            Stopped::Links => Errno::ELOOP,
            Stopped::TooLong => Errno::ENAMETOOLONG,
            Stopped::Tree(errno) => errno,
        })
    }

    /// Returns the target of a link. Returns `None` if the path is not a link or does not exist.
    fn link(&self, path: &Path) -> nix::Result<Option<PathBuf>> {
        match self.locate(path).and_then(|fd| readlinkat(fd, "")) {
            Ok(target) => Ok(Some(target.into())),
            // Not a link: EINVAL, or ENOENT because the path from the descriptor is empty.
            Err(errno) if errno == Errno::EINVAL || is_absence(errno) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Opens a path (O_PATH). The caller must have checked that no name except the last is a link.
    fn locate(&self, path: &Path) -> nix::Result<OwnedFd> {
        let tree = self.trees.iter().rev().find(|tree| path.starts_with(&tree.at));
        let tree = tree.ok_or(Errno::ENOENT)?;
        let source = tree.source.as_ref().ok_or(Errno::ENOENT)?;
        let rest = path.strip_prefix(&tree.at).map_err(|_| Errno::ENOENT)?;
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let top = open(source, flags, Mode::empty())?;
        if rest.as_os_str().is_empty() {
            return Ok(top);
        }
        let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_SYMLINKS;
        openat2(top, rest, OpenHow::new().flags(flags | OFlag::O_NOFOLLOW).resolve(resolve))
    }
}

/// Whether the mount is a bind mount, by its type or options, as in runc's libcontainer.
fn is_bind(mount: &Mount) -> bool {
    let options = mount.options().as_deref().unwrap_or_default();
    mount.typ().as_deref() == Some("bind") || options.iter().any(|it| it == "bind" || it == "rbind")
}

fn is_absence(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG)
}

fn describe(kind: FileType) -> &'static str {
    match kind {
        _ if kind.is_dir() => "a directory",
        _ if kind.is_fifo() => "a fifo",
        _ if kind.is_socket() => "a socket",
        _ if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "a symbolic link",
    }
}

fn unreadable(path: &Path, errno: Errno) -> Error {
    Error::read(path.display().to_string())(errno.into())
}

#[cfg(test)]
mod tests;
