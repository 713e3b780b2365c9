//! Membership: which processes belong to a container.
//!
//! The cgroup is not enough, because `cgroupsPath` may name a cgroup that several containers share (`ctr run --cgroup /s`), or
//! one that has other containers' cgroups below it (`/default` of a plain `ctr oci spec`). A pid namespace that was made for
//! the container has no other processes and ends with its first one. Without one, the container's processes are those in
//! its mount namespace, or all processes in the cgroup if the cgroup is named after the container.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::Pid;
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use serde::{Deserialize, Serialize};

use crate::cgroup::{Cgroup, EMPTY};
use crate::pidfd::{self, PidFd, Ticks, started};
use crate::{Error, wait};

/// Identity of one container's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Members {
    /// Pid of its first process, in the pid namespace of this runtime.
    first: i32,
    /// Start time of the first process in ticks since boot. A process that reuses the pid has a later one.
    started: u64,
    /// Inode of the pid namespace that was made for the container (namespaces(7)).
    pids: Option<u64>,
    /// Inode of the mount namespace that was made for the container.
    mounts: Option<u64>,
}

impl Members {
    /// Members of the container with that spec and first process. `None` if the process has ended.
    pub fn of(first: Pid, spec: &Spec) -> Option<Members> {
        let own = |kind: LinuxNamespaceType, name: &str| match is_made(spec, kind) {
            true => namespace(first, name).map(Some),
            false => Some(None),
        };
        let pids = own(LinuxNamespaceType::Pid, "pid")?;
        let mounts = own(LinuxNamespaceType::Mount, "mnt")?;
        Some(Members { first: first.as_raw(), started: started(first)?, pids, mounts })
    }

    /// Sends a signal to the members in the cgroup. SIGKILL also reaches frozen processes.
    pub fn signal(&self, cgroup: &Cgroup, signal: i32) -> Result<(), Error> {
        for pid in self.inside(cgroup)? {
            pidfd::signal(pid, signal)?;
        }
        if signal == libc::SIGKILL {
            cgroup.thaw_for_kill();
        }
        Ok(())
    }

    /// Kills all members and returns when they have ended.
    pub fn kill(&self, cgroup: &Cgroup) -> Result<(), Error> {
        if self.pids.is_none() && cgroup.is_named_after_container() {
            return cgroup.kill();
        }
        let ended = wait::try_until(EMPTY, || {
            let first_ended = self.kill_first()?;
            // No process of a pid namespace outlives its first one.
            let has_ended = first_ended && (self.pids.is_some() || self.inside(cgroup)?.is_empty());
            if has_ended {
                return Ok(Some(()));
            }
            if self.pids.is_none() {
                self.signal(cgroup, libc::SIGKILL)?;
            }
            cgroup.thaw_for_kill();
            Ok(None)
        })?;
        ended.ok_or_else(|| cgroup.refuse("the container's processes do not end"))
    }

    /// Kills the processes that a killed call of the OCI runtime left in the container: children of this process that were
    /// made since `then`, that lead a session, as every exec process does, and that `is_known` does not claim. To be called
    /// when no exec process is being made.
    ///
    /// If the container has its own pid namespace there are no other such processes, because its orphans stay in it. Without
    /// one its daemons become children of this process as well, so that only processes with the `args` of the call are killed.
    pub fn kill_strays(
        &self,
        then: Ticks,
        args: &[String],
        is_known: impl Fn(Pid) -> bool,
    ) -> Result<(), Error> {
        let is_somewhere = self.pids.is_some() || self.mounts.is_some();
        let is_new = |pid| started(pid).is_some_and(|started| started >= then.0);
        let mut strays = pidfd::children();
        strays.retain(|pid| is_somewhere && !is_known(*pid) && self.include(*pid));
        strays.retain(|pid| is_new(*pid) && pidfd::heads_a_session(*pid));
        strays.retain(|pid| self.pids.is_some() || executes(*pid, args));
        // A child keeps its pid until it is reaped.
        strays.into_iter().try_for_each(|pid| pidfd::signal(pid, libc::SIGKILL))
    }

    /// Kills the first process. Returns true if it has ended.
    fn kill_first(&self) -> Result<bool, Error> {
        let pid = Pid::from_raw(self.first);
        // The process must be opened first and checked afterwards, because the pid may be reused at any moment.
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

/// Whether the spec asks for a new namespace of that kind.
pub fn is_made(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    let namespaces = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_deref());
    let mut namespaces = namespaces.unwrap_or_default().iter();
    namespaces.any(|namespace| namespace.typ() == kind && namespace.path().is_none())
}

/// Whether a process executes a program with those args, or a script: the kernel executes it with the args of its interpreter
/// before its own (execve(2)).
fn executes(pid: Pid, args: &[String]) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    // Each word ends with a zero byte.
    let words = &words[..words.len() - 1];
    let Some((program, rest)) = args.split_first() else { return false };
    let Some(at) = words.len().checked_sub(args.len()) else { return false };
    let name = |path: &str| Path::new(path).file_name().map(|name| name.to_owned());
    name(&words[at]) == name(program)
        && words[at + 1..].iter().zip(rest).all(|(word, arg)| word == arg)
}

/// Inode of a namespace of a process (namespaces(7)).
fn namespace(pid: Pid, name: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/{name}")).ok().map(|namespace| namespace.ino())
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use super::*;

    /// Killed when the test ends.
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
    fn an_exec_process_is_distinguished_from_a_daemon_by_its_args() {
        let mut own = sleeping();
        // Its args are there a moment after it is executed.
        let end = Instant::now() + Duration::from_secs(20);
        while !executes(pid(&own), &["sleep".into(), "1000".into()]) && Instant::now() < end {
            sleep(Duration::from_millis(1));
        }
        let is_it = |args: &[&str]| {
            let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
            executes(pid(&own), &args)
        };
        // As a script it would have its interpreter's args before.
        for args in [&["sleep", "1000"][..], &["/bin/sleep", "1000"], &["1000"]] {
            assert!(is_it(args), "{args:?}");
        }
        for args in [&["sleep"][..], &["sleep", "1"], &["sh", "1000"], &["a", "sleep", "1000"], &[]]
        {
            assert!(!is_it(args), "{args:?}");
        }
        own.0.kill().expect("killed");
        own.0.wait().expect("ended");
        assert!(!executes(pid(&own), &["sleep".into()]));
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
