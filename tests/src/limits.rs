//! Reads the limits and counters of a container's cgroup, from the files of cgroup v1 or v2.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cgroups;

/// The cgroup of one container: a directory in each hierarchy.
#[derive(Debug)]
pub struct Limits {
    folders: Vec<PathBuf>,
}

/// Counters of the scheduler for a cgroup with a CPU limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which something ran.
    pub periods: u64,
    /// Periods at whose end it had to wait.
    pub throttled: u64,
    /// CPU time, in microseconds.
    pub used: u64,
}

impl Limits {
    /// Finds the cgroup of a container, somewhere below the cgroup `parent`.
    pub fn of(parent: &str, container: &str) -> Result<Self> {
        let parents = cgroups::existing(parent.trim_start_matches('/'))?;
        let folders: Vec<_> = parents.iter().filter_map(|parent| find(parent, container)).collect();
        // systemd's own hierarchy of v1 limits nothing, and others may have no containers.
        folders.first().with_context(|| format!("no cgroup of {container} in {parent}"))?;
        Ok(Self { folders })
    }

    /// Returns the limits of the container's Pod.
    pub fn of_pod(&self) -> Self {
        let folders = self.folders.iter().filter_map(|folder| folder.parent());
        Self { folders: folders.map(Path::to_owned).collect() }
    }

    /// Returns how long it may run in each period, and how long a period is, in microseconds.
    pub fn cpu(&self) -> Result<(u64, u64)> {
        if let Ok(text) = self.read("cpu.max") {
            let (quota, period) = text.split_once(' ').context("cpu.max")?;
            return Ok((quota.parse()?, period.parse()?));
        }
        Ok((self.number("cpu.cfs_quota_us")?, self.number("cpu.cfs_period_us")?))
    }

    /// Returns the memory limit, in bytes.
    pub fn memory(&self) -> Result<u64> {
        self.number("memory.max").or_else(|_| self.number("memory.limit_in_bytes"))
    }

    /// Returns the limit of processes and threads.
    pub fn pids(&self) -> Result<u64> {
        self.number("pids.max")
    }

    /// Returns the number of processes and threads.
    pub fn pids_now(&self) -> Result<u64> {
        self.number("pids.current")
    }

    /// Returns the counters.
    pub fn throttling(&self) -> Result<Throttling> {
        let stat = self.read("cpu.stat")?;
        let field = |name: &str| {
            let line = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.with_context(|| format!("cpu.stat has no {name}"))?.parse().context("cpu.stat")
        };
        let used = match field("usage_usec") {
            Ok(used) => used,
            Err(_) => self.number("cpuacct.usage")? / 1000,
        };
        Ok(Throttling { periods: field("nr_periods")?, throttled: field("nr_throttled")?, used })
    }

    fn number(&self, file: &str) -> Result<u64> {
        let text = self.read(file)?;
        text.parse().with_context(|| format!("{file}: {text:?}"))
    }

    fn read(&self, file: &str) -> Result<String> {
        let text = self.folders.iter().find_map(|it| fs::read_to_string(it.join(file)).ok());
        Ok(text.with_context(|| format!("{file} is in none of {:?}", self.folders))?.trim().into())
    }
}

/// Finds the cgroup below `folder` whose name contains that id, because systemd's names contain more.
fn find(folder: &Path, id: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    let is_it = |path: &&PathBuf| path.to_string_lossy().contains(id);
    if let Some(found) = folders.iter().find(is_it) {
        return Some(found.clone());
    }
    folders.drain(..).find_map(|folder| find(&folder, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of a container with `cpu: 200m` and `memory: 64Mi` on a kernel with cgroup v2.
    const VERSION_2: [(&str, &str); 5] = [
        ("cpu.max", "20000 100000\n"),
        ("memory.max", "67108864\n"),
        ("pids.max", "1000\n"),
        ("pids.current", "3\n"),
        (
            "cpu.stat",
            "usage_usec 412\nuser_usec 400\nsystem_usec 12\nnr_periods 9\nnr_throttled 7\n",
        ),
    ];

    #[test]
    fn version_2_is_read() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let cgroup = folder.path().join("kubepods.slice/cri-containerd-0123.scope");
        fs::create_dir_all(&cgroup)?;
        for (file, text) in VERSION_2 {
            fs::write(cgroup.join(file), text)?;
        }
        let limits = Limits { folders: vec![find(folder.path(), "0123").context("not found")?] };
        assert_eq!(limits.cpu()?, (20_000, 100_000));
        assert_eq!(limits.memory()?, 64 << 20);
        assert_eq!((limits.pids_now()?, limits.pids()?), (3, 1000));
        assert_eq!(limits.throttling()?, Throttling { periods: 9, throttled: 7, used: 412 });
        Ok(())
    }
}
