//! What a guest's isolation requires of the kernel.

use std::fs;

use nix::errno::Errno;
use nix::libc;

use super::errors::{Failed, Step};

/// Refuses a kernel on which a guest would be less isolated. Files in the root are found by openat2(2) (Linux 5.6), and the
/// runtime's descriptors are closed by close_range(2) (5.9). Filters of system calls are an option of the kernel
/// (`CONFIG_SECCOMP_FILTER`).
pub fn check() -> Result<(), Failed> {
    let (ask, action) = (libc::SECCOMP_GET_ACTION_AVAIL, libc::SECCOMP_RET_ERRNO);
    // SAFETY: the call reads one number, which outlives it.
    let asked = unsafe { libc::syscall(libc::SYS_seccomp, ask, 0, &raw const action) };
    if let Err(Errno::ENOSYS | Errno::EINVAL | Errno::EOPNOTSUPP) = Errno::result(asked) {
        let reason = "it takes a kernel with filters of system calls (seccomp)";
        return Err(Failed::new(Step::Isolate, reason));
    }
    // SAFETY: the call takes numbers, and no descriptor is that large.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, u32::MAX, u32::MAX, 0) };
    refuse(Errno::result(closed).err())
}

fn refuse(missing: Option<Errno>) -> Result<(), Failed> {
    let Some(Errno::ENOSYS) = missing else { return Ok(()) };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let reason = format!("it takes Linux 5.9 or later, and this node has {}", release.trim());
    Err(Failed::new(Step::Isolate, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_that_is_too_old_is_named() {
        check().expect("this one is new enough");
        let refused = refuse(Some(Errno::ENOSYS)).expect_err("is too old").to_string();
        let begin = "cannot isolate the container's process: it takes Linux 5.9 or later, and this node has ";
        assert!(refused.starts_with(begin) && refused.len() > begin.len(), "{refused}");
    }
}
