//! Creates a cgroup, sets its limits and moves a process into it.
//!
//! On v1 a container has a directory in the hierarchy of each controller below. On v2 there is one hierarchy. The controllers
//! are enabled in the cgroups above the container's, but not in its own, because it could not have processes then (kernel,
//! cgroup-v2.rst, "No Internal Process Constraint").

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

use super::{Cgroup, below};
use crate::Error;

/// Controllers of v1 in whose hierarchies a container has a cgroup. The others are systemd's own, or have no limits that this
/// runtime sets.
const CONTROLLERS: [&str; 12] = [
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
];

/// Files of v1 that must not be empty when a process enters the cgroup (kernel, cgroup-v1/cpusets.rst).
const CPUSET: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];

/// Files of v2 with the controllers of a cgroup, and of the cgroups below it.
const AVAILABLE: &str = "cgroup.controllers";
const ENABLED: &str = "cgroup.subtree_control";

/// File by which processes enter a cgroup.
const PROCESSES: &str = "cgroup.procs";

impl Cgroup {
    /// Creates missing directories of the cgroup, and marks them as made by this runtime.
    pub(crate) fn make(&self) -> Result<(), Error> {
        for hierarchy in self.hierarchies_of_containers()? {
            let leaf = below(&hierarchy, &self.path);
            if leaf.is_dir() {
                continue;
            }
            self.make_path(&hierarchy).map_err(|error| self.cannot("create", &leaf, &error))?;
            self.mark_one(&leaf);
        }
        Ok(())
    }

    /// Sets the limits of a new container (OCI runtime spec, "Control groups").
    ///
    /// # Errors
    /// [`Error::Limit`] if the kernel refuses a limit, or does not have it.
    pub(crate) fn limit(&self, resources: &LinuxResources) -> Result<(), Error> {
        self.limit_devices(resources.devices().as_deref().unwrap_or_default())?;
        self.set_limits(resources)?;
        if let Some(io) = resources.block_io() {
            self.limit_io(io)?;
        }
        match resources.network() {
            Some(network) if !self.is_v2() => self.limit_network(network),
            _ => Ok(()),
        }
    }

    /// Moves a process into the cgroup.
    pub(crate) fn add(&self, pid: Pid) -> Result<(), Error> {
        for hierarchy in self.hierarchies_of_containers()? {
            let file = below(&hierarchy, &self.path).join(PROCESSES);
            fs::write(&file, pid.to_string())
                .map_err(|error| self.cannot(&format!("move process {pid} to"), &file, &error))?;
        }
        Ok(())
    }

    /// Directory of the cgroup, for clone3(2) (`CLONE_INTO_CGROUP`). `None` on v1, which has several directories, and for a scope,
    /// which systemd makes for an existing process.
    pub(crate) fn directory(&self) -> Option<OwnedFd> {
        if !self.is_v2() || self.by_systemd() {
            return None;
        }
        File::open(below(&self.hierarchies, &self.path)).ok().map(OwnedFd::from)
    }

    fn hierarchies_of_containers(&self) -> Result<Vec<PathBuf>, Error> {
        if self.is_v2() {
            return Ok(vec![self.hierarchies.clone()]);
        }
        let mut hierarchies = self.children(&self.hierarchies)?;
        hierarchies.retain(|hierarchy| {
            let name = hierarchy.file_name().unwrap_or_default().to_string_lossy();
            name.split(',').any(|controller| CONTROLLERS.contains(&controller))
        });
        Ok(hierarchies)
    }

    /// Enables the available controllers in the cgroups above this one, on v2.
    pub(super) fn enable_above(&self) {
        let mut above: Vec<_> = self.path.ancestors().skip(1).collect();
        above.reverse();
        above.into_iter().for_each(|path| enable_controllers(&below(&self.hierarchies, path)));
    }

    fn make_path(&self, hierarchy: &Path) -> io::Result<()> {
        let mut directory = hierarchy.to_owned();
        for part in self.path.strip_prefix("/").unwrap_or(&self.path) {
            if self.is_v2() {
                enable_controllers(&directory);
            }
            let above = directory.clone();
            directory.push(part);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            if above.join(CPUSET[0]).exists() && !self.is_v2() {
                inherit_cpuset(&above, &directory)?;
            }
        }
        Ok(())
    }

    fn cannot(&self, action: &str, path: &Path, error: &io::Error) -> Error {
        self.refuse(&format!("cannot {action} {:?}: {error}", path.display().to_string()))
    }
}

/// Enables the available controllers for the cgroups below. If the kernel refuses one, setting a limit of it fails later.
fn enable_controllers(directory: &Path) {
    let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap_or_default();
    let (available, enabled) = (read(AVAILABLE), read(ENABLED));
    let enabled: Vec<&str> = enabled.split_whitespace().collect();
    for controller in available.split_whitespace().filter(|it| !enabled.contains(it)) {
        // Each needs its own write, because the kernel accepts all controllers of a write or none.
        let _ = fs::write(directory.join(ENABLED), format!("+{controller}"));
    }
}

fn inherit_cpuset(above: &Path, directory: &Path) -> io::Result<()> {
    for file in CPUSET {
        let own = fs::read_to_string(directory.join(file)).unwrap_or_default();
        if own.trim().is_empty() {
            fs::write(directory.join(file), fs::read_to_string(above.join(file))?.trim())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn read(path: PathBuf) -> String {
        fs::read_to_string(path).expect("read")
    }

    fn cgroup(host: &Path) -> Cgroup {
        Cgroup::in_hierarchies(host, Some(Path::new("/pods/c1")), "c1", false).expect("a cgroup")
    }

    #[test]
    fn on_v1_it_is_in_the_hierarchies_of_limits_alone_and_has_the_processors_of_those_above() {
        let host = tempfile::tempdir().expect("temporary directory");
        for hierarchy in ["cpu,cpuacct", "memory", "systemd", "unified", "rdma"] {
            fs::create_dir(host.path().join(hierarchy)).expect("a hierarchy");
        }
        write(&host.path().join("cpuset/cpuset.cpus"), "0-3\n");
        write(&host.path().join("cpuset/cpuset.mems"), "0\n");
        let cgroup = cgroup(host.path());
        cgroup.make().expect("made");
        for (hierarchy, is_there) in [
            ("cpu,cpuacct", true),
            ("memory", true),
            ("cpuset", true),
            ("systemd", false),
            ("unified", false),
            ("rdma", false),
        ] {
            let directory = host.path().join(hierarchy).join("pods/c1");
            assert_eq!(directory.is_dir(), is_there, "{hierarchy}");
        }
        assert_eq!(read(host.path().join("cpuset/pods/c1/cpuset.cpus")), "0-3");
        cgroup.add(Pid::from_raw(11)).expect("added");
        assert_eq!(read(host.path().join("memory/pods/c1/cgroup.procs")), "11");
    }

    #[test]
    fn on_v2_controllers_are_enabled_above_it_and_not_in_it() {
        let host = tempfile::tempdir().expect("temporary directory");
        write(&host.path().join(AVAILABLE), "cpu memory\n");
        write(&host.path().join(ENABLED), "memory\n");
        write(&host.path().join("pods").join(AVAILABLE), "memory\n");
        let cgroup = cgroup(host.path());
        cgroup.make().expect("made");
        assert_eq!(read(host.path().join(ENABLED)), "+cpu");
        assert_eq!(read(host.path().join("pods").join(ENABLED)), "+memory");
        assert!(!host.path().join("pods/c1").join(ENABLED).exists());
        assert!(cgroup.directory().is_some());
    }

    #[test]
    fn a_scope_has_the_controllers_that_systemd_does_not_know_as_well() {
        let host = tempfile::tempdir().expect("temporary directory");
        let slices = ["", "kubepods.slice", "kubepods.slice/kubepods-pod1.slice"];
        for slice in slices {
            write(&host.path().join(slice).join(AVAILABLE), "memory hugetlb\n");
            write(&host.path().join(slice).join(ENABLED), "memory\n");
        }
        let path = Path::new("kubepods-pod1.slice:cri-containerd:c1");
        let scope = Cgroup::in_hierarchies(host.path(), Some(path), "c1", true).expect("a scope");
        scope.enable_above();
        for slice in slices {
            assert_eq!(read(host.path().join(slice).join(ENABLED)), "+hugetlb", "{slice:?}");
        }
    }

    #[test]
    fn a_cgroup_that_cannot_be_made_is_named() {
        let host = tempfile::tempdir().expect("temporary directory");
        write(&host.path().join("memory/pods"), "a file");
        let error = cgroup(host.path()).make().expect_err("is refused").to_string();
        assert!(error.contains("memory/pods/c1") && error.contains("Not a directory"), "{error}");
    }
}
