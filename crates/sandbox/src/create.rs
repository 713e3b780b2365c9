//! From an OCI bundle to an isolated process that waits for Start, and back to nothing.
//!
//! Everything kept about a container is in `<bundle>/wasmtime`: what was asked for (`create.json`), the
//! spec as it was carried out (`config.json`), and libcontainer's state below `<id>`. It is written before
//! the first process is made, so that [`destroy`] finds what to clean whoever was killed, and it goes with
//! the bundle, which containerd removes.

use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use nix::unistd::{Gid, setgroups};
use oci_spec::runtime::Spec;
use pathrs::Root;

use crate::cgroup::Cgroup;
use crate::console::Console;
use crate::errors::chain;
use crate::request::Given;
use crate::workload::{Guest, Linux, Pause};
use crate::zygote::Guests;
use crate::{Create, Error, Workload, building, errors, page_map, spec};

/// libcontainer's record of a container, in its folder.
const STATE: &str = "state.json";

/// Builds the container and returns its first process, which waits. On failure nothing is left.
pub fn create(request: Create, fds: Vec<OwnedFd>, guests: &Guests) -> Result<i32, Error> {
    errors::begin();
    let reading = trace::span("spec");
    let folder = folder(&request.bundle);
    let original = spec::load(&request.bundle.join("config.json"))?;
    let cgroup = cgroup(&original, &request.id, request.systemd_cgroup)?;
    let (spec, groups) = spec::fit(original, &request.bundle, &request.workload, &cgroup);
    // Not the bundle as well: containerd may have given up and removed it meanwhile.
    fs::create_dir(&folder).map_err(Error::io(format!("create {}", folder.display())))?;
    let building = building::begin(&folder)?;
    spec::save(&spec, &folder.join("config.json"))?;
    spec::save(&request, &folder.join("create.json"))?;
    if let Some(groups) = groups {
        let groups: Vec<Gid> = groups.into_iter().map(Gid::from_raw).collect();
        setgroups(&groups).map_err(Error::system("join the container's groups"))?;
    }
    make_working_directory(&spec);
    drop(reading);
    let built = build(&request, &folder, fds, guests, cgroup.by_systemd());
    drop(building);
    built.map_err(|error| {
        let _ = destroy(&request.bundle, &request.id);
        name_working_directory(error, &spec)
    })
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
    errors::begin();
    Container::load(folder(bundle).join(id))
        .and_then(|mut container| container.start())
        .map_err(|error| explain(&error))
}

/// Ends the container's processes and removes its cgroup and state; runs its `poststop` hooks. What is not
/// there, or no longer, is passed over: it works on whatever a killed shim left. Returns what went wrong
/// without keeping the container from going: a hook that fails does not (OCI runtime spec, "Lifecycle").
pub fn destroy(bundle: &Path, id: &str) -> Result<Option<String>, Error> {
    let folder = folder(bundle);
    let Some(Recorded { create, spec }) = recorded(bundle) else {
        return remove(&folder).map(|()| None);
    };
    let cgroup = cgroup(&spec, id, create.systemd_cgroup)?;
    cgroup.kill()?;
    building::wait_for_end(&folder)?;
    cgroup.kill()?;
    cgroup.remove()?;
    // One that was killed while it was made has no state to load.
    let made = folder.join(id).join(STATE).exists();
    let warning = match made && (cgroup.by_systemd() || has_more_to_undo(&spec)) {
        true => Container::load(folder.join(id)).and_then(|mut it| it.delete(true)).err(),
        false => None,
    };
    remove(&folder).map(|()| warning.map(|error| explain(&error).to_string()))
}

/// Whether libcontainer has to be asked, which looks at all that a container could have: for its `poststop` hooks, a
/// part of the processor's cache, and, of systemd, its scope.
fn has_more_to_undo(spec: &Spec) -> bool {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_deref());
    let cache = spec.linux().as_ref().and_then(|linux| linux.intel_rdt().as_ref());
    hooks.is_some_and(|hooks| !hooks.is_empty()) || cache.is_some()
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

fn build(
    request: &Create,
    folder: &Path,
    fds: Vec<OwnedFd>,
    guests: &Guests,
    systemd: bool,
) -> Result<i32, Error> {
    let Given { stdio: [stdin, stdout, stderr], files, console } =
        Given::take(request.stdio, request.console, fds)?;
    let console = console.map(|fd| Console::listen(folder, fd)).transpose()?;
    let mut builder = ContainerBuilder::new(request.id.clone(), SyscallType::Linux)
        .with_root_path(folder)
        .map_err(|error| explain(&error))?
        .with_console_socket(console.as_ref().map(|console| &console.path));
    builder.stdin = stdin;
    builder.stdout = stdout;
    builder.stderr = stderr;
    let has_page_map = matches!(request.workload, Workload::Guest { page_map: true, .. });
    let (sender, receiver) = has_page_map.then(page_map::channel).transpose()?.unzip();
    let builder = match &request.workload {
        Workload::Pause => builder.with_executor(Pause::new()),
        Workload::Linux => builder.with_executor(Linux),
        Workload::Guest { value, .. } => {
            builder.with_executor(Guest::new(guests, value, files, receiver))
        }
    };
    let _span = trace::span("libcontainer");
    let container = builder
        .as_init(folder)
        .with_systemd(systemd)
        .with_no_pivot(request.no_pivot_root)
        .with_detach(true)
        .build()
        .map_err(|error| explain(&error))?;
    if let Some(console) = console {
        console.forward()?;
    }
    let pid = container.pid().map(|pid| pid.as_raw());
    let pid = pid.ok_or_else(|| Error::Container("libcontainer named no process".into()))?;
    if let Some(sender) = sender {
        sender.send(pid);
    }
    Ok(pid)
}

/// Not `sandbox`, which containerd 2.x keeps for itself in a Pod's bundles.
fn folder(bundle: &Path) -> PathBuf {
    bundle.join("wasmtime")
}

/// What was asked for, and the spec as it was carried out.
pub struct Recorded {
    pub create: Create,
    pub spec: Spec,
}

/// The record of a container; none where it was not begun, or is gone.
pub fn recorded(bundle: &Path) -> Option<Recorded> {
    let folder = folder(bundle);
    let create = serde_json::from_slice(&fs::read(folder.join("create.json")).ok()?).ok()?;
    Some(Recorded { create, spec: spec::load(&folder.join("config.json")).ok()? })
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

/// libcontainer's error with its sources, and before it the cause it only logged.
fn explain(error: &LibcontainerError) -> Error {
    let text = chain(error);
    let cause = errors::collected().into_iter().find(|line| !text.contains(line.as_str()));
    Error::Container(match cause {
        Some(cause) => format!("{cause}: {text}"),
        None => text,
    })
}
