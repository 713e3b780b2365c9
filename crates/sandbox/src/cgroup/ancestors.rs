//! Memory limits of a cgroup and of the cgroups above it: the kernel enforces all of them.

use super::{Cgroup, below, v1, v2};

/// Values from here on mean no limit. v1 writes a little less than 2^63, and no machine has half of that.
const NO_LIMIT: u64 = 1 << 62;

impl Cgroup {
    /// Memory limit of the cgroup, in bytes; `None` if it has none.
    pub fn memory_limit(&self) -> Option<u64> {
        self.memory_limits().next().flatten()
    }

    /// Lowest memory limit of the cgroup and those above it, in bytes. `None` if none has a limit.
    pub fn memory_within(&self) -> Option<u64> {
        self.memory_limits().flatten().min()
    }

    /// Memory limits of the cgroup and of those above it, in this order; `None` for one without.
    fn memory_limits(&self) -> impl Iterator<Item = Option<u64>> {
        let (hierarchy, file) = match self.is_v2() {
            true => (self.hierarchies.clone(), v2::LIMIT),
            false => (self.hierarchies.join("memory"), v1::LIMIT),
        };
        self.path.ancestors().map(move |path| {
            let limit = std::fs::read_to_string(below(&hierarchy, path).join(file)).ok()?;
            // v2 writes "max" for no limit.
            limit.trim().parse().ok().filter(|limit| *limit < NO_LIMIT)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// A Pod's cgroup and its sandbox's with these limits.
    fn sandbox(is_v2: bool, pod: &str, own: &str) -> (tempfile::TempDir, Cgroup) {
        let host = tempfile::tempdir().expect("temporary directory");
        let (hierarchy, file) = if is_v2 { (".", "memory.max") } else { ("memory", v1::LIMIT) };
        let pods = host.path().join(hierarchy).join("pods");
        fs::create_dir_all(pods.join("pod1/c1")).expect("a cgroup");
        fs::write(pods.join("pod1").join(file), pod).expect("the Pod's limit");
        fs::write(pods.join("pod1/c1").join(file), own).expect("its own");
        if is_v2 {
            fs::write(host.path().join("cgroup.controllers"), "memory").expect("v2");
        }
        let path = Some(Path::new("/pods/pod1/c1"));
        let cgroup = Cgroup::in_hierarchies(host.path(), path, "c1", false);
        (host, cgroup.expect("a cgroup"))
    }

    #[test]
    fn the_least_limit_on_the_way_up_counts() {
        for (is_v2, none) in [(true, "max\n"), (false, "9223372036854771712\n")] {
            let (_host, cgroup) = sandbox(is_v2, "1048576\n", none);
            assert_eq!(cgroup.memory_within(), Some(1 << 20));
            let (_host, cgroup) = sandbox(is_v2, "1048576\n", "4096\n");
            assert_eq!(cgroup.memory_within(), Some(4096));
            let (_host, cgroup) = sandbox(is_v2, none, none);
            assert_eq!(cgroup.memory_within(), None);
        }
    }

    #[test]
    fn a_scope_of_systemd_is_bounded_by_its_slices() {
        let host = tempfile::tempdir().expect("temporary directory");
        fs::write(host.path().join("cgroup.controllers"), "memory").expect("v2");
        let slice = host.path().join("kubepods.slice/kubepods-pod1.slice");
        fs::create_dir_all(slice.join("cri-containerd-c1.scope")).expect("a scope");
        fs::write(slice.join("memory.max"), "4096\n").expect("the Pod's limit");
        let path = Some(Path::new("kubepods-pod1.slice:cri-containerd:c1"));
        let cgroup = Cgroup::in_hierarchies(host.path(), path, "c1", false).expect("a cgroup");
        assert_eq!(cgroup.memory_within(), Some(4096));
    }
}
