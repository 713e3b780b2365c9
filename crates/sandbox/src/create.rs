//! From an OCI bundle to an isolated process that waits for Start, and back to nothing.
//!
//! Everything kept about a container is in `<bundle>/wasmtime`: what was asked for (`create.json`), the
//! spec as it was carried out (`config.json`), its first process (`pid`) and how to recognise the others
//! (`members.json`), where a guest waits for Start (`start`), and libcontainer's state of a program below `<id>`. What was asked for is written before
//! the first process is made, so that [`destroy`] finds what to clean whoever was killed, and it goes with
//! the bundle, which containerd removes.

use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libcgroups::common::{CgroupConfig, CgroupManager, create_cgroup_manager};
use libcontainer::container::{Container, ContainerStatus};
use libcontainer::error::LibcontainerError;
use libcontainer::hooks::run_hooks;
use libcontainer::process::intel_rdt::cleanup_intel_rdt;
use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use pathrs::Root;
use serde::{Deserialize, Serialize};

use crate::build::build;
use crate::cgroup::Cgroup;
use crate::errors::explain;
use crate::isolate::PID;
use crate::members::Members;
use crate::zygote::Guests;
use crate::{Create, Error, Workload, building, errors, isolate, spec};

/// libcontainer's record of a container, in its folder.
const STATE: &str = "state.json";

/// Files of the [`Record`], of the spec as it was carried out, and of the [`Members`].
const RECORD: &str = "create.json";
const CONFIG: &str = "config.json";
const MEMBERS: &str = "members.json";

/// Builds the container and returns its first process, which waits. On failure nothing is left.
pub fn create(request: Create, fds: Vec<OwnedFd>, guests: &Guests) -> Result<i32, Error> {
    if matches!(request.workload, Workload::Linux) {
        errors::begin();
    }
    let reading = trace::span("spec");
    let folder = folder(&request.bundle);
    let original = spec::load(&request.bundle.join("config.json"))?;
    let cgroup = cgroup(&original, &request.id, request.systemd_cgroup)?;
    let spec = spec::fit(original, &request.bundle, &request.workload, &cgroup);
    // Not the bundle as well: containerd may have given up and removed it meanwhile.
    fs::create_dir(&folder).map_err(Error::io(format!("create {}", folder.display())))?;
    let building = building::begin(&folder)?;
    let record = Record { not_ours: cgroup.not_ours()?, create: request };
    spec::save(&spec, &folder.join(CONFIG))?;
    spec::save(&record, &folder.join(RECORD))?;
    drop(reading);
    let built = make(&record, &spec, &folder, fds, guests, &cgroup);
    drop(building);
    built.map(Pid::as_raw).map_err(|error| {
        let _ = destroy(&record.create.bundle, &record.create.id);
        name_working_directory(error, &spec)
    })
}

fn make(
    record: &Record,
    spec: &Spec,
    folder: &Path,
    fds: Vec<OwnedFd>,
    guests: &Guests,
    cgroup: &Cgroup,
) -> Result<Pid, Error> {
    let pid = match record.create.workload {
        Workload::Linux => {
            make_working_directory(spec);
            let _span = trace::span("libcontainer");
            let systemd = cgroup.by_systemd();
            let pid = build(&record.create, spec.clone(), folder, fds, systemd)?;
            cgroup.mark(&record.not_ours);
            pid
        }
        Workload::Pause | Workload::Guest { .. } => {
            isolate::isolate(&record.create, spec.clone(), folder, fds, guests, cgroup)?
        }
    };
    if let Some(members) = Members::of(pid, spec) {
        let saved = spec::save(&members, &folder.join(MEMBERS));
        saved.or_else(|error| members.kill(cgroup).and(Err(error)))?;
    }
    Ok(pid)
}

/// An image's working directory need not exist; runc makes it as well. Links lead nowhere out of the root.
fn make_working_directory(spec: &Spec) {
    let (Some(root), Some(process)) = (spec.root().as_ref(), spec.process().as_ref()) else {
        return;
    };
    if process.cwd() == Path::new("/") {
        return;
    }
    // It may be on a volume, or the root read-only: whether it is there after all is told by chdir(2).
    let _ = Root::open(root.path())
        .and_then(|root| root.mkdir_all(process.cwd(), &Permissions::from_mode(0o755)));
}

/// Releases a created container.
pub fn start(bundle: &Path, id: &str) -> Result<(), Error> {
    let folder = folder(bundle);
    if isolate::is_of(&folder) {
        return isolate::start(bundle, &folder);
    }
    errors::begin();
    Container::load(folder.join(id))
        .and_then(|mut container| container.start())
        .map_err(|error| explain(&error))
}

/// Ends the container's processes and removes its cgroup and state; runs its `poststop` hooks. What is not
/// there, or no longer, is passed over: it works on whatever a killed shim left. Returns what went wrong
/// without keeping the container from going: a hook that fails does not (OCI runtime spec, "Lifecycle").
pub fn destroy(bundle: &Path, id: &str) -> Result<Option<String>, Error> {
    let folder = folder(bundle);
    let Some(Recorded { record, spec }) = recorded(bundle) else {
        building::end(&folder)?;
        return remove(&folder).map(|()| None);
    };
    let cgroup = cgroup(&spec, id, record.create.systemd_cgroup)?;
    building::end(&folder)?;
    if let Some(members) = members(&folder, &spec) {
        members.kill(&cgroup)?;
    }
    // Compile workers are charged to a Pod's sandbox, in whose own cgroup nothing else is; nobody waits for them any more.
    if matches!(record.create.workload, Workload::Pause) && cgroup.is_named_after_container() {
        cgroup.kill()?;
    }
    cgroup.remove(&record.not_ours)?;
    let undone = match record.create.workload {
        // One that was killed while it was made has no state to load.
        Workload::Linux if folder.join(id).join(STATE).exists() => {
            undo(&folder.join(id), &spec, &cgroup).map_err(|error| explain(&error))
        }
        Workload::Linux => Ok(()),
        Workload::Pause | Workload::Guest { .. } => {
            let stopped = if cgroup.by_systemd() { cgroup.stop_scope() } else { Ok(()) };
            // Nothing was made as far as a hook could know of it if the members were not noted.
            let is_made = folder.join(MEMBERS).exists();
            let told =
                if is_made { isolate::after(&record.create, &spec, &folder) } else { Ok(()) };
            stopped.and(told)
        }
    };
    remove(&folder).map(|()| undone.err().map(|error| error.to_string()))
}

/// The container's members; `None` if it has no process. If the request process was killed during Create, only the pid of
/// the first process is on disk, written a moment ago.
fn members(folder: &Path, spec: &Spec) -> Option<Members> {
    let noted = fs::read(folder.join(MEMBERS)).ok().and_then(|it| serde_json::from_slice(&it).ok());
    noted.or_else(|| {
        let pid = fs::read_to_string(folder.join(PID)).ok()?.trim().parse().ok()?;
        Members::of(Pid::from_raw(pid), spec)
    })
}

/// Removes systemd's scope and the container's part of the processor's cache, and runs `poststop` hooks.
fn undo(root: &Path, spec: &Spec, cgroup: &Cgroup) -> Result<(), LibcontainerError> {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref());
    let has_cache = spec.linux().as_ref().is_some_and(|linux| linux.intel_rdt().is_some());
    if hooks.is_none() && !has_cache && !cgroup.by_systemd() {
        return Ok(());
    }
    let mut container = Container::load(root.to_owned())?;
    if cgroup.by_systemd() {
        let config = CgroupConfig {
            cgroup_path: cgroup.cgroups_path(),
            systemd_cgroup: true,
            container_name: container.id().to_owned(),
        };
        create_cgroup_manager(config)?.remove()?;
    }
    let (own, monitoring) = (container.intel_rdt_dir(), container.intel_rdt_monitoring_dir());
    let (own, monitoring) = (own.map(PathBuf::as_path), monitoring.map(PathBuf::as_path));
    let by_id = container.clean_up_intel_rdt_subdirectory();
    cleanup_intel_rdt(own, monitoring, by_id, container.id())?;
    container.set_status(ContainerStatus::Stopped);
    Ok(run_hooks(hooks, Some(&container.state), None, None, None)?)
}

/// libcontainer tells that chdir(2) failed, but not where to.
fn name_working_directory(error: Error, spec: &Spec) -> Error {
    match (error, spec.process()) {
        (Error::Container(text), Some(process)) if text.contains("failed to chdir") => {
            Error::Container(format!("working directory {}: {text}", process.cwd().display()))
        }
        (error, _) => error,
    }
}

/// Not `sandbox`, which containerd 2.x keeps for itself in a Pod's bundles.
fn folder(bundle: &Path) -> PathBuf {
    bundle.join("wasmtime")
}

/// The request, and what was found when it was carried out.
#[derive(Serialize, Deserialize)]
pub struct Record {
    pub create: Create,
    /// [`Cgroup::not_ours`] before the container was made.
    not_ours: Vec<PathBuf>,
}

/// What was asked for, and the spec as it was carried out.
pub struct Recorded {
    pub record: Record,
    pub spec: Spec,
}

/// The record of a container; none where it was not begun, or is gone.
pub fn recorded(bundle: &Path) -> Option<Recorded> {
    let folder = folder(bundle);
    let record = serde_json::from_slice(&fs::read(folder.join(RECORD)).ok()?).ok()?;
    Some(Recorded { record, spec: spec::load(&folder.join(CONFIG)).ok()? })
}

/// The cgroup of a container's spec.
pub fn cgroup(spec: &Spec, id: &str, systemd: bool) -> Result<Cgroup, Error> {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_deref());
    Cgroup::new(path, id, systemd)
}

fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", folder.display()))(error))
        }
        _ => Ok(()),
    }
}
