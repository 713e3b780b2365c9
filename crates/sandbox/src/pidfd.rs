//! Processes by descriptor, which never refers to another process (pidfd_open(2)).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, SysconfVar, sysconf};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::ready::is_readable_by;
use crate::{Error, syscalls};

/// A child of this process. Readable once the child has ended.
#[derive(Debug)]
pub struct PidFd {
    pid: Pid,
    fd: OwnedFd,
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl PidFd {
    /// Opens a child that has not been waited for.
    pub fn open(pid: Pid) -> Result<PidFd, Error> {
        let opened = syscalls::pid(pid)
            .and_then(|pid| syscalls::result(pidfd_open(pid, PidfdFlags::empty())));
        let fd = opened.map_err(Error::system(format!("open process {pid}")))?;
        Ok(PidFd { pid, fd })
    }

    /// A descriptor that another process has opened.
    pub(crate) fn received(pid: i32, fd: OwnedFd) -> PidFd {
        PidFd { pid: Pid::from_raw(pid), fd }
    }

    /// A copy of the descriptor, for another process.
    pub fn try_clone(&self) -> Result<OwnedFd, Error> {
        let action = format!("duplicate the descriptor of process {}", self.pid);
        self.fd.try_clone().map_err(Error::io(action))
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Whether all its threads have ended, even if it has not been reaped.
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Waits until all its threads have ended. Returns false if they have not by `until`.
    pub(crate) fn ends_by(&self, until: Instant) -> bool {
        is_readable_by(self.fd.as_fd(), until)
    }

    /// Reaps the ended child and returns its exit code: its own, or 128 + N if signal N ended it. `None` while it runs, and
    /// while another process is still its parent.
    pub fn try_wait(&self) -> Result<Option<u8>, Error> {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        match waitid(Id::PIDFd(self.fd.as_fd()), flags) {
            Ok(WaitStatus::Exited(_, code)) => Ok(Some(code as u8)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Ok(Some(128 + signal as u8)),
            Ok(_) | Err(nix::Error::ECHILD) => Ok(None),
            Err(source) => Err(Error::system(format!("wait for process {}", self.pid))(source)),
        }
    }

    /// Sends a signal; `Ok(false)` if the process has ended.
    pub fn signal(&self, signal: i32) -> Result<bool, Error> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a null siginfo is allowed and means "as kill(2) would"; no memory of ours is touched.
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.fd.as_raw_fd(), signal, none, 0)
        };
        match nix::errno::Errno::result(sent) {
            Ok(_) => Ok(true),
            Err(nix::Error::ESRCH) => Ok(false),
            Err(source) => Err(Error::System {
                action: format!("send signal {signal} to process {}", self.pid),
                source,
            }),
        }
    }
}

/// Kills a process that another one has opened.
pub(crate) fn kill(process: &OwnedFd) -> Result<(), Error> {
    let process = process.try_clone().map_err(Error::io("duplicate a process's descriptor"))?;
    // The pid is only used in errors.
    PidFd::received(0, process).signal(libc::SIGKILL).map(drop)
}

/// Sends a signal, which may be a real-time signal, to a process by its pid. Does nothing if the process has ended.
pub(crate) fn signal(pid: Pid, signal: i32) -> Result<(), Error> {
    // SAFETY: kill takes two numbers and touches no memory of ours.
    let sent = unsafe { libc::kill(pid.as_raw(), signal) };
    match nix::errno::Errno::result(sent) {
        Ok(_) | Err(nix::Error::ESRCH) => Ok(()),
        Err(source) => Err(Error::system(format!("send signal {signal} to process {pid}"))(source)),
    }
}

/// Parent of a process (proc(5), `stat`, field 4).
pub(crate) fn parent(pid: Pid) -> Option<Pid> {
    let after = stat(pid)?;
    after.split(' ').nth(1)?.parse().ok().map(Pid::from_raw)
}

/// Whether the process leads its session (proc(5), `stat`, field 6).
pub(crate) fn heads_a_session(pid: Pid) -> bool {
    let session = stat(pid).and_then(|after| after.split(' ').nth(3)?.parse().ok());
    session == Some(pid.as_raw())
}

/// A moment, in ticks since boot, the unit of the start times of processes.
#[derive(Debug, Clone, Copy)]
pub struct Ticks(pub(crate) u64);

impl Ticks {
    /// The present moment; 0 if the clock cannot be read.
    pub fn now() -> Ticks {
        let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        Ticks(
            now.as_secs() * per_second as u64
                + u64::from(now.subsec_millis()) * per_second as u64 / 1000,
        )
    }
}

/// Start time of a process in ticks since boot (proc(5), `stat`, field 22).
pub(crate) fn started(pid: Pid) -> Option<u64> {
    let after = stat(pid)?;
    after.split(' ').nth(19)?.parse().ok()
}

/// `/proc/PID/stat` from the third field on. The name before it can contain any character.
fn stat(pid: Pid) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ").map(|(_, after)| after.to_owned())
}

/// Reaps one ended child that `known` does not claim, and returns its process id.
///
/// The shim is a child subreaper (prctl(2), PR_SET_CHILD_SUBREAPER): orphans of a container, and processes that were used to
/// make one, become its children and would stay zombies.
pub fn reap_orphan(known: impl Fn(Pid) -> bool) -> Option<Pid> {
    let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    // waitid returns the same ended child again until it is reaped, so that a known one would hide the others. Therefore ask
    // for each child by its pid.
    for pid in children() {
        if known(pid) {
            continue;
        }
        let ended = waitid(Id::Pid(pid), peek);
        if matches!(ended, Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..))) {
            let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
            return Some(pid);
        }
    }
    None
}

/// This process's children, from `/proc/self/task/<tid>/children` of every thread (proc(5)).
pub(crate) fn children() -> Vec<Pid> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            let pids: Vec<Pid> = text
                .split_whitespace()
                .filter_map(|pid| Some(Pid::from_raw(pid.parse().ok()?)))
                .collect();
            pids
        })
        .collect()
}

/// Whether this platform has a signal of that number.
pub fn is_signal(number: u32) -> bool {
    // Real-time signals (32 to 64) have no name in `Signal`, but can be sent.
    matches!(number, 32..=64) || i32::try_from(number).is_ok_and(|n| Signal::try_from(n).is_ok())
}
