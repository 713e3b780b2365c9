//! Finds by name what a node has left on the machine, and removes it after a failure.
//!
//! Everything that a node makes can be distinguished from what other nodes make. Its directory, bridge and cgroups
//! contain the node's name, and sockets and files of shims contain the ids of Pods and containers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};

use crate::cgroups;
use crate::command;
use crate::config;
use crate::node::KUBERNETES;
use crate::processes::{self, Process};
use crate::wait;

/// Marks by which everything that a node has made is recognised.
#[derive(Debug, Clone)]
pub struct Traces {
    node: String,
    folder: PathBuf,
    names: Arc<Mutex<BTreeSet<String>>>,
}

/// Directories in which shims and runtimes keep sockets and state, and the depth of the search there.
const RUNTIME_FOLDERS: [(&str, usize); 4] =
    [("/run", 4), ("/dev/shm", 2), ("/var/lib/cni", 3), ("/tmp", 1)];

/// Directory in which a kubelet links to the logs of its containers. It removes old links at its next round.
const LOG_LINKS: &str = "/var/log/containers";

/// Texts in containerd's log before the id of a Pod or container that CRI has made.
const MADE: [&str; 2] = ["returns sandbox id \\\"", "returns container id \\\""];

/// Directory of the cgroup hierarchies.
const CGROUPS: &str = "/sys/fs/cgroup";

impl Traces {
    /// Makes the traces of the node of that name, which keeps its files in `folder`.
    pub fn new(node: &str, folder: &Path) -> Self {
        Self { node: node.to_owned(), folder: folder.to_owned(), names: Arc::default() }
    }

    /// Adds a Pod or container to what is looked for.
    pub fn watch(&self, namespace: &str, id: &str) {
        // The shims of containerd name their sockets by this hash.
        let address = config::socket(&self.folder).join(namespace).join(id);
        let hash = Sha256::digest(address.display().to_string());
        let hash = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        if let Ok(mut names) = self.names.lock() {
            names.extend([id.to_owned(), hash]);
        }
    }

    /// Adds all Pods and containers in containerd's log, for those that another client than the harness has made. If
    /// the parent of a cgroup is not the node's, nothing else shows to which node the cgroup belongs.
    pub fn watch_logged(&self) {
        let log = fs::read_to_string(config::log(&self.folder)).unwrap_or_default();
        let ids = log.lines().filter_map(|line| {
            let (_, rest) = MADE.iter().find_map(|made| line.split_once(made))?;
            Some(rest.split(['\\', '"']).next()?.to_owned())
        });
        ids.for_each(|id| self.watch(KUBERNETES, &id));
    }

    /// Returns a description of everything that exists. `daemon` is the node's running containerd.
    pub fn find(&self, daemon: Option<i32>) -> Vec<String> {
        self.remove_empty_cgroup();
        self.remove_log_links();
        let processes = self.processes(daemon);
        let processes = processes.iter().map(|p| format!("process {}: {}", p.pid, p.command));
        // A disk of the node's own is not left by a Pod.
        let mounts = self.mounts().into_iter().filter(|path| Path::new(path) != self.folder);
        let mounts = mounts.map(|path| format!("mount {path}"));
        let cgroups = self.cgroups().into_iter().map(|path| format!("cgroup {}", path.display()));
        let files = self.files().into_iter().map(|path| format!("file {}", path.display()));
        processes.chain(mounts).chain(cgroups).chain(files).collect()
    }

    /// Whether the node still has its files.
    pub fn is_there(&self) -> bool {
        self.folder.exists()
    }

    /// Ends and removes everything, as far as possible.
    pub fn wipe(&self) {
        self.watch_logged();
        let _ = self.wipe_running();
        let _ = command::run("ip", ["link", "delete", &self.node]);
        self.remove_log_links();
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// Ends all processes, and removes everything outside of the node's directory but its bridge. A disk of its own is
    /// unmounted. Fails if a process or a mount stays.
    pub fn wipe_running(&self) -> Result<()> {
        let ended = wait::until(Duration::from_secs(10), "processes to end", || {
            Ok((self.end_processes() == 0).then_some(()))
        });
        for mount in self.mounts().iter().rev() {
            let _ = umount2(mount.as_str(), MntFlags::MNT_DETACH);
        }
        for cgroup in self.cgroups().iter().rev() {
            let _ = fs::remove_dir(cgroup);
        }
        for file in self.files() {
            let _ = fs::remove_file(&file).or_else(|_| fs::remove_dir_all(&file));
        }
        let left = self.mounts();
        ensure!(left.is_empty(), "cannot unmount {left:?}");
        ended
    }

    /// Kills the processes that there are, and returns their number. What the shims among them serve is looked for from
    /// then on.
    pub fn end_processes(&self) -> usize {
        let left = self.processes(None);
        for process in &left {
            if let Some((namespace, id)) = served(&process.command) {
                self.watch(namespace, id);
            }
            let _ = process.kill(Signal::SIGKILL);
        }
        left.len()
    }

    /// Returns the node's name, and the names of what it is known to have made.
    fn names(&self) -> Vec<String> {
        let names = self.names.lock().map(|names| names.clone()).unwrap_or_default();
        names.into_iter().chain([self.node.clone()]).collect()
    }

    fn processes(&self, daemon: Option<i32>) -> Vec<Process> {
        let names = self.names();
        let mut left = processes::all();
        left.retain(|process| {
            let is_in = |cgroup: String| names.iter().any(|name| cgroup.contains(name));
            let is_ours = || process.mentions(&self.node) || process.cgroups().is_some_and(is_in);
            Some(process.pid) != daemon && is_ours()
        });
        left
    }

    fn mounts(&self) -> Vec<String> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = table.lines().filter_map(|line| line.split(' ').nth(4));
        points.filter(|point| point.contains(&self.node)).map(str::to_owned).collect()
    }

    /// Returns the cgroups whose path contains the node's name, or that of something it has made, parents first.
    fn cgroups(&self) -> Vec<PathBuf> {
        let names = self.names();
        let mut found = Vec::new();
        walk(Path::new(CGROUPS), 16, &mut |path| {
            let text = path.to_string_lossy();
            if names.iter().any(|name| text.contains(name)) && path.is_dir() {
                found.push(path.to_owned());
            }
        });
        found
    }

    /// Removes the parent of the Pods' cgroups, which belongs to the node as it would belong to kubelet. If it is not
    /// empty, it stays and is found.
    fn remove_empty_cgroup(&self) {
        let hierarchies = fs::read_dir(CGROUPS).into_iter().flatten().flatten();
        for hierarchy in hierarchies.map(|entry| entry.path()).chain([CGROUPS.into()]) {
            let _ = fs::remove_dir(hierarchy.join(&self.node));
        }
        let slice = format!("{}.slice", self.node);
        let folder = Path::new(CGROUPS).join(cgroups::slice_above(&self.node)).join(&slice);
        let is_empty = fs::read_dir(&folder).is_ok_and(|entries| {
            !entries.flatten().any(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        });
        if is_empty {
            // systemd keeps the directory of a slice until the slice is stopped.
            let _ = command::run("systemctl", ["stop", &slice]);
            let _ = fs::remove_dir(folder);
        }
    }

    /// Removes links to logs in the node's directory, which a kubelet that has ended leaves.
    fn remove_log_links(&self) {
        for link in fs::read_dir(LOG_LINKS).into_iter().flatten().flatten() {
            if fs::read_link(link.path()).is_ok_and(|target| target.starts_with(&self.folder)) {
                let _ = fs::remove_file(link.path());
            }
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let names = self.names();
        let mut found = Vec::new();
        for (folder, depth) in RUNTIME_FOLDERS {
            walk(Path::new(folder), depth, &mut |path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if names.iter().any(|made| name.contains(made)) && path != self.folder {
                    found.push(path.to_owned());
                }
            });
        }
        found
    }
}

/// Returns the namespace and the id in the command line of a shim.
fn served(command: &str) -> Option<(&str, &str)> {
    let (program, flags) = command.split_once(' ')?;
    let is_shim = Path::new(program).file_name()?.to_str()?.starts_with("containerd-shim-");
    let words: Vec<_> = flags.split(' ').collect();
    let after = |flag| words.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1]);
    is_shim.then_some((after("-namespace")?, after("-id").filter(|id| !id.is_empty())?))
}

/// Visits everything below `folder`, parents first, without following links.
fn walk(folder: &Path, depth: usize, visit: &mut dyn FnMut(&Path)) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        visit(&entry.path());
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), depth - 1, visit);
        }
    }
}
