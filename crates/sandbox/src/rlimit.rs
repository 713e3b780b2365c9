//! A limit of another process (prlimit(2)).

use crate::Error;
use crate::pidfd::PidFd;

/// Tells a guest's process that its container's memory limit is another now, or none: by the soft `RLIMIT_RSS`, of
/// which the kernel makes nothing. A process that has ended is passed over.
///
/// # Errors
/// [`Error::System`] with EPERM where the process is another user's and this one has no CAP_SYS_RESOURCE.
pub fn tell_memory_limit(process: &PidFd, limit: Option<u64>) -> Result<(), Error> {
    let soft = limit.unwrap_or(libc::RLIM_INFINITY);
    let new = libc::rlimit { rlim_cur: soft, rlim_max: libc::RLIM_INFINITY };
    let pid = process.pid();
    // SAFETY: `new` is read by the call and lives as long; a null pointer for the old limits is allowed.
    let set = unsafe { libc::prlimit(pid.as_raw(), libc::RLIMIT_RSS, &new, std::ptr::null_mut()) };
    match nix::errno::Errno::result(set) {
        Ok(_) | Err(nix::Error::ESRCH) => Ok(()),
        Err(source) => Err(Error::system(format!("tell process {pid} its memory limit"))(source)),
    }
}
