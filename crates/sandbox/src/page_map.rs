//! Page map of a guest's process, which shows which of its pages exist (proc(5), `/proc/PID/pagemap`).
//!
//! A container may have no `/proc`, and a process that is not dumpable cannot open its own. So the request process opens it,
//! and sends it before the process is released.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use caps::{CapSet, Capability};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::{Error, wire};

/// End of the request process.
pub struct Sender(OwnedFd);

/// End of the guest's process.
pub struct Receiver(OwnedFd);

/// Makes both ends, for a process that is made afterwards.
pub fn channel() -> Result<(Sender, Receiver), Error> {
    let (sender, receiver) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(Error::system("make a socket pair for the page map"))?;
    Ok((Sender(sender), Receiver(receiver)))
}

impl Sender {
    /// Sends the page map of a process that waits to be released. Sends nothing if the kernel has none, or if the process was
    /// killed. To be called last, because it drops `CAP_SYS_ADMIN`, with which the file would show where pages are in the
    /// machine's memory.
    pub fn send(self, pid: i32) {
        if caps::drop(None, CapSet::Effective, Capability::CAP_SYS_ADMIN).is_err() {
            return;
        }
        if let Ok(map) = File::open(format!("/proc/{pid}/pagemap")) {
            let _ = wire::send_fds(&self.0, &[map.as_raw_fd()]);
        }
    }
}

impl Receiver {
    /// Descriptor that must stay open until then.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Receives the page map; `None` if there is none, or if the sender was killed, because no other process has its end open.
    pub fn receive(self) -> Option<File> {
        let map = wire::receive_fds(&self.0).ok().flatten()?.pop()?;
        Some(File::from(map))
    }
}
