//! The worker's parent: ends it when its time is up, or when nobody waits for its answer any more, and reports how it
//! ended if it did not answer.
//!
//! It is outside of the worker's pid namespace and cgroup: it keeps time also while the worker is stopped or frozen.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, pipe2};

use crate::cgroup::Cgroup;
use crate::child::exit;
use crate::pidfd::PidFd;
use crate::{Bounds, End, Error, Reply, inherit, wire};

/// Whoever waits for a worker holds this: when it is dropped, or its holder is killed, the worker is ended.
#[derive(Debug)]
pub struct Leash {
    _held: OwnedFd,
}

impl Leash {
    /// With the end that goes to the worker ([`crate::JobFds::leash`]).
    ///
    /// # Errors
    /// Of pipe(2).
    pub fn new() -> Result<(Leash, OwnedFd), Error> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(Error::system("pipe"))?;
        Ok((Leash { _held: writer }, reader))
    }
}

/// What the parent keeps of a job.
pub struct Keeper<'a> {
    /// What the worker may use.
    pub bounds: Bounds,
    /// The other end of the [`Leash`].
    pub leash: OwnedFd,
    /// Where the worker answers.
    pub connection: &'a UnixStream,
    /// The cgroup that the worker enters, and how many processes were killed in it before.
    pub cgroup: Option<(Cgroup, u64)>,
}

impl Keeper<'_> {
    /// Returns never: this process ends with the worker.
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
            // It has answered, or nobody wants to know.
            _ => None,
        };
        if let Some(end) = end {
            let _ = wire::write(self.connection, &Reply::Ended(end));
        }
        exit(0)
    }

    /// False when its time is up before.
    ///
    /// # Errors
    /// When the leash is let go of before, or nothing can be waited for.
    fn ends_by_itself(&self, worker: Pid) -> Result<bool, Error> {
        let worker = PidFd::open(worker)?;
        let until = Instant::now() + self.bounds.time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // Its end is readable; of the leash only the other end's end is of interest, which is always told.
            let mut fds = [
                PollFd::new(worker.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.leash.as_fd(), PollFlags::empty()),
            ];
            match poll(&mut fds, timeout(left)) {
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

/// Not less than it takes to count, and at most a day at a time: milliseconds have 31 bits.
fn timeout(left: Duration) -> PollTimeout {
    let left = left.clamp(Duration::from_millis(1), Duration::from_secs(86_400));
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}
