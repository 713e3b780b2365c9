//! The directories that were granted, opened once for all instances of a process.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use grants::{Access, FileGrant, Giver, Grants};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::fchdir;
use wasmtime_wasi::filesystem::{Dir, OpenMode};
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// A directory that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open the granted directory {path:?} ({key}): {source}{hint}", key = provided::FILES.key)]
pub struct OpenError {
    path: String,
    #[source]
    source: io::Error,
    hint: &'static str,
}

/// The granted directories, each with its path in the container.
pub type Directories = Vec<(Dir, String)>;

/// Opens the granted directories; `None` if every file of the container is granted. A link is not followed, because
/// whatever can change the link would choose the grant.
///
/// # Errors
/// For a directory that cannot be opened. One that does not exist is left out if the Pod did not ask for it.
pub fn open_granted(grants: &Grants, sequential: bool) -> Result<Option<Directories>, OpenError> {
    let Some(files) = &grants.files else { return Ok(None) };
    let mut directories = Directories::new();
    for FileGrant { path, access } in &files.entries {
        let file = match open_at(path) {
            Err(Errno::ENOENT) if files.giver != Giver::Pod => continue,
            opened => opened.map_err(|errno| OpenError {
                path: path.display().to_string(),
                source: errno.into(),
                hint: if errno == Errno::ENOTDIR { ", or a link leads to it" } else { "" },
            })?,
        };
        let (perms, mode) = match access {
            Access::Read => (FsPerms::ReadOnly, OpenMode::READ),
            Access::Write => (FsPerms::ReadWrite, OpenMode::READ | OpenMode::WRITE),
        };
        let dir = Dir::new(file, perms, mode, sequential);
        directories.push((dir, path.display().to_string()));
    }
    Ok(Some(directories))
}

/// Opens a directory by its path, without following a link.
pub fn open_at(path: &Path) -> nix::Result<File> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut directory: OwnedFd = open("/", flags, Mode::empty())?;
    for part in path.components() {
        if let Component::Normal(name) = part {
            directory = openat(&directory, name, flags, Mode::empty())?;
        }
    }
    Ok(directory.into())
}

/// Adds the directories to a context of WASI 0.1, which opens them by a path. While it runs, no other thread may use a
/// relative path, because each of them is the working directory of the process for a moment.
///
/// # Errors
/// Those of fchdir(2), and of Wasmtime.
pub fn preopen(directories: &Directories, builder: &mut WasiCtxBuilder) -> wasmtime::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let before = open(".", flags, Mode::empty())?;
    for (dir, path) in directories {
        fchdir(&dir.dir)?;
        builder.preopened_dir(".", path, dir.perms)?;
    }
    Ok(fchdir(before)?)
}
