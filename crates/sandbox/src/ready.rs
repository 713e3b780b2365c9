//! Waiting for a descriptor with a bound of time.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until `fd` can be read. Returns false if that is not so by `until`, or the descriptor cannot be waited for.
pub fn is_readable_by(fd: BorrowedFd<'_>, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout(left)) {
            Ok(0) if Instant::now() < until => {}
            Err(nix::Error::EINTR) => {}
            ready => return ready.is_ok_and(|ready| ready > 0),
        }
    }
}

/// At least as long as `left`, up to the longest that poll(2) takes.
pub fn timeout(left: Duration) -> PollTimeout {
    PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}
