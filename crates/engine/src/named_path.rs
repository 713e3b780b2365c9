//! Files that the runtime itself reads and writes for a guest, at paths of annotations: its configuration, its key-value
//! store and its core dump.
//!
//! If only some directories are granted, these paths are among them or beside them, and the guest can put links into the
//! former. The runtime is not held to the guest's grants. So it follows no link on the way to such a path, and none
//! that leads out of its directory, as kubelet's `..data` does not. Otherwise links lead where they do for a program in the
//! container.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use grants::Grants;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat, openat2, readlinkat,
    renameat2,
};
use nix::sys::stat::{FileStat, Mode, fstatat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

/// Flags of a directory that is only looked into.
const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY);

/// Mode of files that are made.
const OWN: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// Whether links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// As the kernel follows them.
    Followed,
    /// Not if they lead out of the directory, and none on the way to it.
    Within,
}

/// A path of an annotation.
#[derive(Debug, Clone)]
pub struct NamedPath {
    path: PathBuf,
    links: Links,
}

/// An open directory.
#[derive(Debug)]
pub struct Directory {
    file: OwnedFd,
    links: Links,
}

impl NamedPath {
    /// A path of a guest with these grants.
    pub fn new(path: PathBuf, grants: &Grants) -> NamedPath {
        let links = if grants.files.is_some() { Links::Within } else { Links::Followed };
        NamedPath { path, links }
    }

    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.path
    }

    /// Opens the directory at the path.
    pub fn directory(&self) -> io::Result<Directory> {
        self.open(&self.path)
    }

    /// Opens the directory of the path's last name, and returns that name.
    pub fn parent(&self) -> io::Result<(Directory, OsString)> {
        let name = self.path.file_name().ok_or(Errno::EISDIR)?;
        Ok((self.open(self.path.parent().unwrap_or(Path::new("/")))?, name.to_owned()))
    }

    fn open(&self, path: &Path) -> io::Result<Directory> {
        let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS;
        let file = open(AT_FDCWD, path, DIRECTORY, self.links, resolve)?;
        Ok(Directory { file, links: self.links })
    }
}

impl Directory {
    /// Opens a file. A new one is its owner's alone.
    pub fn file(&self, path: &Path, flags: OFlag) -> io::Result<File> {
        open(&self.file, path, flags, self.links, ResolveFlag::RESOLVE_BENEATH).map(File::from)
    }

    /// Opens a file for reading. This does not wait, because it may be a FIFO without a writer.
    pub fn readable_file(&self, path: &Path) -> io::Result<File> {
        self.file(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
    }

    /// Opens the file of that name. If links must not lead out, it is no link.
    pub fn own_file(&self, name: &Path, flags: OFlag) -> io::Result<File> {
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        open(&self.file, name, flags, self.links, resolve).map(File::from)
    }

    /// Opens a directory.
    pub fn directory(&self, path: &Path) -> io::Result<Directory> {
        let file = open(&self.file, path, DIRECTORY, self.links, ResolveFlag::RESOLVE_BENEATH)?;
        Ok(Directory { file, links: self.links })
    }

    /// The target of the link of that name.
    pub fn link(&self, name: &Path) -> io::Result<PathBuf> {
        Ok(readlinkat(&self.file, name)?.into())
    }

    /// What has that name, without following a link.
    pub fn status(&self, name: &Path) -> io::Result<FileStat> {
        Ok(fstatat(&self.file, name, AtFlags::AT_SYMLINK_NOFOLLOW)?)
    }

    /// The names in it.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::from_fd(self.readable()?)? {
            let name = entry?.file_name().to_owned();
            names.push(OsString::from_vec(name.into_bytes()));
        }
        Ok(names)
    }

    /// Renames a file, in place of another one.
    pub fn replace(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(renameat2(&self.file, from, &self.file, to, RenameFlags::empty())?)
    }

    /// Renames a file, and never in place of another one: a file system that cannot rename so gives it a second name, and the
    /// caller removes the first.
    pub fn rename(&self, from: &Path, to: &Path) -> nix::Result<()> {
        match renameat2(&self.file, from, &self.file, to, RenameFlags::RENAME_NOREPLACE) {
            Err(Errno::EINVAL | Errno::ENOSYS) => {
                linkat(&self.file, from, &self.file, to, AtFlags::empty())
            }
            renamed => renamed,
        }
    }

    /// Removes a file.
    pub fn remove(&self, name: &Path) -> io::Result<()> {
        Ok(unlinkat(&self.file, name, UnlinkatFlags::NoRemoveDir)?)
    }

    /// Writes its names to the disk.
    pub fn sync(&self) -> io::Result<()> {
        File::from(self.readable()?).sync_all()
    }

    fn readable(&self) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(&self.file, ".", flags, Mode::empty())
    }
}

/// Reads a file of at most this many bytes. Returns `None` if it is longer.
pub fn read_at_most(file: &File, most: u64) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

fn open(
    directory: impl AsFd,
    path: &Path,
    flags: OFlag,
    links: Links,
    resolve: ResolveFlag,
) -> io::Result<OwnedFd> {
    let flags = flags | OFlag::O_CLOEXEC;
    let mode = if flags.contains(OFlag::O_CREAT) { OWN } else { Mode::empty() };
    if links == Links::Followed {
        return Ok(openat(directory, path, flags, mode)?);
    }
    let how = OpenHow::new()
        .flags(flags)
        .mode(mode)
        .resolve(resolve | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    openat2(directory, path, how).map_err(|errno| match errno {
        Errno::ELOOP | Errno::EXDEV => io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!(
                "a link leads to it, which is not followed if only some directories are granted ({})",
                provided::FILES.key
            ),
        ),
        // Before Linux 5.6.
        Errno::ENOSYS => Errno::EPERM.into(),
        errno => errno.into(),
    })
}

#[cfg(test)]
pub mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A path of a guest that may use every file.
    pub fn anywhere(path: PathBuf) -> NamedPath {
        NamedPath::new(path, &Grants::default())
    }

    /// A path of a guest that may use some directories.
    pub fn within(path: PathBuf) -> NamedPath {
        let files = grants::Granted { entries: vec![], giver: grants::Giver::Pod };
        NamedPath::new(path, &Grants { files: Some(files), ..Grants::default() })
    }

    #[test]
    fn a_link_is_followed_only_within_the_directory_if_some_are_granted() {
        let volume = tempfile::tempdir().expect("a directory");
        let at = |name: &str| volume.path().join(name);
        fs::create_dir(at("below")).expect("made");
        fs::write(at("secret"), "1").expect("written");
        fs::write(at("below/file"), "1").expect("written");
        symlink("file", at("below/within")).expect("linked");
        symlink("../secret", at("below/out")).expect("linked");
        symlink("below", at("linked")).expect("linked");
        let below = within(at("below")).directory().expect("is opened");
        for (path, is_opened) in [("file", true), ("within", true), ("out", false)] {
            let opened = below.file(Path::new(path), OFlag::O_RDONLY);
            assert_eq!(opened.is_ok(), is_opened, "{path}: {opened:?}");
        }
        assert!(below.own_file(Path::new("within"), OFlag::O_RDONLY).is_err());
        let text = within(at("linked")).directory().expect_err("refused").to_string();
        assert!(text.contains("a link leads to it"), "{text}");
        assert!(within(at("linked/file")).parent().is_err());
        let followed = anywhere(at("linked")).directory().expect("is opened");
        for path in ["out", "within"] {
            followed.own_file(Path::new(path), OFlag::O_RDONLY).expect(path);
        }
    }
}
