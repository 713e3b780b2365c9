//! User namespaces and their id mappings (user_namespaces(7)), for processes, and for mounts whose files get other owners than
//! on the disk (mount_setattr(2), "ID-mapped mounts").

use std::fmt::Write;
use std::fs::{self, File};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Gid, Pid, Uid, pipe2, read, setresgid, setresuid};
use oci_spec::runtime::LinuxIdMapping;

use super::errors::{Failed, Step};
use crate::child::exit;
use crate::syscalls;

/// Id mappings of a user namespace to the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Maps<'a> {
    /// User ids.
    pub users: &'a [LinuxIdMapping],
    /// Group ids.
    pub groups: &'a [LinuxIdMapping],
}

impl Maps<'_> {
    /// Maps the ids in the user namespace of a process, which was made with it. The host's root may write any number of ranges.
    pub fn write(&self, pid: Pid) -> Result<(), Failed> {
        if self.users.is_empty() || self.groups.is_empty() {
            let reason = "a new user namespace needs uidMappings and gidMappings";
            return Err(Failed::new(Step::MapIds, reason));
        }
        for (name, ranges) in [("uid_map", self.users), ("gid_map", self.groups)] {
            // The kernel takes all ranges in one write.
            fs::write(format!("/proc/{pid}/{name}"), lines(ranges))
                .map_err(Failed::at(Step::MapIds))?;
        }
        Ok(())
    }

    /// Makes a user namespace with these ids, for mounts. A further process makes it and ends.
    pub fn namespace(&self) -> Result<OwnedFd, Failed> {
        let (waits, release) = pipe2(OFlag::O_CLOEXEC).map_err(Failed::at(Step::MapIds))?;
        // SAFETY: the child makes system calls with values on its stack, and ends: it allocates nothing and takes no lock.
        let forked = unsafe { syscalls::fork_with(libc::CLONE_NEWUSER as u64, None) };
        match forked.map_err(Failed::at(Step::MapIds))? {
            None => {
                drop(release);
                while read(&waits, &mut [0]) == Err(Errno::EINTR) {}
                exit(0)
            }
            Some(pid) => {
                let opened = self.write(pid).and_then(|()| of(pid));
                // Closing the pipe is not enough, because a process that another thread forks may have its other end.
                let _ = kill(pid, Signal::SIGKILL);
                drop(release);
                let _ = waitpid(pid, None);
                opened
            }
        }
    }
}

/// The user namespace of a process.
pub fn of(pid: Pid) -> Result<OwnedFd, Failed> {
    let opened = File::open(format!("/proc/{pid}/ns/user"));
    opened.map(OwnedFd::from).map_err(Failed::at(Step::MapIds))
}

/// Becomes root in the user namespace that this process is in.
pub fn become_root() -> nix::Result<()> {
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(group, group, group)?;
    setresuid(user, user, user)
}

fn lines(ranges: &[LinuxIdMapping]) -> String {
    let mut text = String::new();
    for range in ranges {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {} {}", range.container_id(), range.host_id(), range.size());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_range_is_a_line() {
        let ranges: Vec<LinuxIdMapping> = serde_json::from_value(serde_json::json!([
            { "containerID": 0, "hostID": 100000, "size": 1000 },
            { "containerID": 1000, "hostID": 1000, "size": 1 },
        ]))
        .expect("ranges");
        assert_eq!(lines(&ranges), "0 100000 1000\n1000 1000 1\n");
    }

    #[test]
    fn a_new_namespace_needs_ids() {
        let maps = Maps { users: &[], groups: &[] };
        let refused = maps.write(Pid::from_raw(1)).expect_err("none").to_string();
        assert!(refused.contains("uidMappings"), "{refused}");
    }
}
