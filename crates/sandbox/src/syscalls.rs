//! Mounts by descriptor (open_tree(2), mount_setattr(2), move_mount(2); Linux 5.12), and clone3(2). `rustix` lacks
//! mount_setattr(2) and clone3(2), and `nix` lacks all of them.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

/// Attributes of mounts to set and to clear.
pub use libc::mount_attr as Attributes;

/// No change of attributes.
pub const UNCHANGED: Attributes =
    Attributes { attr_set: 0, attr_clr: 0, propagation: 0, userns_fd: 0 };

/// Makes a detached copy of the mount that `path` is on, with that path as its root, and with the mounts below if `recursive`.
pub fn open_tree(path: &Path, recursive: bool) -> nix::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
    result(rustix::mount::open_tree(CWD, path, flags))
}

/// Changes attributes of a mount, and of those below it if `recursive`.
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attributes: &Attributes,
) -> nix::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the call gets an empty path, and attributes that outlive it, with their size.
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

/// Attaches a detached mount.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    result(rustix::mount::move_mount(mount, c"", target, c"", flags))
}

/// Converts a process id to that of `rustix`, for which 0 is no process.
pub fn pid(pid: Pid) -> nix::Result<rustix::process::Pid> {
    rustix::process::Pid::from_raw(pid.as_raw()).ok_or(Errno::EINVAL)
}

/// Converts the result of a call of `rustix` to that of `nix`.
pub fn result<T>(answer: rustix::io::Result<T>) -> nix::Result<T> {
    answer.map_err(|errno| Errno::from_raw(errno.raw_os_error()))
}

/// Forks with flags of clone3(2), into a cgroup of v2 if one is given. `None` in the child.
///
/// # Safety
/// This process must have one thread, unless the child allocates nothing and takes no lock.
pub unsafe fn fork_with(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> nix::Result<Option<Pid>> {
    // A sibling gets the exit signal of its parent.
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
    // Kernels before 5.7 refuse fields that they do not know.
    let size = if cgroup.is_some() { size_of::<libc::clone_args>() } else { SIZE_OF_FIRST };
    // SAFETY: the arguments outlive the call. Without a stack and shared memory it is fork(2), and the caller guarantees what
    // that needs.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) };
    let pid = Errno::result(pid)?;
    Ok((pid != 0).then(|| Pid::from_raw(pid as i32)))
}

/// `CLONE_INTO_CGROUP`.
const INTO_CGROUP: u64 = 0x2_0000_0000;

/// The size of the arguments in the first version of clone3(2).
const SIZE_OF_FIRST: usize = 64;
