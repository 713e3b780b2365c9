//! Messages between the request process and the isolated process while the latter is set up.
//!
//! ```text
//! request process                        isolated process
//!   pid on disk, cgroup, ids, limits       waits
//!        ──────── go on ────────▶
//!                                          namespaces, root and volumes
//!        ◀─────── hooks ─────────          (only where the spec has hooks for this)
//!   prestart, createRuntime
//!        ──────── go on ────────▶
//!                                          root, user, rights
//!        ◀─────── ready, or why not ─────
//! ```
//! If either of them is killed, the other one reads the end of the connection.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Instant;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{read, write};
use serde::{Deserialize, Serialize};

use super::errors::{Failed, Reason, Step};
use crate::ready::is_readable_by;

/// Size of the longest message: a failure with two paths (`PATH_MAX` is 4096).
const MESSAGE_BYTES: usize = 32 << 10;

/// Report of the isolated process.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// Its mounts are made, and it waits for the hooks that run outside of it.
    Hooks,
    /// It is isolated and waits for Start.
    Ready,
    /// A step failed, and it ends.
    Failed(Failed),
}

/// End of the request process.
pub struct Parent(OwnedFd);

/// End of the isolated process.
pub struct Child(OwnedFd);

/// Makes both ends.
pub fn pair() -> nix::Result<(Parent, Child)> {
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    Ok((Parent(ours), Child(theirs)))
}

impl Parent {
    /// Lets the isolated process continue. If it has ended, the next report is an error.
    pub fn go_on(&self) {
        let _ = write(&self.0, b"g");
    }

    /// The next report, which must come by `until`.
    pub fn report_by(&self, until: Instant) -> Result<Report, Failed> {
        if !is_readable_by(self.0.as_fd(), until) {
            return Err(Failed::new(Step::Isolate, Reason::Late));
        }
        self.report()
    }

    /// The next report.
    pub fn report(&self) -> Result<Report, Failed> {
        let ended = || Failed::new(Step::Clone, Reason::Ended);
        let bytes = receive(&self.0).filter(|bytes| !bytes.is_empty()).ok_or_else(ended)?;
        match serde_json::from_slice(&bytes).map_err(|_| ended())? {
            Report::Failed(failed) => Err(failed),
            report => Ok(report),
        }
    }
}

impl Child {
    /// Waits until this process may continue. Returns false if the request process has ended.
    pub fn wait(&self) -> bool {
        receive(&self.0).is_some_and(|bytes| !bytes.is_empty())
    }

    /// Sends a report, by write(2), because a seccomp filter may be in force.
    pub fn send(&self, report: &Report) -> bool {
        serde_json::to_vec(report).is_ok_and(|bytes| write(&self.0, &bytes).is_ok())
    }

    /// Descriptor that must stay open until then.
    pub fn descriptor(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

fn receive(end: &OwnedFd) -> Option<Vec<u8>> {
    let mut bytes = vec![0; MESSAGE_BYTES];
    loop {
        match read(end, &mut bytes) {
            Err(nix::Error::EINTR) => {}
            Err(_) => return None,
            Ok(length) => {
                bytes.truncate(length);
                return Some(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_crosses_with_its_step_and_an_end_is_a_failure() {
        let (parent, child) = pair().expect("made");
        parent.go_on();
        assert!(child.wait());
        let failed = Failed::new(Step::ChangeRoot, nix::Error::EINVAL);
        assert!(child.send(&Report::Failed(failed.clone())));
        assert_eq!(parent.report(), Err(failed));
        let late = parent.report_by(Instant::now()).expect_err("nothing comes").to_string();
        assert!(late.contains("not ready in time"), "{late}");
        drop(child);
        let ended = parent.report_by(Instant::now()).expect_err("nobody is there").to_string();
        assert!(ended.contains("was it killed?"), "{ended}");
        let (parent, child) = pair().expect("made");
        drop(parent);
        assert!(!child.wait());
    }
}
