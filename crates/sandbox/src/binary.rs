//! A program that whoever executes it cannot write to, though root may write to its file.
//!
//! A process of a container can reach the program it was forked from by `/proc/self/exe`, and execute or reopen it:
//! root in a container would write to the node's own binary (CVE-2019-5736). So the shim is executed through a
//! mount of its own that is read-only, attached nowhere and gone with its last process: no page is copied. Kernels
//! before 5.12 cannot make one; there a sealed copy in memory takes its place.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::libc;
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::Error;

/// Opens a program to be executed as `/proc/self/fd/N`.
///
/// # Errors
/// Of open_tree(2) and mount_setattr(2); where those are not there, of memfd_create(2) and reading the file.
pub fn unwritable(program: &Path) -> Result<OwnedFd, Error> {
    let mounted = match read_only_mount(program) {
        Err(Errno::ENOSYS) => return sealed_copy(program),
        mounted => mounted,
    };
    mounted.map_err(Error::system(format!("mount {} read-only", program.display())))
}

fn read_only_mount(program: &Path) -> nix::Result<OwnedFd> {
    let path = CString::new(program.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a C string that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = Errno::result(fd)?;
    let fd = i32::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it, for nobody else.
    let tree = unsafe { OwnedFd::from_raw_fd(fd) };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: an empty path, and attributes that outlive the call, with their size.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(set)?;
    Ok(tree)
}

fn sealed_copy(program: &Path) -> Result<OwnedFd, Error> {
    let failed = || format!("copy {} into memory", program.display());
    let mut from = File::open(program).map_err(Error::io(failed()))?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let copy = memfd_create(c"containerd-shim-wasmtime-v1", flags);
    let mut copy = File::from(copy.map_err(Error::system(failed()))?);
    io::copy(&mut from, &mut copy).map_err(Error::io(failed()))?;
    let seals = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(seals)).map_err(Error::system(failed()))?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::process::Command;

    use super::*;

    /// Executes it, and tries to write to it.
    fn try_out(program: OwnedFd) -> io::Error {
        let path = format!("/proc/self/fd/{}", program.as_fd().as_raw_fd());
        assert!(Command::new(&path).status().expect("is executed").success());
        let opened = File::options().write(true).open(path);
        opened.and_then(|mut file| file.write_all(b"changed")).expect_err("is not written")
    }

    #[test]
    fn a_program_is_executed_and_cannot_be_written() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let program = folder.path().join("true");
        std::fs::copy("/bin/true", &program).expect("copied");
        let refused = try_out(unwritable(&program).expect("opened"));
        assert_eq!(refused.raw_os_error(), Some(libc::EROFS), "{refused}");
        let refused = try_out(sealed_copy(&program).expect("copied"));
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "{refused}");
        File::options().write(true).open(program).expect("the file itself is as it was");
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let text = unwritable(Path::new("/no/shim")).expect_err("is not there").to_string();
        assert!(text.contains("/no/shim"), "{text}");
    }
}
