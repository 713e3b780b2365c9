//! The page map of a guest's process: which of its pages there are (proc(5), `/proc/PID/pagemap`).
//!
//! A container may have no `/proc`, and a process that is not dumpable may not open its own. So whoever has made the
//! process opens it, and hands it over before the process is released.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use caps::{CapSet, Capability};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::{Error, wire};

/// The end of whoever makes the process.
pub struct Sender(OwnedFd);

/// The end of the process itself.
pub struct Receiver(OwnedFd);

/// Both, for a process that is made after this.
pub fn channel() -> Result<(Sender, Receiver), Error> {
    let (sender, receiver) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(Error::system("socket pair of the page map"))?;
    Ok((Sender(sender), Receiver(receiver)))
}

impl Sender {
    /// Sends the page map of a process that waits to be released; none where the kernel has none, or the process was
    /// killed meanwhile, which others report. To be called last: it gives up `CAP_SYS_ADMIN`, with which the file would
    /// tell where in the machine's memory pages are.
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
    /// What is not to be closed before.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// None where there is none, or whoever was to send it is gone: nothing else has the other end open any more.
    pub fn receive(self) -> Option<File> {
        let map = wire::receive_fds(&self.0).ok().flatten()?.pop()?;
        Some(File::from(map))
    }
}
