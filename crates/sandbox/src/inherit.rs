//! Descriptors that a process inherits.

use std::fs;
use std::os::fd::{AsFd, RawFd};
use std::os::unix::net::UnixListener;

use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt};

use crate::{Error, read_only};

/// Takes over the listening socket that the parent process passed as stdin. Stdin becomes `/dev/null`.
///
/// # Errors
/// [`Error::System`] if stdin is not a listening socket.
pub fn listener_on_stdin() -> Result<UnixListener, Error> {
    let stdin = std::io::stdin();
    let listening = getsockopt(&stdin, sockopt::AcceptConn);
    if !matches!(listening, Ok(true)) {
        return Err(Error::System {
            action: "listen on stdin".into(),
            source: listening.err().unwrap_or(nix::Error::EINVAL),
        });
    }
    let listener = stdin.as_fd().try_clone_to_owned().map_err(Error::io("duplicate stdin"))?;
    nix::unistd::dup2_stdin(read_only::null()?).map_err(Error::system("close stdin"))?;
    Ok(UnixListener::from(listener))
}

/// Closes all descriptors above stderr except `kept` and the trace's.
pub(crate) fn close_all_but(kept: &[RawFd]) -> nix::Result<()> {
    let kept = with_trace(kept);
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return close_unlisted(&kept);
    };
    let open: Vec<RawFd> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    close(open.into_iter().filter(|fd| !kept.contains(fd)));
    Ok(())
}

/// As [`close_all_but`], by ranges between the kept ones: for a process that has no /proc, or an untrusted one. It fails on
/// kernels before 5.9.
pub(crate) fn close_unlisted(kept: &[RawFd]) -> nix::Result<()> {
    let mut kept = with_trace(kept);
    kept.retain(|fd| *fd > 2);
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().chain([RawFd::MAX]) {
        if first < fd {
            // SAFETY: close_range takes numbers; the descriptors closed belong to values of the process this
            // one is a copy of, which are never used nor dropped here: it goes on to `_exit`.
            let closed =
                unsafe { libc::syscall(libc::SYS_close_range, first, fd.saturating_sub(1), 0) };
            Errno::result(closed)?;
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

fn with_trace(kept: &[RawFd]) -> Vec<RawFd> {
    kept.iter().copied().chain(trace::descriptor()).collect()
}

fn close(fds: impl Iterator<Item = RawFd>) {
    for fd in fds.filter(|fd| *fd > 2) {
        // SAFETY: as in `close_unlisted`.
        unsafe { libc::close(fd) };
    }
}
