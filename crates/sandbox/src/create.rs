//! From an OCI bundle to an isolated process that waits for Start, and back to nothing.
//!
//! Everything kept about a container is in `<bundle>/wasmtime`: what was asked for, with the spec as it was carried out
//! (`create.json`), its first process (`pid`) and how to recognise the others
//! (`members.json`), and where a guest waits for Start (`start`). What was asked for is written before the first process is
//! made, so that [`destroy`] finds what to clean whoever was killed, and it goes with the bundle, which containerd removes.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::cgroup::Cgroup;
use crate::isolate::{Made, PID};
use crate::members::Members;
use crate::zygote::Guests;
use crate::{Change, Create, Error, Workload, building, isolate, program, spec};

/// Files of what is [`Recorded`], and of the [`Members`].
const RECORD: &str = "create.json";
const MEMBERS: &str = "members.json";

/// Builds the container and returns its first process, which waits. On failure nothing is left.
pub fn create(request: Create, fds: Vec<OwnedFd>, guests: &Guests) -> Result<i32, Error> {
    let reading = trace::span("spec");
    let until = Instant::now() + request.time;
    let folder = folder(&request.bundle);
    let original = spec::load(&request.bundle.join("config.json"))?;
    let cgroup = cgroup(&original, &request.id, request.systemd_cgroup)?;
    let spec = spec::fit(original, &request.bundle, &request.workload, &cgroup);
    // Not the bundle as well: containerd may have given up and removed it meanwhile.
    fs::create_dir(&folder).map_err(Error::io(format!("create {}", folder.display())))?;
    let building = building::begin(&folder)?;
    let Recorded { record, spec } = begin(request, spec, &cgroup, &folder)?;
    drop(reading);
    let made = isolate::isolate(&record.create, spec.clone(), &folder, fds, guests, &cgroup, until)
        .and_then(|made| note(made.pid, &spec, &folder, &cgroup).map(|()| made));
    drop(building);
    let Made { pid, page_map } = made.inspect_err(|_| {
        let _ = destroy(&record.create.bundle, &record.create.id);
    })?;
    // Last, because this process gives up a capability for it: from here on nothing is taken back.
    if let Some(sender) = page_map {
        sender.send(pid.as_raw());
    }
    Ok(pid.as_raw())
}

/// Records what was asked for, before the first process exists.
pub fn begin(
    request: Create,
    spec: Spec,
    cgroup: &Cgroup,
    folder: &Path,
) -> Result<Recorded, Error> {
    let record = Record { not_ours: cgroup.not_ours()?, create: request };
    let recorded = Recorded { record, spec };
    spec::save(&recorded, &folder.join(RECORD))?;
    Ok(recorded)
}

/// Records which processes are the container's.
pub fn note(pid: Pid, spec: &Spec, folder: &Path, cgroup: &Cgroup) -> Result<(), Error> {
    let Some(members) = Members::of(pid, spec) else { return Ok(()) };
    let saved = spec::save(&members, &folder.join(MEMBERS));
    saved.or_else(|error| members.kill(cgroup).and(Err(error)))
}

/// Releases a created container, within `time`.
pub fn start(bundle: &Path, id: &str, time: Duration) -> Result<(), Error> {
    match recorded(bundle).filter(Recorded::is_program) {
        Some(recorded) => program::start(&recorded, id, time),
        None => isolate::start(bundle, &folder(bundle), Instant::now() + time),
    }
}

/// Carries out a change: the OCI runtime that of a program's container.
pub fn change(bundle: &Path, id: &str, change: &Change) -> Result<(), Error> {
    let recorded = recorded(bundle).ok_or(Error::Gone { process: "container" })?;
    if recorded.is_program() {
        return program::change(&recorded, id, change);
    }
    let cgroup = cgroup(&recorded.spec, id, recorded.record.create.systemd_cgroup)?;
    match change {
        Change::Pause => cgroup.freeze(),
        Change::Resume => cgroup.thaw(),
        Change::Update(limits) => {
            let limits = serde_json::from_value(limits.clone());
            cgroup.update(&limits.map_err(Error::malformed("read the limits"))?)
        }
    }
}

/// Ends the container's processes and removes its cgroup and state; runs its `poststop` hooks. What is not
/// there, or no longer, is passed over: it works on whatever a killed shim left. Returns what went wrong
/// without keeping the container from going: a hook that fails does not (OCI runtime spec, "Lifecycle").
pub fn destroy(bundle: &Path, id: &str) -> Result<Option<String>, Error> {
    let folder = folder(bundle);
    let Some(recorded) = recorded(bundle) else {
        building::end(&folder)?;
        return remove(&folder).map(|()| None);
    };
    let cgroup = cgroup(&recorded.spec, id, recorded.record.create.systemd_cgroup)?;
    if recorded.is_program() {
        return program::destroy(&recorded, &folder, id, &cgroup);
    }
    let Recorded { record, spec } = recorded;
    building::end(&folder)?;
    if let Some(members) = members(&folder, &spec) {
        members.kill(&cgroup)?;
    }
    // Compile workers are charged to a Pod's sandbox, in whose own cgroup nothing else is; nobody waits for them any more.
    if matches!(record.create.workload, Workload::Pause) && cgroup.is_named_after_container() {
        cgroup.kill()?;
    }
    cgroup.remove(&record.not_ours)?;
    let stopped = if cgroup.by_systemd() { cgroup.stop_scope() } else { Ok(()) };
    let undone = stopped.and(isolate::after(&record.create, &spec, &folder));
    remove(&folder).map(|()| undone.err().map(|error| error.to_string()))
}

/// The container's members; `None` if it has no process. If the request process was killed during Create, only the pid of
/// the first process is on disk, written a moment ago.
pub fn members(folder: &Path, spec: &Spec) -> Option<Members> {
    let noted = fs::read(folder.join(MEMBERS)).ok().and_then(|it| serde_json::from_slice(&it).ok());
    noted.or_else(|| {
        let pid = fs::read_to_string(folder.join(PID)).ok()?.trim().parse().ok()?;
        Members::of(Pid::from_raw(pid), spec)
    })
}

/// Not `sandbox`, which containerd 2.x keeps for itself in a Pod's bundles.
pub fn folder(bundle: &Path) -> PathBuf {
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
    /// Whether nobody but the container is meant to be in or below its cgroup.
    pub fn is_alone_in(&self, cgroup: &Cgroup) -> bool {
        cgroup.is_named_after_container() && self.not_ours.is_empty()
    }
}

/// What was asked for, and the spec as it was carried out.
#[derive(Serialize, Deserialize)]
pub struct Recorded {
    pub record: Record,
    pub spec: Spec,
}

impl Recorded {
    /// Whether its first process is a program, which the OCI runtime has made.
    pub fn is_program(&self) -> bool {
        matches!(self.record.create.workload, Workload::Program)
    }
}

/// The record of a container; none where it was not begun, or is gone.
pub fn recorded(bundle: &Path) -> Option<Recorded> {
    let folder = folder(bundle);
    let record = fs::read(folder.join(RECORD)).ok()?;
    serde_json::from_slice(&record).ok().or_else(|| of_older(&record, &folder))
}

/// As older shims wrote it, with the spec in a file of its own: one that was killed may be cleaned up after an upgrade.
fn of_older(record: &[u8], folder: &Path) -> Option<Recorded> {
    let record = serde_json::from_slice(record).ok()?;
    Some(Recorded { record, spec: spec::load(&folder.join("config.json")).ok()? })
}

/// The cgroup of a container's spec.
pub fn cgroup(spec: &Spec, id: &str, systemd: bool) -> Result<Cgroup, Error> {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    Cgroup::new(path, id, systemd)
}

/// Removes what is kept about a container.
pub fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", folder.display()))(error))
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
        let folder = folder(bundle.path());
        let write = |name: &str, value: &serde_json::Value| {
            fs::create_dir_all(&folder).expect("made");
            fs::write(folder.join(name), value.to_string()).expect("written");
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
        fs::remove_file(folder.join("config.json")).expect("removed");
        spec::save(&older, &folder.join(RECORD)).expect("written");
        assert!(recorded(bundle.path()).is_some_and(|newer| newer.is_program()));
    }
}
