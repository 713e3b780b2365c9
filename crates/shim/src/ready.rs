//! Descriptors that the event loop waits for.

use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// A descriptor whose readiness the runtime watches.
pub fn ready_fd(fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        deprecated,
        reason = "unsound for types that give another descriptor later; OwnedFd does not"
    )]
    AsyncFd::new(fd)
}
