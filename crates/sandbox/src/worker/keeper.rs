//! The parent of a worker. It ends the worker when its time is up or when its answer is not needed any more, and reports how
//! it ended if it did not answer.
//!
//! It is outside of the worker's pid namespace and cgroup, so that it keeps the time even if the worker is stopped or frozen.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};

use crate::cgroup::Cgroup;
use crate::child::exit;
use crate::pidfd::PidFd;
use crate::{Bounds, End, Error, Reply, inherit, ready, wire};

/// Handle to a worker, for the caller who waits for it. The worker is ended when this is dropped or the caller is killed.
#[derive(Debug)]
pub struct Leash {
    _held: OwnedFd,
}

impl Leash {
    /// A leash, and the end of it that goes to the worker ([`crate::JobFds::leash`]).
    ///
    /// # Errors
    /// As of pipe(2).
    pub fn new() -> Result<(Leash, OwnedFd), Error> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(Error::system("make a pipe"))?;
        Ok((Leash { _held: writer }, reader))
    }
}

/// The parent's part of a job.
pub struct Keeper<'a> {
    /// Limits of the worker.
    pub bounds: Bounds,
    /// The other end of the [`Leash`].
    pub leash: OwnedFd,
    /// Connection on which the worker answers.
    pub connection: &'a UnixStream,
    /// The cgroup that the worker enters, and the number of processes that the kernel had killed in it before.
    pub cgroup: Option<(Cgroup, u64)>,
}

impl Keeper<'_> {
    /// Waits for the worker. Never returns, because this process ends with the worker.
    pub fn keep(self, worker: Pid) -> ! {
        let kept = [self.leash.as_raw_fd(), self.connection.as_raw_fd()];
        let closed = inherit::close_all_but(&kept).map_err(Error::system("close descriptors"));
        let in_time = closed.and_then(|()| self.ends_by_itself(worker));
        if !matches!(in_time, Ok(true)) {
            let _ = kill(worker, Signal::SIGKILL);
        }
        let status = waitpid(worker, None);
        let end = match (in_time, status) {
            (Ok(false), _) => Some(End::Time),
            (Ok(true), Ok(WaitStatus::Signaled(_, signal, _))) => Some(self.by_signal(signal)),
            (Ok(true), Ok(WaitStatus::Exited(_, code))) if code != 0 => Some(End::Code(code)),
            // It has answered, or there is no caller any more.
            _ => None,
        };
        if let Some(end) = end {
            let _ = wire::write(self.connection, &Reply::Ended(end));
        }
        exit(0)
    }

    /// Waits until the worker ends. Returns false if its time is up first.
    ///
    /// # Errors
    /// If the leash is dropped first, or poll(2) fails.
    fn ends_by_itself(&self, worker: Pid) -> Result<bool, Error> {
        let worker = PidFd::open(worker)?;
        let until = Instant::now() + self.bounds.time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // The worker's descriptor is readable when it has ended. Of the leash only the end of the pipe is of interest,
            // which poll(2) always reports.
            let mut fds = [
                PollFd::new(worker.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.leash.as_fd(), PollFlags::empty()),
            ];
            match poll(&mut fds, ready::timeout(left)) {
                Ok(0) | Err(nix::Error::EINTR) => continue,
                Ok(_) => {}
                Err(source) => return Err(Error::system("wait for the worker")(source)),
            }
            let [worker, leash] = fds.map(|fd| fd.revents().is_some_and(|it| !it.is_empty()));
            if worker {
                return Ok(true);
            }
            if leash {
                return Err(Error::Gone { process: "shim" });
            }
        }
    }

    fn by_signal(&self, signal: Signal) -> End {
        let killed = self.cgroup.as_ref().is_some_and(|(cgroup, before)| {
            cgroup.oom_kills().is_some_and(|kills| kills > *before)
        });
        match signal {
            Signal::SIGKILL if killed => End::OutOfMemory,
            other => End::Signal(other as i32),
        }
    }
}
