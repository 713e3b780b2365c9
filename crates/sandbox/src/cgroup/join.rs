//! Makes ready for a process to be moved into a cgroup soon.
//!
//! Whoever moves one excludes every fork and exit of the machine meanwhile, by a lock that favours these: the first to
//! take it for moving waits a grace period of RCU, 5 to 20 ms, and those who take it in the next such period wait for
//! nothing (kernel, `cgroup_threadgroup_rwsem` and `rcu_sync`). Moving somebody a little earlier, while something
//! else is done, has the waiting over with.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{HIERARCHIES, below};

/// Waits so that who moves a process next need not: this one is moved to where it is. Blocks. Returns whether that
/// could be done; where it could not, nothing is lost.
pub fn expect() -> bool {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut own = cgroups.lines().filter_map(|line| own(Path::new(HIERARCHIES), line));
    let Some(procs) = own.find(|procs| has(procs, std::process::id())) else { return false };
    // 0 stands for the writer (cgroups(7)).
    let moved = OpenOptions::new().write(true).open(procs).and_then(|mut it| it.write_all(b"0"));
    moved.is_ok()
}

/// The file by which processes enter a cgroup of a line of `/proc/PID/cgroup` (cgroups(7)), `N:CONTROLLERS:PATH`.
fn own(hierarchies: &Path, line: &str) -> Option<PathBuf> {
    let mut fields = line.splitn(3, ':').skip(1);
    let (controllers, path) = (fields.next()?, fields.next()?);
    let hierarchy = hierarchies.join(controllers);
    Some(below(&hierarchy, Path::new(path)).join("cgroup.procs"))
}

/// Whether the process is in it: the path may be seen from another root than the file.
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
