//! Opens a file as the container will see it, without ever leaving the container.
//!
//! The image may be hostile, so that links are followed here, one at a time, and the kernel is asked
//! not to follow any (openat2(2), RESOLVE_NO_SYMLINKS): a link then leads where it will lead inside
//! the container, into its root file system or one of its volumes, and nowhere else. A device or
//! fifo is not opened even once; its path is (O_PATH).

use std::ffi::OsString;
use std::fs::{File, FileType};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2, readlinkat};
use nix::sys::stat::Mode;
use oci_spec::runtime::Mount;

use crate::{Error, limits};

/// What is at a path.
#[derive(Debug)]
pub enum Found {
    /// A regular file, open for reading.
    File(File),
    /// Something else.
    Other {
        /// Where, in the container.
        path: PathBuf,
        /// What, with its article.
        found: &'static str,
    },
    /// Nothing.
    Nothing,
}

/// A container's file tree, put together as its mounts will be.
pub struct Root {
    /// In the order they are mounted: the last that covers a path has it.
    trees: Vec<Tree>,
}

struct Tree {
    /// Absolute path in the container, without links.
    at: PathBuf,
    /// What is there, on the host. None for what no image or volume can have files in, like proc.
    source: Option<PathBuf>,
}

impl Root {
    /// The tree of a mounted root file system with the mounts of the OCI runtime spec ("Mounts").
    /// Their sources are kubelet's or the administrator's choice, not the image's.
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

    /// The first of some paths that is a file; else what the first is that exists.
    pub fn first(&self, paths: &[PathBuf]) -> Result<Found, Error> {
        let mut result = Found::Nothing;
        for path in paths {
            match (self.look_at(path)?, &result) {
                (Found::File(file), _) => return Ok(Found::File(file)),
                (other, Found::Nothing) => result = other,
                _ => {}
            }
        }
        Ok(result)
    }

    fn look_at(&self, path: &Path) -> Result<Found, Error> {
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

    /// Follows the links of a path as the kernel will in the container. What does not exist stays.
    fn without_links(&self, path: &Path) -> nix::Result<PathBuf> {
        let mut pending: Vec<OsString> = names_reversed(path)?.collect();
        let mut real = PathBuf::from("/");
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                real.pop();
                continue;
            }
            real.push(name);
            if let Some(target) = self.link(&real)? {
                links += 1;
                if links > limits::LINKS {
                    return Err(Errno::ELOOP);
                }
                real = if target.is_absolute() { "/".into() } else { parent(&real) };
                pending.extend(names_reversed(&target)?);
            }
        }
        Ok(real)
    }

    /// Where a link leads; none for anything else, or nothing.
    fn link(&self, path: &Path) -> nix::Result<Option<PathBuf>> {
        match self.locate(path).and_then(|fd| readlinkat(fd, "")) {
            Ok(target) => Ok(Some(target.into())),
            // EINVAL, or ENOENT as the path from the descriptor is empty: not a link.
            Err(errno) if errno == Errno::EINVAL || is_absence(errno) => Ok(None),
            Err(errno) => Err(errno),
        }
    }

    /// Locates what is at a path of which all but the last name are known to be no links.
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

/// By type or option, as runc and libcontainer take it.
fn is_bind(mount: &Mount) -> bool {
    let options = mount.options().as_deref().unwrap_or_default();
    mount.typ().as_deref() == Some("bind") || options.iter().any(|it| it == "bind" || it == "rbind")
}

fn names_reversed(path: &Path) -> nix::Result<impl Iterator<Item = OsString>> {
    if path.as_os_str().len() > limits::PATH_BYTES {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    }))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("/")).to_owned()
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
