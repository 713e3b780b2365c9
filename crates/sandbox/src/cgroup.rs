//! Cgroup of a container, by its files (cgroups(7)): v1, v2, and scopes of systemd.
//!
//! This file finds the cgroup and the processes in it. `make` creates it with its limits. `update`, `devices` and `io`
//! write limits: `v1` and `v2` have the files of one version, and `limits` those of both. `owner` records who made the
//! cgroup, and removes it. `scope` has systemd's names. `freeze` pauses the cgroup. `oom` reports processes that the
//! kernel killed because memory ran out. `ancestors` has the limits of the cgroups above it. [`crate::Members`]
//! distinguishes the container's own processes from others in the same cgroup.

use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;

use crate::wait::{self, Tries};
use crate::{Error, pidfd};

mod ancestors;
mod devices;
mod freeze;
mod io;
pub mod join;
mod limits;
mod make;
pub mod oom;
mod owner;
mod properties;
mod scope;
mod systemd;
mod update;
mod v1;
mod v2;

use scope::Scope;

/// Mount point of the hierarchies: the only one of v2, or a directory with one for each controller of v1.
const HIERARCHIES: &str = "/sys/fs/cgroup";

/// Directory that exists if systemd runs (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";

/// How often, and after which pause, to check whether a killed cgroup is empty: 2 s in all. A process in an uninterruptible
/// wait may live longer; the cgroup then stays and is named in the error.
pub(crate) const EMPTY: Tries = Tries { count: 200, pause: Duration::from_millis(10) };

/// Maker of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Manager {
    /// This runtime, by mkdir(2).
    Files,
    /// systemd, by the name of the scope: `slice:prefix:name`.
    Systemd(String),
}

/// The cgroup of one container.
#[derive(Debug)]
pub struct Cgroup {
    hierarchies: PathBuf,
    /// Path below a hierarchy's root.
    path: PathBuf,
    manager: Manager,
    named_after_container: bool,
}

impl Cgroup {
    /// The cgroup that `cgroupsPath` of the OCI spec names (OCI runtime spec, "Control groups"): a path, or
    /// `slice:prefix:name` for a scope of systemd. The latter is systemd's if `systemd` is set, and also if only its form says
    /// so, as CRI writes it when kubelet's cgroup driver is systemd.
    ///
    /// # Errors
    /// [`Error::Cgroup`] if the path is a hierarchy's root, whose processes are not the container's, or if `systemd` is set and
    /// the path does not have its form.
    pub fn new(cgroups_path: Option<&Path>, id: &str, systemd: bool) -> Result<Cgroup, Error> {
        Cgroup::in_hierarchies(Path::new(HIERARCHIES), cgroups_path, id, systemd)
    }

    /// Whether `cgroupsPath` names a scope, as CRI writes it if kubelet's cgroup driver is systemd, and systemd runs here.
    pub fn is_for_systemd(cgroups_path: Option<&Path>) -> bool {
        cgroups_path.is_some_and(|path| Scope::parse(path).is_some()) && Path::new(BOOTED).exists()
    }

    /// As [`Cgroup::new`], with the hierarchies mounted elsewhere.
    pub fn in_hierarchies(
        hierarchies: &Path,
        cgroups_path: Option<&Path>,
        id: &str,
        systemd: bool,
    ) -> Result<Cgroup, Error> {
        let given = cgroups_path.map_or_else(|| Path::new("/wasmtime").join(id), Path::to_owned);
        let scope = Scope::parse(&given);
        if systemd && scope.is_none() {
            return Err(refuse(&given, "systemd's cgroups are named slice:prefix:name"));
        }
        let path = scope.as_ref().map_or_else(|| given.clone(), Scope::path);
        let normal = path.components().filter(|part| matches!(part, Component::Normal(_))).count();
        let climbs = path.components().any(|part| matches!(part, Component::ParentDir));
        if normal == 0 || climbs {
            let reason = "not a cgroup a container may own: give it a name below the root";
            return Err(refuse(&given, reason));
        }
        let cgroup = Cgroup {
            hierarchies: hierarchies.to_owned(),
            named_after_container: is_named_after(&path, id),
            path,
            manager: Manager::Files,
        };
        // systemd makes scopes on v2. On v1 this runtime makes the same path, below the Pod's cgroup.
        let manager = match scope {
            Some(_) if cgroup.is_v2() => Manager::Systemd(given.display().to_string()),
            _ => Manager::Files,
        };
        Ok(Cgroup { manager, ..cgroup })
    }

    /// Whether the host has cgroups v2 only.
    pub fn is_v2(&self) -> bool {
        self.hierarchies.join("cgroup.controllers").exists()
    }

    /// Whether systemd makes it.
    pub fn by_systemd(&self) -> bool {
        matches!(self.manager, Manager::Systemd(_))
    }

    /// Whether its name is the container's id or ends with it, as the names of CRI and `ctr` do by default. No other container
    /// is meant to be in or below such a cgroup.
    pub fn is_named_after_container(&self) -> bool {
        self.named_after_container
    }

    /// Name of this cgroup in a spec (OCI runtime spec, "Cgroups Path").
    pub fn cgroups_path(&self) -> PathBuf {
        match &self.manager {
            Manager::Files => Path::new("/").join(&self.path),
            Manager::Systemd(scope) => scope.into(),
        }
    }

    /// Text of one of its files. `None` if there is no such controller, file or cgroup.
    pub fn read(&self, controller: &str, file: &str) -> Option<String> {
        fs::read_to_string(self.file(controller, file)).ok()
    }

    /// Names of its files. Empty if there is no such controller or cgroup.
    pub fn files(&self, controller: &str) -> Vec<String> {
        let entries = fs::read_dir(self.file(controller, ".")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn write(&self, controller: &str, file: &str, text: &str) -> std::io::Result<()> {
        // A missing file is not created, as it would be on a disk.
        let mut file =
            fs::OpenOptions::new().write(true).truncate(true).open(self.file(controller, file))?;
        file.write_all(text.as_bytes())
    }

    /// Path of one of its files. On v2 all controllers have the same hierarchy.
    fn file(&self, controller: &str, file: &str) -> PathBuf {
        let hierarchy = match self.is_v2() {
            true => self.hierarchies.clone(),
            false => self.hierarchies.join(controller),
        };
        below(&hierarchy, &self.path).join(file)
    }

    /// Processes in the cgroup and the cgroups below it, in this process's pid namespace. A missing cgroup is empty.
    pub fn pids(&self) -> Result<Vec<Pid>, Error> {
        let mut pids = BTreeSet::new();
        for directory in self.directories()? {
            self.collect_pids(&directory, &mut pids)?;
        }
        Ok(pids.into_iter().map(Pid::from_raw).collect())
    }

    /// Moves this process into the cgroup, in every hierarchy.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        let directories = self.directories()?;
        if directories.is_empty() {
            return Err(refuse(&self.path, "it is not there any more"));
        }
        // 0 stands for the writer (cgroups(7)).
        let enter = |directory: &PathBuf| fs::write(directory.join("cgroup.procs"), "0");
        directories.iter().try_for_each(enter).map_err(|error| self.failed(error))
    }

    /// Kills every process in the cgroup, and returns once it is empty. A missing cgroup is empty.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        let emptied = wait::try_until(EMPTY, || {
            let pids = self.pids()?;
            if pids.is_empty() {
                return Ok(Some(()));
            }
            // Linux 5.14 and later kill a whole v2 cgroup at once, including processes that are being forked.
            let all = below(&self.hierarchies, &self.path).join("cgroup.kill");
            if fs::write(all, "1").is_err() {
                pids.into_iter().try_for_each(|pid| pidfd::signal(pid, libc::SIGKILL))?;
                self.thaw_for_kill();
            }
            Ok(None)
        })?;
        emptied.ok_or_else(|| self.refuse("processes in it do not end"))
    }

    /// Directories of the cgroup, one in each hierarchy that has it.
    fn directories(&self) -> Result<Vec<PathBuf>, Error> {
        let hierarchies = match self.is_v2() {
            true => vec![self.hierarchies.clone()],
            false => self.children(&self.hierarchies)?,
        };
        let directories = hierarchies.iter().map(|hierarchy| below(hierarchy, &self.path));
        Ok(directories.filter(|directory| directory.is_dir()).collect())
    }

    fn collect_pids(&self, directory: &Path, pids: &mut BTreeSet<i32>) -> Result<(), Error> {
        match fs::read_to_string(directory.join("cgroup.procs")) {
            // 0 stands for a process that is not visible in this pid namespace.
            Ok(text) => {
                let found = text.lines().filter_map(|line| line.parse::<i32>().ok());
                pids.extend(found.filter(|pid| *pid != 0));
            }
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(self.failed(error)),
        }
        self.children(directory)?.iter().try_for_each(|child| self.collect_pids(child, pids))
    }

    /// Directories in a directory, without links, which are further names of a v1 hierarchy.
    fn children(&self, directory: &Path) -> Result<Vec<PathBuf>, Error> {
        let entries = match fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => return Ok(Vec::new()),
            Err(error) => return Err(self.failed(error)),
        };
        let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        Ok(entries.flatten().filter(is_directory).map(|entry| entry.path()).collect())
    }

    fn failed(&self, error: std::io::Error) -> Error {
        self.refuse(&error.to_string())
    }

    pub(crate) fn refuse(&self, reason: &str) -> Error {
        refuse(&self.path, reason)
    }
}

/// Whether the last part of a path is `id`, `prefix-id` or systemd's `prefix-id.scope`.
fn is_named_after(path: &Path, id: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name.strip_suffix(".scope").unwrap_or(&name);
    let prefix = name.strip_suffix(id).filter(|_| !id.is_empty());
    prefix.is_some_and(|prefix| prefix.is_empty() || prefix.ends_with('-'))
}

/// `path` below `directory`, even if it is absolute.
fn below(directory: &Path, path: &Path) -> PathBuf {
    directory.join(path.strip_prefix("/").unwrap_or(path))
}

/// Whether a cgroup has gone. It may be removed while it is read (ENODEV), and a threaded one has no processes (EOPNOTSUPP).
fn is_gone(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
        || matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EOPNOTSUPP))
}

fn refuse(path: &Path, reason: &str) -> Error {
    Error::Cgroup { path: path.display().to_string(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: &str = "kubepods-besteffort-pod1.slice:cri-containerd:c1";
    const SCOPE_PATH: &str = "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-containerd-c1.scope";

    /// Makes a host with a cgroup at the path, on v2 or in two hierarchies of v1.
    fn host(unified: bool, path: &str) -> tempfile::TempDir {
        let host = tempfile::tempdir().expect("temporary directory");
        let hierarchies: &[&str] = if unified { &["."] } else { &["memory", "pids"] };
        for (hierarchy, pid) in hierarchies.iter().zip([11, 12]) {
            let directory = host.path().join(hierarchy).join(path);
            fs::create_dir_all(directory.join("child")).expect("a cgroup");
            fs::write(directory.join("cgroup.procs"), format!("{pid}\n")).expect("its processes");
            fs::write(directory.join("child/cgroup.procs"), "13\n0\n").expect("its child's");
        }
        if unified {
            fs::write(host.path().join("cgroup.controllers"), "cpu memory pids").expect("v2");
        }
        host
    }

    fn cgroup(host: &tempfile::TempDir, path: &str) -> Cgroup {
        Cgroup::in_hierarchies(host.path(), Some(Path::new(path)), "c1", false).expect("a cgroup")
    }

    fn pids(cgroup: &Cgroup) -> Vec<i32> {
        cgroup.pids().expect("pids").into_iter().map(Pid::as_raw).collect()
    }

    #[test]
    fn processes_are_found_below_it_in_every_hierarchy() {
        let v2 = host(true, "pods/c1");
        assert_eq!(pids(&cgroup(&v2, "/pods/c1")), [11, 13]);
        let v1 = host(false, "pods/c1");
        assert_eq!(pids(&cgroup(&v1, "/pods/c1")), [11, 12, 13]);
        assert_eq!(pids(&cgroup(&v1, "/pods/gone")), [0; 0]);
    }

    #[test]
    fn a_scope_of_systemd_is_where_its_slices_are() {
        let v2 = host(true, SCOPE_PATH);
        let scope = cgroup(&v2, SCOPE);
        assert_eq!(pids(&scope), [11, 13]);
        assert!(scope.by_systemd());
        assert_eq!(scope.cgroups_path(), Path::new(SCOPE));
        assert_eq!(cgroup(&v2, "-.slice:a:b").path, Path::new("a-b.scope"));
    }

    #[test]
    fn on_v1_the_path_of_a_scope_is_made_without_systemd() {
        let v1 = host(false, SCOPE_PATH);
        let scope = cgroup(&v1, SCOPE);
        assert!(!scope.by_systemd());
        assert_eq!(scope.cgroups_path(), Path::new("/").join(SCOPE_PATH));
        assert_eq!(pids(&scope), [11, 12, 13]);
    }

    #[test]
    fn a_file_path_is_no_scope_and_systemd_takes_no_other() {
        let v2 = host(true, "pods");
        for path in ["/a.slice/c1", "/a:b:c1", "a.slice:cri:", "a.slice:cri:x/y"] {
            assert!(!cgroup(&v2, path).by_systemd(), "{path}");
            let error = Cgroup::in_hierarchies(v2.path(), Some(Path::new(path)), "c1", true);
            assert!(error.expect_err("refused").to_string().contains("slice:prefix:name"));
        }
    }

    #[test]
    fn a_cgroup_is_named_after_a_container_by_its_whole_id() {
        let named = |path: &str| is_named_after(Path::new(path), "c1");
        for path in ["/c1", "/pods/c1", "a.slice/cri-containerd-c1.scope"] {
            assert!(named(path), "{path}");
        }
        for path in ["/c12", "/ac1", "/c1/other", "/c1.d", "/"] {
            assert!(!named(path), "{path}");
        }
        assert!(!is_named_after(Path::new("/c1"), ""));
    }

    #[test]
    fn the_root_of_a_hierarchy_is_no_containers_cgroup() {
        for path in ["/", "", "/../x", "."] {
            assert!(
                Cgroup::new(Some(Path::new(path)), "c1", false).is_err(),
                "{path:?} was accepted"
            );
        }
        assert_eq!(
            Cgroup::new(None, "c1", false).expect("has its own").path,
            Path::new("/wasmtime/c1")
        );
    }
}
