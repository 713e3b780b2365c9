//! Read-only descriptors: a process that has one cannot change the file, even as root.
//!
//! A process of a container can reach the program that it was forked from by `/proc/self/exe`, and execute or reopen it, so that
//! root in a container could write to the node's own binary (CVE-2019-5736). It could also change owner and mode of a device
//! that it has open. So both are opened through a detached read-only mount, which ends with the last descriptor, and no page is
//! copied. Kernels before 5.12 have no such mounts; there a sealed copy in memory replaces the program.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::{Error, syscalls};

/// Opens a program to be executed as `/proc/self/fd/N`.
///
/// # Errors
/// If there is no such file, of open_tree(2); otherwise of memfd_create(2) and of reading the file.
pub fn program(path: &Path) -> Result<OwnedFd, Error> {
    match read_only_mount(path) {
        Err(errno @ (Errno::ENOENT | Errno::EACCES)) => {
            Err(Error::system(format!("open {}", path.display()))(errno))
        }
        Err(_) => sealed_copy(path),
        Ok(mounted) => Ok(mounted),
    }
}

/// Opens the null device for both directions. It can still be written, because writes to a device do not change its mount.
///
/// # Errors
/// Of open(2).
pub fn null() -> Result<OwnedFd, Error> {
    let mounted = read_only_mount(Path::new("/dev/null")).ok();
    let by_descriptor = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = mounted.as_ref().map_or("/dev/null".to_owned(), by_descriptor);
    let opened = File::options().read(true).write(true).open(path);
    opened.map(OwnedFd::from).map_err(Error::io("open /dev/null"))
}

/// Opens a file for reading so that it cannot be opened again for writing. If the kernel or the file system does not allow such
/// a mount, a file in memory that is [`seal`]ed is returned as it is, and any other file is copied.
///
/// # Errors
/// Of the copy.
pub fn file(file: File) -> Result<OwnedFd, Error> {
    let path = |fd: RawFd| format!("/proc/self/fd/{fd}");
    let mounted = read_only_mount(Path::new(&path(file.as_raw_fd()))).ok();
    match mounted.and_then(|mounted| File::open(path(mounted.as_raw_fd())).ok()) {
        Some(opened) => Ok(opened.into()),
        None if is_sealed(&file) => Ok(file.into()),
        None => sealed_copy(Path::new(&path(file.as_raw_fd()))),
    }
}

fn is_sealed(file: &File) -> bool {
    let seals = fcntl(file, FcntlArg::F_GET_SEALS).map(SealFlag::from_bits_retain);
    seals.is_ok_and(|seals| seals.contains(SealFlag::F_SEAL_WRITE))
}

fn read_only_mount(path: &Path) -> nix::Result<OwnedFd> {
    let tree = syscalls::open_tree(path, false)?;
    let read_only =
        syscalls::Attributes { attr_set: libc::MOUNT_ATTR_RDONLY, ..syscalls::UNCHANGED };
    syscalls::set_attributes(tree.as_fd(), false, &read_only)?;
    Ok(tree)
}

/// Makes an empty file in memory, to be written and then [`seal`]ed.
///
/// # Errors
/// Of memfd_create(2).
pub fn in_memory(name: &CStr) -> io::Result<File> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    Ok(File::from(memfd_create(name, flags)?))
}

/// Seals a file in memory. No process can change it any more, even if it has it open for writing.
///
/// # Errors
/// Of fcntl(2).
pub fn seal(file: &File) -> io::Result<()> {
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    fcntl(file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(())
}

fn sealed_copy(program: &Path) -> Result<OwnedFd, Error> {
    let copy = || {
        let mut copy = in_memory(c"wasmtime-shim-copy")?;
        io::copy(&mut File::open(program)?, &mut copy)?;
        seal(&copy)?;
        Ok(copy.into())
    };
    copy().map_err(Error::io(format!("copy {} into memory", program.display())))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::process::Command;

    use super::*;

    /// Executes the program, and tries to write to it.
    fn try_out(program: OwnedFd) -> io::Error {
        let path = format!("/proc/self/fd/{}", program.as_fd().as_raw_fd());
        assert!(Command::new(&path).status().expect("is executed").success());
        let opened = File::options().write(true).open(path);
        opened.and_then(|mut file| file.write_all(b"changed")).expect_err("is not written")
    }

    #[test]
    fn a_program_is_executed_and_cannot_be_written() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let program = directory.path().join("true");
        // A further process must write it, because processes that this one forks at the same time would have it open for
        // writing.
        let copied = Command::new("cp").arg("/bin/true").arg(&program).status();
        assert!(copied.expect("is executed").success());
        let refused = try_out(super::program(&program).expect("opened"));
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS), "{refused}");
        let refused = try_out(sealed_copy(&program).expect("copied"));
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "{refused}");
        File::options().write(true).open(program).expect("the file itself is as it was");
    }

    #[test]
    fn the_null_device_takes_all_and_its_mode_stays() {
        let mut null = File::from(null().expect("opened"));
        null.write_all(b"gone").expect("written");
        let mode = null.metadata().expect("metadata").permissions();
        let refused = null.set_permissions(mode).expect_err("is refused");
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS), "{refused}");
    }

    #[test]
    fn a_file_is_read_and_cannot_be_written_wherever_it_is() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join("code");
        std::fs::write(&path, "code").expect("written");
        let mut sealed = in_memory(c"code").expect("made");
        sealed.write_all(b"code").expect("written");
        seal(&sealed).expect("sealed");
        for given in [File::open(&path).expect("opened"), sealed] {
            let file = super::file(given).expect("opened");
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            assert_eq!(std::fs::read(&path).expect("read"), b"code");
            let opened = File::options().write(true).open(path);
            opened.and_then(|mut file| file.write_all(b"x")).expect_err("is not written");
        }
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let text = program(Path::new("/no/shim")).expect_err("is not there").to_string();
        assert!(text.contains("/no/shim"), "{text}");
    }
}
