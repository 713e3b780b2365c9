//! Files about a container, in `<bundle>/wasmtime`.
//!
//! `create.json` has the request and the spec as it was carried out, `pid` the first process, and `members.json` how to
//! recognise the others. `create.json` is written before the first process is made, so that [`crate::destroy`] can
//! clean up, whichever process was killed. containerd removes the files with the bundle.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::members::Members;
use crate::{Create, Error, Workload, spec};

/// File with the pid of the first process.
pub const PID: &str = "pid";

/// File names of the [`Recorded`] and the [`Members`].
const RECORD: &str = "create.json";
const MEMBERS: &str = "members.json";

/// Records the request, before the first process exists.
pub fn begin(
    request: Create,
    spec: Spec,
    cgroup: &Cgroup,
    directory: &Path,
) -> Result<Recorded, Error> {
    let record = Record { not_ours: cgroup.not_ours()?, create: request };
    let recorded = Recorded { record, spec };
    spec::save(&recorded, &directory.join(RECORD))?;
    Ok(recorded)
}

/// Records which processes belong to the container.
pub fn note(pid: Pid, spec: &Spec, directory: &Path, cgroup: &Cgroup) -> Result<(), Error> {
    let Some(members) = Members::of(pid, spec) else { return Ok(()) };
    let saved = spec::save(&members, &directory.join(MEMBERS));
    saved.or_else(|error| members.kill(cgroup).and(Err(error)))
}

/// The container's members; `None` if it has no process. If the request process was killed during Create, only the pid of
/// the first process is on disk.
pub fn members(directory: &Path, spec: &Spec) -> Option<Members> {
    let noted =
        fs::read(directory.join(MEMBERS)).ok().and_then(|it| serde_json::from_slice(&it).ok());
    noted.or_else(|| Members::of(pid(directory)?, spec))
}

/// Pid of the first process; `None` if it was not made.
pub fn pid(directory: &Path) -> Option<Pid> {
    fs::read_to_string(directory.join(PID)).ok()?.trim().parse().ok().map(Pid::from_raw)
}

/// Directory of the files. It is not named `sandbox`, because containerd 2.x uses that name in a Pod's bundles.
pub fn directory(bundle: &Path) -> PathBuf {
    bundle.join("wasmtime")
}

/// The request, and what was found when it was carried out.
#[derive(Serialize, Deserialize)]
pub struct Record {
    pub create: Create,
    /// [`Cgroup::not_ours`] before the container was made.
    pub not_ours: Vec<PathBuf>,
}

impl Record {
    /// Whether only this container is meant to be in or below its cgroup.
    pub fn is_alone_in(&self, cgroup: &Cgroup) -> bool {
        cgroup.is_named_after_container() && self.not_ours.is_empty()
    }
}

/// A request, and the spec as it was carried out.
#[derive(Serialize, Deserialize)]
pub struct Recorded {
    pub record: Record,
    pub spec: Spec,
}

impl Recorded {
    /// Whether its first process is a program, made by the OCI runtime.
    pub fn is_program(&self) -> bool {
        matches!(self.record.create.workload, Workload::Program)
    }

    /// The container's cgroup.
    pub fn cgroup(&self, id: &str) -> Result<Cgroup, Error> {
        cgroup(&self.spec, id, self.record.create.systemd_cgroup)
    }
}

/// The record of a container; `None` if it was not begun, or is gone.
pub fn recorded(bundle: &Path) -> Option<Recorded> {
    let directory = directory(bundle);
    let record = fs::read(directory.join(RECORD)).ok()?;
    serde_json::from_slice(&record).ok().or_else(|| of_older(&record, &directory))
}

/// Whether there is a record, of whichever version.
pub fn exists(directory: &Path) -> bool {
    directory.join(RECORD).exists()
}

/// A record of an older shim, which had the spec in a file of its own. A newer shim must read it to clean up after an upgrade.
fn of_older(record: &[u8], directory: &Path) -> Option<Recorded> {
    let record = serde_json::from_slice(record).ok()?;
    Some(Recorded { record, spec: spec::load(&directory.join("config.json")).ok()? })
}

/// The cgroup of a container's spec.
pub fn cgroup(spec: &Spec, id: &str, systemd: bool) -> Result<Cgroup, Error> {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    Cgroup::new(path, id, systemd)
}

/// Removes what is kept about a container.
pub fn remove(directory: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", directory.display()))(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_record_of_an_older_shim_is_read() {
        let bundle = tempfile::tempdir().expect("temporary directory");
        let directory = directory(bundle.path());
        let write = |name: &str, value: &serde_json::Value| {
            fs::create_dir_all(&directory).expect("made");
            fs::write(directory.join(name), value.to_string()).expect("written");
        };
        assert!(recorded(bundle.path()).is_none());
        let create = json!({
            "id": "c1", "bundle": bundle.path(), "systemd_cgroup": true, "no_pivot_root": false, "runtime": null,
            "time": { "secs": 120, "nanos": 0 }, "stdio": [true, true, true], "console": false, "workload": "Linux",
        });
        let record = json!({ "create": create, "not_ours": ["/sys/fs/cgroup/others"] });
        write(RECORD, &record);
        assert!(recorded(bundle.path()).is_none(), "without a spec");
        write("config.json", &json!({ "ociVersion": "1.2.0", "hostname": "pod" }));
        let older = recorded(bundle.path()).expect("is read");
        assert!(older.is_program() && older.record.create.systemd_cgroup);
        assert_eq!(older.spec.hostname().as_deref(), Some("pod"));
        fs::remove_file(directory.join("config.json")).expect("removed");
        spec::save(&older, &directory.join(RECORD)).expect("written");
        assert!(recorded(bundle.path()).is_some_and(|newer| newer.is_program()));
    }
}
