//! Ends a node: removes its Pods, ends containerd, and then checks that nothing is left.

use std::fs;
use std::time::Duration;

use anyhow::{Result, bail};
use nix::sys::signal::Signal;

use crate::Node;
use crate::wait;

/// Time limit for the last parts of a Pod to disappear. containerd collects garbage in the background.
const DISAPPEARS: Duration = Duration::from_secs(10);

impl Node {
    /// Removes all Pods, ends containerd, and fails with the name of everything that is left.
    pub fn stop(mut self) -> Result<()> {
        self.remove_pods()?;
        let mut left = self.settle(|node| {
            let mut left = node.traces.find(node.daemon_pid());
            left.extend(node.records()?);
            Ok(left)
        })?;
        self.end_containerd(Signal::SIGTERM)?;
        left.extend(self.settle(|node| Ok(node.traces.find(None)))?);
        let ports = self.bridge.take().map(|bridge| bridge.ports()).unwrap_or_default();
        left.extend(ports.into_iter().map(|port| format!("network interface {port}")));
        if !left.is_empty() {
            left.sort();
            left.dedup();
            bail!("left behind:\n  {}", left.join("\n  "));
        }
        if let Some(disk) = self.disk.take() {
            disk.unmount()?;
        }
        fs::remove_dir_all(&self.folder)?;
        Ok(())
    }

    /// Stops and removes all Pods, as kubelet does with unwanted ones.
    pub fn remove_pods(&self) -> Result<()> {
        for pod in self.cri.pods()? {
            self.cri.stop_pod(&pod)?;
            self.cri.remove_pod(&pod)?;
        }
        Ok(())
    }

    /// Returns what is left after it has had time to disappear.
    fn settle(&self, find: impl Fn(&Self) -> Result<Vec<String>>) -> Result<Vec<String>> {
        let gone = || Ok(find(self)?.is_empty().then_some(()));
        match wait::until(DISAPPEARS, "nothing to be left", gone) {
            Ok(()) => Ok(Vec::new()),
            Err(_) => find(self),
        }
    }

    /// Returns the records of containers that containerd still keeps.
    fn records(&self) -> Result<Vec<String>> {
        let mut left = Vec::new();
        for namespace in self.ctr.lines("default", "namespaces list --quiet")? {
            for what in ["containers list --quiet", "leases list --quiet", "tasks list --quiet"] {
                let lines = self.ctr.lines(&namespace, what)?;
                left.extend(lines.iter().map(|line| format!("{what} in {namespace}: {line}")));
            }
            let snapshots = self.ctr.lines(&namespace, "snapshots list")?;
            let active = snapshots.iter().filter(|line| line.ends_with("Active"));
            left.extend(active.map(|line| format!("snapshot in {namespace}: {line}")));
        }
        left.extend(self.bundles_left());
        Ok(left)
    }

    /// Returns the directories that containerd has made for shims and not removed.
    fn bundles_left(&self) -> Vec<String> {
        let namespaces = fs::read_dir(self.bundles());
        let namespaces = namespaces.into_iter().flatten().flatten();
        let bundles = namespaces.flat_map(|folder| fs::read_dir(folder.path())).flatten().flatten();
        bundles.map(|bundle| format!("bundle {}", bundle.path().display())).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.folder.exists() {
            let complaints = self.complaints();
            if !complaints.is_empty() {
                eprintln!("containerd {} complained:\n{complaints}", self.containerd.version);
            }
            let _ = self.end_containerd(Signal::SIGKILL);
            self.traces.wipe();
        }
    }
}
