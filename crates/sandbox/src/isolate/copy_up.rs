//! Copies of an image's files in a file system in memory that is mounted on their directory (mount option `tmpcopyup`, as of
//! runc).
//!
//! Files are found by descriptor and without following links, because the image may have links to anywhere. Directories, files
//! and links are copied with their owners and modes; other files are of no use to a guest.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::libc;
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, fchdir, fchown, fchownat, symlinkat};

/// Largest depth of directories: each is open while those below it are copied.
const DEPTH: usize = 64;

/// Copies the contents of the directory `from`, and its owner and mode, to the empty directory `to`. It changes the working
/// directory, because there may be no /proc by which a directory could be listed.
pub fn copy(from: &OwnedFd, to: &OwnedFd) -> nix::Result<()> {
    copy_directory(&open_directory(from, ".".as_ref())?, &open_directory(to, ".".as_ref())?, DEPTH)
}

fn copy_directory(from: &OwnedFd, to: &OwnedFd, depth: usize) -> nix::Result<()> {
    let depth = depth.checked_sub(1).ok_or(Errno::ELOOP)?;
    for name in names(from)? {
        let status = fstatat(from, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        match SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => {
                mkdirat(to, name.as_os_str(), Mode::S_IRWXU)?;
                copy_directory(&open_directory(from, &name)?, &open_directory(to, &name)?, depth)?;
            }
            SFlag::S_IFREG => copy_file(from, to, &name)?,
            SFlag::S_IFLNK => {
                let link = readlinkat(from, name.as_os_str())?;
                symlinkat(link.as_os_str(), to, name.as_os_str())?;
                let ((user, group), itself) = (owner(&status), AtFlags::AT_SYMLINK_NOFOLLOW);
                fchownat(to, name.as_os_str(), user, group, itself)?;
            }
            _ => {}
        }
    }
    give(to, &fstat(from)?)
}

fn names(directory: &OwnedFd) -> nix::Result<Vec<OsString>> {
    fchdir(directory)?;
    let entries = fs::read_dir(".").map_err(errno)?;
    entries.map(|entry| entry.map(|it| it.file_name()).map_err(errno)).collect()
}

fn open_directory(above: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(above, name, flags, Mode::empty())
}

fn copy_file(from: &OwnedFd, to: &OwnedFd, name: &OsStr) -> nix::Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let source = openat(from, name, flags, Mode::empty())?;
    let status = fstat(&source)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let target = File::from(openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    io::copy(&mut File::from(source), &mut &target).map_err(errno)?;
    give(&target, &status)
}

/// Sets owner and mode. The owner must come first, because a change of owner clears the set-user-id bits.
fn give(file: &impl AsFd, status: &FileStat) -> nix::Result<()> {
    let (user, group) = owner(status);
    fchown(file, user, group)?;
    fchmod(file, Mode::from_bits_truncate(status.st_mode & !libc::S_IFMT))
}

fn owner(status: &FileStat) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(status.st_uid)), Some(Gid::from_raw(status.st_gid)))
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
