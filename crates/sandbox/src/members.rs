//! Which processes are a container's own.
//!
//! A cgroup does not tell: `cgroupsPath` may name one that several containers share (`ctr run --cgroup /s`), or that those
//! of others are below (`/default` of a plain `ctr oci spec`). A pid namespace that was made for the container does: it has
//! nobody else's processes, and ends with its first one. Where processes are seen in a namespace of others, a container's
//! own are those with its mounts; only a cgroup that is named after the container is taken to be its own as a whole.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread::sleep;

use nix::unistd::Pid;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::cgroup::{Cgroup, EMPTY_PAUSE, EMPTY_TRIES};
use crate::pidfd::{self, PidFd, started};

/// How to recognise the processes of one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// The number of its first process, in the pid namespace of this runtime.
    first: i32,
    /// When that one was started, in ticks since boot: another one of that number was started later.
    started: u64,
    /// The pid namespace that was made for the container (namespaces(7)).
    pids: Option<u64>,
    /// The mount namespace that was made for the container.
    mounts: Option<u64>,
}

impl Members {
    /// Those of the container of that spec whose first process this is. None where that one has ended.
    pub fn of(first: Pid, spec: &Spec) -> Option<Members> {
        let own = |kind: LinuxNamespaceType, name: &str| match is_made(spec, kind) {
            true => namespace(first, name).map(Some),
            false => Some(None),
        };
        let pids = own(LinuxNamespaceType::Pid, "pid")?;
        let mounts = own(LinuxNamespaceType::Mount, "mnt")?;
        Some(Members { first: first.as_raw(), started: started(first)?, pids, mounts })
    }

    /// Sends a signal to those that are in the cgroup. SIGKILL reaches the frozen, too.
    pub fn signal(&self, cgroup: &Cgroup, signal: i32) -> Result<(), Error> {
        for pid in self.inside(cgroup)? {
            pidfd::signal(pid, signal)?;
        }
        if signal == libc::SIGKILL {
            cgroup.thaw_for_kill();
        }
        Ok(())
    }

    /// Kills all, and returns once they have ended.
    pub fn kill(&self, cgroup: &Cgroup) -> Result<(), Error> {
        if self.pids.is_none() && cgroup.is_named_after_container() {
            return cgroup.kill();
        }
        for _ in 0..EMPTY_TRIES {
            let first_ended = self.kill_first()?;
            // Nothing of a pid namespace outlives its first process.
            let has_ended = first_ended && (self.pids.is_some() || self.inside(cgroup)?.is_empty());
            if has_ended {
                return Ok(());
            }
            if self.pids.is_none() {
                self.signal(cgroup, libc::SIGKILL)?;
            }
            cgroup.thaw_for_kill();
            sleep(EMPTY_PAUSE);
        }
        Err(cgroup.refuse("the container's processes do not end"))
    }

    /// Kills the first process; true where it has ended.
    fn kill_first(&self) -> Result<bool, Error> {
        let pid = Pid::from_raw(self.first);
        // By descriptor, and only then looked at: the number may be another's the next moment.
        let process = match PidFd::open(pid) {
            Err(Error::System { source: nix::Error::ESRCH | nix::Error::EINVAL, .. }) => {
                return Ok(true);
            }
            opened => opened?,
        };
        if started(pid) != Some(self.started) || process.has_ended() {
            return Ok(true);
        }
        Ok(!process.signal(libc::SIGKILL)?)
    }

    fn inside(&self, cgroup: &Cgroup) -> Result<Vec<Pid>, Error> {
        let whole = self.pids.is_none() && cgroup.is_named_after_container();
        let mut pids = cgroup.pids()?;
        pids.retain(|pid| whole || self.include(*pid));
        Ok(pids)
    }

    fn is_first(&self, pid: Pid) -> bool {
        pid.as_raw() == self.first && started(pid) == Some(self.started)
    }

    fn include(&self, pid: Pid) -> bool {
        match (self.pids, self.mounts) {
            (Some(pids), _) => namespace(pid, "pid") == Some(pids),
            (None, Some(mounts)) => namespace(pid, "mnt") == Some(mounts),
            (None, None) => self.is_first(pid),
        }
    }
}

/// Whether the spec has a namespace of that kind made, in place of joining one or doing without.
pub fn is_made(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
    let mut namespaces = namespaces.unwrap_or_default().iter();
    namespaces.any(|namespace| namespace.typ() == kind && namespace.path().is_none())
}

/// The number of a namespace of a process (namespaces(7)).
fn namespace(pid: Pid, name: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/{name}")).ok().map(|namespace| namespace.ino())
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Child, Command};

    use super::*;

    /// Unless it has ended before, it is ended with the test.
    struct Sleeping(Child);

    impl Drop for Sleeping {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn sleeping() -> Sleeping {
        Sleeping(Command::new("sleep").arg("1000").spawn().expect("is executed"))
    }

    fn pid(process: &Sleeping) -> Pid {
        Pid::from_raw(process.0.id() as i32)
    }

    fn cgroup_of(path: &str, processes: &[&Sleeping]) -> (tempfile::TempDir, Cgroup) {
        let host = tempfile::tempdir().expect("temporary directory");
        let directory = host.path().join("pids").join(path);
        fs::create_dir_all(&directory).expect("a cgroup");
        let pids: String = processes.iter().map(|it| format!("{}\n", it.0.id())).collect();
        fs::write(directory.join("cgroup.procs"), pids).expect("its processes");
        let cgroup = Cgroup::in_hierarchies(host.path(), Some(Path::new(path)), "c1", false);
        (host, cgroup.expect("a cgroup"))
    }

    fn spec(kinds: &[&str]) -> Spec {
        let kinds: Vec<_> = kinds.iter().map(|kind| serde_json::json!({ "type": kind })).collect();
        let json = serde_json::json!({ "ociVersion": "1.0.2", "linux": { "namespaces": kinds } });
        serde_json::from_value(json).expect("a spec")
    }

    #[test]
    fn of_a_cgroup_with_others_only_its_own_are_killed() {
        let (mut own, mut other) = (sleeping(), sleeping());
        let (_host, cgroup) = cgroup_of("/shared", &[&own, &other]);
        let members = Members::of(pid(&own), &spec(&[])).expect("is there");
        members.kill(&cgroup).expect("has ended");
        assert!(own.0.wait().expect("ended").code().is_none());
        assert!(other.0.try_wait().expect("asked").is_none(), "another's process was killed");
    }

    #[test]
    fn a_number_that_is_anothers_by_now_is_left_alone() {
        let mut other = sleeping();
        let (_host, cgroup) = cgroup_of("/shared", &[&other]);
        let mut members = Members::of(pid(&other), &spec(&["pid"])).expect("is there");
        members.started -= 1;
        members.pids = Some(1);
        members.kill(&cgroup).expect("has ended long ago");
        members.signal(&cgroup, libc::SIGKILL).expect("there is nobody");
        assert!(other.0.try_wait().expect("asked").is_none(), "another's process was killed");
    }

    #[test]
    fn only_a_namespace_that_is_made_is_the_containers_own() {
        let made = |json| {
            let spec: Spec = serde_json::from_value(json).expect("a spec");
            is_made(&spec, LinuxNamespaceType::Pid)
        };
        let with = |namespaces| {
            made(
                serde_json::json!({ "ociVersion": "1.0.2", "linux": { "namespaces": namespaces } }),
            )
        };
        assert!(with(serde_json::json!([{ "type": "pid" }])));
        assert!(!with(serde_json::json!([{ "type": "pid", "path": "/proc/1/ns/pid" }])));
        assert!(!with(serde_json::json!([{ "type": "mount" }])));
    }
}
