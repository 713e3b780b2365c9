//! Processes that the kernel killed because the cgroup ran out of memory.
//!
//! The kernel has a counter of kills, and a descriptor that reports when to read it. On v1, the descriptor reports just
//! before the kernel kills, and also if a cgroup above ran out of memory. On v2, it reports every change of
//! `memory.events`. Only the counter is exact: it rises for the cgroup of the process that was killed, before that
//! process ends.

use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::Cgroup;
use crate::Error;

/// File of v1 with the counter, for which an eventfd is registered (kernel, cgroup-v1/memory.rst, "OOM Control").
const CONTROL: &str = "memory.oom_control";

/// File of v1 at which the eventfd is registered.
const REGISTER: &str = "cgroup.event_control";

/// File of v2 with the counter, which is watched (kernel, cgroup-v2.rst, "Memory Interface Files").
const EVENTS: &str = "memory.events";

/// How often counters are read if they change in between.
const TRIES: u32 = 3;

/// Buffer for events of inotify(7), whose contents are not used.
const EVENT_BYTES: usize = 4096;

impl Cgroup {
    /// Number of processes in it that were killed so far. `None` if the kernel does not count, or the cgroup is gone.
    pub fn oom_kills(&self) -> Option<u64> {
        let file = if self.is_v2() { EVENTS } else { CONTROL };
        kills(&self.file("memory", file))
    }

    /// Number of processes that were killed so far in cgroups with the same parent which are gone by now. systemd removes the cgroup
    /// of a scope as soon as its last process has ended, and with it [`Cgroup::oom_kills`]. The parent has counted that kill as well.
    /// `None` if this is no cgroup of a scope, and on v1, where a parent does not count.
    pub fn oom_kills_of_gone(&self) -> Option<u64> {
        let own = self.file("memory", "");
        let is_scope = own.extension().is_some_and(|extension| extension == "scope");
        let parent = own.parent().filter(|_| is_scope && self.is_v2())?;
        let all = || kills(&parent.join(EVENTS));
        let there = || {
            let cgroups = fs::read_dir(parent).ok()?.flatten();
            Some(cgroups.filter_map(|entry| kills(&entry.path().join(EVENTS))).sum::<u64>())
        };
        // There is none of both at once.
        for _ in 0..TRIES {
            let (before, there) = (all()?, there()?);
            if all()? == before {
                return Some(before.saturating_sub(there));
            }
        }
        None
    }

    /// Descriptor that is readable when [`Cgroup::oom_kills`] may have risen, or is about to; see [`clear`].
    ///
    /// # Errors
    /// [`Error::System`] or [`Error::Io`] if there is no memory controller, or it does not report (a kernel with PREEMPT_RT and
    /// v1).
    pub fn oom_notice(&self) -> Result<OwnedFd, Error> {
        if self.is_v2() { self.notice_of_v2() } else { self.notice_of_v1() }
    }

    fn notice_of_v1(&self) -> Result<OwnedFd, Error> {
        let path = self.file("memory", CONTROL);
        let control = File::open(&path).map_err(Error::io(format!("open {}", path.display())))?;
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let event =
            EventFd::from_value_and_flags(0, flags).map_err(Error::system("make an eventfd"))?;
        let event = OwnedFd::from(event);
        let pair = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
        self.write("memory", REGISTER, &pair).map_err(Error::io("watch the memory cgroup"))?;
        Ok(event)
    }

    fn notice_of_v2(&self) -> Result<OwnedFd, Error> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).map_err(Error::system("make an inotify instance"))?;
        let path = self.file("memory", EVENTS);
        inotify
            .add_watch(&path, AddWatchFlags::IN_MODIFY)
            .map_err(Error::system(format!("watch {}", path.display())))?;
        Ok(inotify.into())
    }
}

/// The counter in such a file, which on v2 includes kills below.
fn kills(file: &Path) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// Resets the descriptor of [`Cgroup::oom_notice`].
pub fn clear(notice: &OwnedFd) {
    let mut events = [0; EVENT_BYTES];
    // The loop ends with EAGAIN when nothing is left to read.
    while nix::unistd::read(notice, &mut events).is_ok_and(|length| length > 0) {}
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, poll};
    use std::os::fd::AsFd;

    use super::*;

    fn is_ready(notice: &OwnedFd) -> bool {
        let mut fds = [PollFd::new(notice.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, 0_u8).expect("polls") > 0
    }

    #[test]
    fn a_kill_on_v2_is_noticed_and_counted() {
        let host = tempfile::tempdir().expect("temporary directory");
        let directory = host.path().join("pods/c1");
        fs::create_dir_all(&directory).expect("a cgroup");
        fs::write(host.path().join("cgroup.controllers"), "memory").expect("v2");
        let events = |kills| format!("low 0\nhigh 0\nmax 7\noom 1\noom_kill {kills}\n");
        fs::write(directory.join(EVENTS), events(0)).expect("its events");
        let cgroup = Cgroup::in_hierarchies(host.path(), Some(Path::new("/pods/c1")), "c1", false);
        let cgroup = cgroup.expect("a cgroup");
        let notice = cgroup.oom_notice().expect("is watched");
        assert_eq!((cgroup.oom_kills(), is_ready(&notice)), (Some(0), false));
        fs::write(directory.join(EVENTS), events(2)).expect("a kill");
        assert_eq!((cgroup.oom_kills(), is_ready(&notice)), (Some(2), true));
        clear(&notice);
        assert!(!is_ready(&notice));
        fs::remove_dir_all(&directory).expect("its end");
        assert_eq!(cgroup.oom_kills(), None);
    }

    #[test]
    fn a_kill_in_a_cgroup_that_is_gone_is_counted_by_its_parent_on_v2() {
        let host = tempfile::tempdir().expect("temporary directory");
        fs::write(host.path().join("cgroup.controllers"), "memory").expect("v2");
        let counts = |directory: &str, kills| {
            let directory = host.path().join(directory);
            fs::create_dir_all(&directory).expect("a cgroup");
            let events = format!("oom 9\noom_kill {kills}\noom_group_kill 0\n");
            fs::write(directory.join(EVENTS), events).expect("its events");
        };
        let cgroup =
            Cgroup::in_hierarchies(host.path(), Some(Path::new("/pod/1.scope")), "1", false);
        let cgroup = cgroup.expect("a cgroup");
        assert_eq!(cgroup.oom_kills_of_gone(), None);
        for (directory, kills) in [("pod", 6), ("pod/1.scope", 1), ("pod/2.scope", 2)] {
            counts(directory, kills);
        }
        assert_eq!(cgroup.oom_kills_of_gone(), Some(3));
        fs::remove_dir_all(host.path().join("pod/1.scope")).expect("its end");
        assert_eq!((cgroup.oom_kills(), cgroup.oom_kills_of_gone()), (None, Some(4)));
    }

    #[test]
    fn a_kill_on_v1_is_counted() {
        let host = tempfile::tempdir().expect("temporary directory");
        let directory = host.path().join("memory/pods/c1");
        fs::create_dir_all(&directory).expect("a cgroup");
        let control = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        fs::write(directory.join(CONTROL), control).expect("its control");
        let cgroup = Cgroup::in_hierarchies(host.path(), Some(Path::new("/pods/c1")), "c1", false);
        assert_eq!(cgroup.expect("a cgroup").oom_kills(), Some(3));
    }
}
