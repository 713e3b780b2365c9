//! Child processes: how they end, and how their parent waits for that.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Instant;

use nix::libc;
use nix::unistd::Pid;
use rustix::process::{WaitOptions, waitpid};

use crate::pidfd::PidFd;
use crate::syscalls;

/// Ends a forked process at once, without the exit handlers of the process it is a copy of.
pub fn exit(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Outcome of waiting for a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The child ended with that status.
    With(ExitStatus),
    /// Another thread of this process reaped it, as the shim does with every child that ends.
    Reaped,
    /// It was killed because it had not ended in time.
    Late,
}

/// Waits until a child has ended, and reaps it. One that has not ended by `until` is killed.
pub fn wait_by(child: Pid, until: Option<Instant>) -> io::Result<Ended> {
    if let Some(until) = until
        && let Ok(process) = PidFd::open(child)
        && !process.ends_by(until)
    {
        process.signal(libc::SIGKILL).map_err(io::Error::other)?;
        return reap(child).map(|_| Ended::Late);
    }
    // One that cannot be opened is gone, or a seccomp filter refuses to open it.
    reap(child)
}

fn reap(child: Pid) -> io::Result<Ended> {
    let child = syscalls::pid(child)?;
    loop {
        match syscalls::result(waitpid(Some(child), WaitOptions::empty())) {
            Ok(Some((_, status))) => return Ok(Ended::With(ExitStatus::from_raw(status.as_raw()))),
            Ok(None) | Err(nix::Error::EINTR) => {}
            Err(nix::Error::ECHILD) => return Ok(Ended::Reaped),
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::*;

    fn run(script: &str, until: Option<Instant>) -> Ended {
        #[expect(clippy::zombie_processes, reason = "`wait_by` waits for it")]
        let child = Command::new("sh").args(["-c", script]).spawn().expect("is executed");
        wait_by(Pid::from_raw(child.id() as i32), until).expect("is waited for")
    }

    #[test]
    fn a_child_is_reaped_with_its_status_and_killed_when_its_time_is_up() {
        let soon = || Some(Instant::now() + Duration::from_secs(20));
        for until in [None, soon()] {
            assert_eq!(run("exit 3", until), Ended::With(ExitStatus::from_raw(3 << 8)));
            assert_eq!(run("kill -9 $$", until), Ended::With(ExitStatus::from_raw(9)));
        }
        let begin = Instant::now();
        assert_eq!(run("exec sleep 1000", Some(begin)), Ended::Late);
        assert!(begin.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_child_that_another_has_reaped_is_no_error() {
        let mut child = Command::new("true").spawn().expect("is executed");
        child.wait().expect("ended");
        let pid = Pid::from_raw(child.id() as i32);
        assert_eq!(wait_by(pid, None).expect("is gone"), Ended::Reaped);
    }
}
