//! A container's cgroup, as the files it is (cgroups(7)): v1, v2, and where systemd manages it.
//!
//! Here is where it is and which processes are in it. `make` creates it with its limits (`update`, `devices`, `io`;
//! the files of each version in `v1` and `v2`, of both in `limits`), `owner` records who made it and removes it, `scope` has
//! systemd's names. `freeze` pauses it, `oom` reports who was killed because memory ran out, `ancestors` has the limits
//! that bound it from above.
//! [`crate::Members`] tells the container's own processes from others in the same cgroup.

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

/// Where the hierarchies are mounted: the one of v2, or a folder for each of v1.
const HIERARCHIES: &str = "/sys/fs/cgroup";

/// How often, and after which pause, a killed cgroup is looked at again: 2 s in all. A process in an
/// uninterruptible wait outlives that; the cgroup then stays and is named in the error.
pub(crate) const EMPTY: Tries = Tries { count: 200, pause: Duration::from_millis(10) };

/// Who makes a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Manager {
    /// mkdir(2), at the path.
    Files,
    /// systemd, asked for a scope: `slice:prefix:name`.
    Systemd(String),
}

/// The cgroup of one container.
#[derive(Debug)]
pub struct Cgroup {
    hierarchies: PathBuf,
    /// Below a hierarchy's root.
    path: PathBuf,
    manager: Manager,
    named_after_container: bool,
}

impl Cgroup {
    /// The cgroup that `cgroupsPath` of the OCI spec names (OCI runtime spec, "Control groups"): a path, or
    /// `slice:prefix:name` for a scope of systemd. The latter is systemd's where that is asked for, and also
    /// where only its form says so, as CRI writes it when kubelet's cgroup driver is systemd.
    ///
    /// # Errors
    /// [`Error::Cgroup`] when the path is a hierarchy's root, whose processes are not the container's, or
    /// systemd is asked for and the path has not its form.
    pub fn new(cgroups_path: Option<&Path>, id: &str, systemd: bool) -> Result<Cgroup, Error> {
        Cgroup::in_hierarchies(Path::new(HIERARCHIES), cgroups_path, id, systemd)
    }

    /// The same with the hierarchies mounted elsewhere.
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
        // systemd's own scopes are v2's; in v1 the same path is made by hand, inside the Pod's.
        let manager = match scope {
            Some(_) if cgroup.is_unified() => Manager::Systemd(given.display().to_string()),
            _ => Manager::Files,
        };
        Ok(Cgroup { manager, ..cgroup })
    }

    /// Whether the host has the unified hierarchy (v2) alone.
    pub fn is_unified(&self) -> bool {
        self.hierarchies.join("cgroup.controllers").exists()
    }

    /// Whether systemd is to make it.
    pub fn by_systemd(&self) -> bool {
        matches!(self.manager, Manager::Systemd(_))
    }

    /// Whether its name is or ends with the container's id, as those of CRI and `ctr` do by default. No other container is
    /// meant to be in or below such a cgroup.
    pub fn is_named_after_container(&self) -> bool {
        self.named_after_container
    }

    /// As a spec names this cgroup (OCI runtime spec, "Cgroups Path").
    pub fn cgroups_path(&self) -> PathBuf {
        match &self.manager {
            Manager::Files => Path::new("/").join(&self.path),
            Manager::Systemd(scope) => scope.into(),
        }
    }

    /// The text of one of its files. `None` where there is no such controller or file, or no such cgroup.
    pub fn read(&self, controller: &str, file: &str) -> Option<String> {
        fs::read_to_string(self.file(controller, file)).ok()
    }

    /// The names of its files. Empty where there is no such controller, or no such cgroup.
    pub fn files(&self, controller: &str) -> Vec<String> {
        let entries = fs::read_dir(self.file(controller, ".")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    fn write(&self, controller: &str, file: &str, text: &str) -> std::io::Result<()> {
        // Not created where there is no such file, as on a disk.
        let mut file =
            fs::OpenOptions::new().write(true).truncate(true).open(self.file(controller, file))?;
        file.write_all(text.as_bytes())
    }

    /// The path of one of its files; on v2, where there is one hierarchy, whatever the controller.
    fn file(&self, controller: &str, file: &str) -> PathBuf {
        let hierarchy = match self.is_unified() {
            true => self.hierarchies.clone(),
            false => self.hierarchies.join(controller),
        };
        below(&hierarchy, &self.path).join(file)
    }

    /// Every process in the cgroup and those below it, in this process's pid namespace. A missing one is empty.
    pub fn pids(&self) -> Result<Vec<Pid>, Error> {
        let mut pids = BTreeSet::new();
        for folder in self.folders()? {
            self.collect_pids(&folder, &mut pids)?;
        }
        Ok(pids.into_iter().map(Pid::from_raw).collect())
    }

    /// Moves this process into the cgroup, in every hierarchy.
    pub(crate) fn enter(&self) -> Result<(), Error> {
        let folders = self.folders()?;
        if folders.is_empty() {
            return Err(refuse(&self.path, "it is not there any more"));
        }
        // 0 stands for the writer (cgroups(7)).
        let enter = |folder: &PathBuf| fs::write(folder.join("cgroup.procs"), "0");
        folders.iter().try_for_each(enter).map_err(|error| self.failed(error))
    }

    /// Kills every process in the cgroup, and returns once it is empty. A missing cgroup is empty.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        let emptied = wait::try_until(EMPTY, || {
            let pids = self.pids()?;
            if pids.is_empty() {
                return Ok(Some(()));
            }
            // Linux 5.14 and later kill a whole v2 cgroup at once, whatever forks meanwhile.
            let all = below(&self.hierarchies, &self.path).join("cgroup.kill");
            if fs::write(all, "1").is_err() {
                pids.into_iter().try_for_each(|pid| pidfd::signal(pid, libc::SIGKILL))?;
                self.thaw_for_kill();
            }
            Ok(None)
        })?;
        emptied.ok_or_else(|| self.refuse("processes in it do not end"))
    }

    /// The cgroup's folder in each hierarchy where it is.
    fn folders(&self) -> Result<Vec<PathBuf>, Error> {
        let hierarchies = match self.is_unified() {
            true => vec![self.hierarchies.clone()],
            false => self.children(&self.hierarchies)?,
        };
        let folders = hierarchies.iter().map(|hierarchy| below(hierarchy, &self.path));
        Ok(folders.filter(|folder| folder.is_dir()).collect())
    }

    fn collect_pids(&self, folder: &Path, pids: &mut BTreeSet<i32>) -> Result<(), Error> {
        match fs::read_to_string(folder.join("cgroup.procs")) {
            // 0 is a process that this pid namespace does not see.
            Ok(text) => {
                let found = text.lines().filter_map(|line| line.parse::<i32>().ok());
                pids.extend(found.filter(|pid| *pid != 0));
            }
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(self.failed(error)),
        }
        self.children(folder)?.iter().try_for_each(|child| self.collect_pids(child, pids))
    }

    /// The folders in a folder; links, which name a v1 hierarchy again, are none.
    fn children(&self, folder: &Path) -> Result<Vec<PathBuf>, Error> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if is_gone(&error) => return Ok(Vec::new()),
            Err(error) => return Err(self.failed(error)),
        };
        let is_folder = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        Ok(entries.flatten().filter(is_folder).map(|entry| entry.path()).collect())
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

/// `path` below `folder`, though it be absolute.
fn below(folder: &Path, path: &Path) -> PathBuf {
    folder.join(path.strip_prefix("/").unwrap_or(path))
}

/// A cgroup may be removed while it is looked at (ENODEV), and a threaded one has no processes (EOPNOTSUPP).
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

    /// A host with the cgroup at the path, in v2 or in two hierarchies of v1.
    fn host(unified: bool, path: &str) -> tempfile::TempDir {
        let host = tempfile::tempdir().expect("temporary folder");
        let hierarchies: &[&str] = if unified { &["."] } else { &["memory", "pids"] };
        for (hierarchy, pid) in hierarchies.iter().zip([11, 12]) {
            let folder = host.path().join(hierarchy).join(path);
            fs::create_dir_all(folder.join("child")).expect("a cgroup");
            fs::write(folder.join("cgroup.procs"), format!("{pid}\n")).expect("its processes");
            fs::write(folder.join("child/cgroup.procs"), "13\n0\n").expect("its child's");
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
        let unified = host(true, "pods/c1");
        assert_eq!(pids(&cgroup(&unified, "/pods/c1")), [11, 13]);
        let legacy = host(false, "pods/c1");
        assert_eq!(pids(&cgroup(&legacy, "/pods/c1")), [11, 12, 13]);
        assert_eq!(pids(&cgroup(&legacy, "/pods/gone")), [0; 0]);
    }

    #[test]
    fn a_scope_of_systemd_is_where_its_slices_are() {
        let unified = host(true, SCOPE_PATH);
        let scope = cgroup(&unified, SCOPE);
        assert_eq!(pids(&scope), [11, 13]);
        assert!(scope.by_systemd());
        assert_eq!(scope.cgroups_path(), Path::new(SCOPE));
        assert_eq!(cgroup(&unified, "-.slice:a:b").path, Path::new("a-b.scope"));
    }

    #[test]
    fn where_systemd_has_no_scopes_the_same_path_is_made_by_hand() {
        let legacy = host(false, SCOPE_PATH);
        let scope = cgroup(&legacy, SCOPE);
        assert!(!scope.by_systemd());
        assert_eq!(scope.cgroups_path(), Path::new("/").join(SCOPE_PATH));
        assert_eq!(pids(&scope), [11, 12, 13]);
    }

    #[test]
    fn a_file_path_is_no_scope_and_systemd_takes_no_other() {
        let unified = host(true, "pods");
        for path in ["/a.slice/c1", "/a:b:c1", "a.slice:cri:", "a.slice:cri:x/y"] {
            assert!(!cgroup(&unified, path).by_systemd(), "{path}");
            let error = Cgroup::in_hierarchies(unified.path(), Some(Path::new(path)), "c1", true);
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
