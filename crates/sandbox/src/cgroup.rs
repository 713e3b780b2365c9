//! A container's cgroup, v1, v2 or systemd's, through libcgroups.

use std::path::{Component, Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use libcgroups::common::{
    AnyCgroupManager, CgroupConfig, CgroupManager, CgroupSetup, create_cgroup_manager,
    get_cgroup_setup,
};
pub use libcgroups::stats::Stats;
use libcontainer::utils::get_cgroup_path;
use nix::unistd::Pid;

use crate::{Error, pidfd};

/// How often, and after which pause, a killed cgroup is looked at again: 2 s in all. A process in an
/// uninterruptible wait outlives that; the cgroup then stays and is named in the error.
const EMPTY_TRIES: u32 = 200;
const EMPTY_PAUSE: Duration = Duration::from_millis(10);

/// Whether the host has the unified hierarchy (v2) alone.
pub fn is_unified() -> Result<bool, Error> {
    get_cgroup_setup()
        .map(|setup| matches!(setup, CgroupSetup::Unified))
        .map_err(|error| refuse(Path::new("/"), &chain(&error)))
}

/// Whether a `cgroupsPath` has the form that only systemd understands: `<name>.slice:<prefix>:<name>`, as CRI
/// writes it where kubelet's cgroup driver is systemd.
pub fn is_for_systemd(cgroups_path: &Path) -> bool {
    let parts: Vec<_> = cgroups_path.to_str().unwrap_or_default().split(':').collect();
    matches!(parts[..], [slice, _, name] if slice.ends_with(".slice") && !name.is_empty())
}

/// The cgroup of one container.
pub struct Cgroup {
    config: CgroupConfig,
}

impl Cgroup {
    /// The cgroup that `cgroupsPath` of the OCI spec names (OCI runtime spec, "Control groups"): a path, or
    /// `slice:prefix:name` when systemd manages it.
    ///
    /// # Errors
    /// [`Error::Cgroup`] when the path is a hierarchy's root, whose processes are not the container's.
    pub fn new(cgroups_path: &Option<PathBuf>, id: &str, systemd: bool) -> Result<Cgroup, Error> {
        let path = get_cgroup_path(cgroups_path, id);
        let normal = path.components().filter(|part| matches!(part, Component::Normal(_))).count();
        let climbs = path.components().any(|part| matches!(part, Component::ParentDir));
        if normal == 0 || climbs {
            return Err(refuse(
                &path,
                "not a cgroup a container may own: give it a name below the root",
            ));
        }
        let config = CgroupConfig {
            cgroup_path: path,
            systemd_cgroup: systemd,
            container_name: id.to_owned(),
        };
        Ok(Cgroup { config })
    }

    /// Every process in the cgroup and those below it, in this process's pid namespace.
    pub fn pids(&self) -> Result<Vec<Pid>, Error> {
        let pids = self.manager()?.get_all_pids().map_err(|error| self.failed(error))?;
        // libcgroups has its own version of nix.
        Ok(pids.into_iter().map(|pid| Pid::from_raw(pid.as_raw())).collect())
    }

    /// What the kernel counted for the cgroup.
    pub fn stats(&self) -> Result<Stats, Error> {
        self.manager()?.stats().map_err(|error| self.failed(error))
    }

    /// Sends a signal to every process in the cgroup.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        self.pids()?.into_iter().try_for_each(|pid| pidfd::signal(pid, signal))
    }

    /// Kills every process in the cgroup, and returns once it is empty. A missing cgroup is empty.
    pub fn kill(&self) -> Result<(), Error> {
        for _ in 0..EMPTY_TRIES {
            match self.pids() {
                Ok(pids) if !pids.is_empty() => self.signal(libc::SIGKILL)?,
                _ => return Ok(()),
            }
            sleep(EMPTY_PAUSE);
        }
        Err(refuse(&self.config.cgroup_path, "processes in it do not end"))
    }

    /// Removes the cgroup; one that is gone is removed.
    pub fn remove(&self) -> Result<(), Error> {
        self.manager()?.remove().map_err(|error| self.failed(error))
    }

    fn manager(&self) -> Result<AnyCgroupManager, Error> {
        create_cgroup_manager(self.config.clone()).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: impl std::error::Error) -> Error {
        refuse(&self.config.cgroup_path, &chain(&error))
    }
}

fn refuse(path: &Path, reason: &str) -> Error {
    Error::Cgroup { path: path.display().to_string(), reason: reason.to_owned() }
}

/// An error with its sources, `a: b: c`, without what a message already repeats of the next.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemds_paths_are_told_from_file_paths() {
        assert!(is_for_systemd(Path::new("kubepods-besteffort-pod1.slice:cri-containerd:c1")));
        for path in ["/kubepods/pod1/c1", "/a.slice/c1", "a.slice:cri:", "/ctr:run:c1", ""] {
            assert!(!is_for_systemd(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn the_root_of_a_hierarchy_is_no_containers_cgroup() {
        for path in ["/", "", "/../x", "."] {
            let error = Cgroup::new(&Some(PathBuf::from(path)), "c1", false).map(drop);
            assert!(path.is_empty() || error.is_err(), "{path} was accepted");
        }
        assert!(Cgroup::new(&Some("/kubepods/pod1/c1".into()), "c1", false).is_ok());
        assert!(Cgroup::new(&Some("kubepods.slice:cri:c1".into()), "c1", true).is_ok());
    }
}
