//! Waits for a descriptor, with a deadline.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until `fd` is readable. Returns false if it is not by `until`, or if poll(2) fails.
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

/// Timeout of at least `left`, up to the longest of poll(2).
pub fn timeout(left: Duration) -> PollTimeout {
    PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}
