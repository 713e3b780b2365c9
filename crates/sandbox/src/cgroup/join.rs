//! Prepares the kernel for a process that is moved into a cgroup soon.
//!
//! A move takes a lock that excludes all forks and exits on the machine. The lock favours forks and exits, so that the
//! first move waits for a grace period of RCU, 5 to 20 ms. Further moves in the next such period do not wait (kernel,
//! `cgroup_threadgroup_rwsem` and `rcu_sync`). So a move that is made a little earlier, while other work is done, saves
//! the waiting time.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{HIERARCHIES, below};

/// Moves this process to the cgroup in which it is, so that the next move does not wait. Blocks. Returns whether that was
/// possible; if not, the next move waits.
pub fn expect() -> bool {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut own = cgroups.lines().filter_map(|line| own(Path::new(HIERARCHIES), line));
    let Some(procs) = own.find(|procs| has(procs, std::process::id())) else { return false };
    // 0 stands for the writer (cgroups(7)).
    let moved = OpenOptions::new().write(true).open(procs).and_then(|mut it| it.write_all(b"0"));
    moved.is_ok()
}

/// File by which processes enter the cgroup of a line of `/proc/PID/cgroup` (cgroups(7)), `N:CONTROLLERS:PATH`.
fn own(hierarchies: &Path, line: &str) -> Option<PathBuf> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let hierarchy = hierarchies.join(controllers);
    Some(below(&hierarchy, Path::new(path)).join("cgroup.procs"))
}

/// Whether the process is in the cgroup. It may not be, because the path may be relative to another root than the file.
fn has(procs: &Path, process: u32) -> bool {
    let processes = fs::read_to_string(procs).unwrap_or_default();
    processes.lines().any(|line| line.parse() == Ok(process))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_moved_to_where_it_is() {
        let cgroups = || fs::read_to_string("/proc/self/cgroup").expect("cgroups");
        let before = cgroups();
        assert!(expect(), "its own cgroup is not found, or not its to write to");
        assert_eq!(cgroups(), before);
    }

    #[test]
    fn its_own_cgroup_is_found_in_both_versions() {
        let own = |line| own(Path::new("/c"), line).expect("a path");
        assert_eq!(own("0::/system.slice/a:b"), Path::new("/c/system.slice/a:b/cgroup.procs"));
        assert_eq!(own("7:cpu,cpuacct:/"), Path::new("/c/cpu,cpuacct/cgroup.procs"));
    }
}
