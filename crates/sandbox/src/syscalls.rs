//! System calls that the libraries in use do not have: clone3(2), and mounts by descriptor (open_tree(2), mount_setattr(2),
//! move_mount(2); Linux 5.12).

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

/// Attributes of mounts to set and to clear.
pub use libc::mount_attr as Attributes;

/// No change of attributes.
pub const UNCHANGED: Attributes =
    Attributes { attr_set: 0, attr_clr: 0, propagation: 0, userns_fd: 0 };

/// A copy of the mount that `path` is on, attached nowhere, with that path as its root; with the mounts below if
/// `recursive`.
pub fn open_tree(path: &Path, recursive: bool) -> nix::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let mut flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= libc::AT_RECURSIVE as libc::c_uint;
    }
    // SAFETY: the path is a C string that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made it, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Changes a mount, and those below it if `recursive`.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: &Attributes,
) -> nix::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty path, and attributes that outlive the call, with their size.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<Attributes>(),
        )
    };
    Errno::result(set).map(drop)
}

/// Attaches a mount that is attached nowhere.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: two descriptors and empty paths.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    Errno::result(moved).map(drop)
}

/// Forks with flags of clone3(2), into a cgroup of v2 if one is given. `None` in the child.
///
/// # Safety
/// This process must have one thread, unless the child allocates nothing and takes no lock.
pub unsafe fn fork_with(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> nix::Result<Option<Pid>> {
    // A sibling has the exit signal of its parent.
    let is_sibling = flags & libc::CLONE_PARENT as u64 != 0;
    let arguments = libc::clone_args {
        flags: flags | cgroup.map_or(0, |_| INTO_CGROUP),
        pidfd: 0,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: if is_sibling { 0 } else { libc::SIGCHLD as u64 },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |cgroup| cgroup.as_raw_fd() as u64),
    };
    // Kernels before 5.7 refuse the fields that they do not know.
    let size = if cgroup.is_some() { size_of::<libc::clone_args>() } else { SIZE_OF_FIRST };
    // SAFETY: the arguments outlive the call. Without a stack and without shared memory, it is fork(2), and the caller
    // promises what that takes.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) };
    let pid = Errno::result(pid)?;
    Ok((pid != 0).then(|| Pid::from_raw(pid as i32)))
}

/// `CLONE_INTO_CGROUP`.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// The size of the arguments in the first version of clone3(2).
const SIZE_OF_FIRST: usize = 64;
