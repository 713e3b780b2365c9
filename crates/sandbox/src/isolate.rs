//! Isolated processes for guests and the built-in pause, by one fork each.
//!
//! ```text
//! request process                                  isolated process
//!   opens root, volumes, namespaces
//!   cgroup with its limits
//!   clone3(2) ───────────────────────────────────▶ waits
//!   pid on disk, cgroup, ids, limits ── go on ────▶ mounts, root, user, rights
//!                                     ◀── ready ─── waits for Start
//! ```
//! Everything of the host is opened before the fork and comes to the isolated process by descriptor, so that the isolated
//! process needs neither the host's mounts nor its rights.
//!
//! Read in this order: `namespaces` and `table`, `volumes` and `options`, then `inside` with what it uses: `mounts`, `targets`,
//! `copy_up`, `devices`, `hidden`, `process`, `seccomp`, `sysctl`, `network`. `link`, `gate` and `hooks` are for both processes.
//!
//! The process can be found at any moment: its pid is on disk ([`PID`]) before it goes on from the fork, and until it is ready it
//! also holds the lock of [`crate::build_lock`].

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use oci_spec::runtime::{ContainerState, Linux, Process, Spec};

use crate::cgroup::Cgroup;
use crate::guests::Guests;
use crate::record::{self, PID, Recorded};
use crate::rlimit::OpenFiles;
use crate::workload::Isolated;
use crate::{Create, Error, ProcessFds, Workload, limits, page_map, syscalls};

mod copy_up;
mod devices;
mod errors;
mod gate;
mod hidden;
mod hooks;
mod inside;
mod kernel;
mod link;
mod mounts;
pub mod namespaces;
mod network;
mod options;
pub mod process;
pub mod seccomp;
mod sysctl;
pub mod table;
mod targets;
pub mod users;
mod volumes;

use devices::Devices;
pub use errors::{Failed, Step};
use hooks::State;
use inside::Inside;
use link::{Parent, Report};
use mounts::RootTree;
use namespaces::Namespaces;
use sysctl::Sysctls;
use users::Maps;
use volumes::Volume;

/// An isolated process.
pub struct Made {
    /// Its pid.
    pub pid: Pid,
    /// Sender of its page map, if it gets one.
    pub page_map: Option<page_map::Sender>,
}

/// Makes the process of `spec` in `cgroup`, by `until`. `directory` is for the container's files.
pub fn isolate(
    request: &Create,
    mut spec: Spec,
    directory: &Path,
    fds: ProcessFds,
    guests: &Guests,
    cgroup: &Cgroup,
    until: Instant,
) -> Result<Made, Error> {
    let ProcessFds { stdio, guest, .. } = fds;
    let has_page_map = matches!(request.workload, Workload::Guest { page_map: true, .. });
    let (sender, receiver) = has_page_map.then(page_map::channel).transpose()?.unzip();
    let open_files = OpenFiles::withhold(&mut spec);
    let workload = Isolated::new(&request.workload, guests, guest, receiver, open_files)?;
    let opening = trace::span("open root and volumes");
    let isolation = Isolation::open(request, &spec, directory, cgroup, until)?;
    drop(opening);
    let pid = isolation.make(stdio, workload)?;
    Ok(Made { pid, page_map: sender })
}

/// Releases the process.
pub fn release(directory: &Path) -> Result<(), Failed> {
    gate::open(directory)
}

/// Releases the process, and runs the `poststart` hooks, by `until`.
pub fn start(recorded: Option<&Recorded>, directory: &Path, until: Instant) -> Result<(), Error> {
    release(directory)?;
    let Some(Recorded { record, spec }) = recorded else { return Ok(()) };
    let Some(hooks) = spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_ref()) else {
        return Ok(());
    };
    let (pid, state) = (record::pid(directory), State::new(&record.create, spec)?);
    Ok(state.run("poststart", Some(hooks), ContainerState::Running, pid, Some(until))?)
}

/// Runs the `poststop` hooks, if the process had been made: as runc does, even if Create failed later.
pub fn after(request: &Create, spec: &Spec, directory: &Path) -> Result<(), Error> {
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststop().as_ref());
    let Some(hooks) = hooks.filter(|_| directory.join(PID).exists()) else { return Ok(()) };
    let (status, until) = (ContainerState::Stopped, Instant::now() + limits::DELETE_TIME);
    Ok(State::new(request, spec)?.run("poststop", Some(hooks), status, None, Some(until))?)
}

/// Preparations of the request process before the fork.
struct Isolation<'a> {
    spec: &'a Spec,
    linux: &'a Linux,
    process: &'a Process,
    directory: &'a Path,
    cgroup: &'a Cgroup,
    namespaces: Namespaces,
    root: RootTree,
    volumes: Vec<Volume>,
    devices: Devices,
    sysctls: Option<Sysctls>,
    state: State<'a>,
    /// Files that the workload may neither change nor replace.
    fixed: &'a [String],
    /// When the process must be ready.
    until: Instant,
}

impl<'a> Isolation<'a> {
    fn open(
        request: &'a Create,
        spec: &'a Spec,
        directory: &'a Path,
        cgroup: &'a Cgroup,
        until: Instant,
    ) -> Result<Isolation<'a>, Error> {
        check(spec)?;
        kernel::check()?;
        let missing = |field: &str| Failed::new(Step::Spec(field.to_owned()), "it is missing");
        let linux = spec.linux().as_ref().ok_or_else(|| missing("linux"))?;
        let process = spec.process().as_ref().ok_or_else(|| missing("process"))?;
        let mut namespaces = Namespaces::open(spec)?;
        // Hooks are programs of the host, and some expect the container's root at its path on the host.
        let has_hooks = spec.hooks().as_ref().is_some_and(inside::run_outside);
        let in_short_table = !has_hooks && namespaces.with_short_table();
        let root = open_root(request, spec, linux, in_short_table)?;
        let label = linux.mount_label().as_deref().filter(|_| crate::spec::has_selinux());
        let of_root = before_volumes(linux);
        let mounts = spec.mounts().iter().flatten();
        let volumes = mounts.map(|mount| Volume::open(mount, label, of_root));
        let volumes = volumes.collect::<Result<Vec<_>, _>>()?;
        // No filter of devices is attached to a v2 cgroup. A guest cannot open any device there, because all its mounts are
        // `nodev`.
        if let Some(volume) = volumes.iter().find(|it| cgroup.is_v2() && it.receives_mounts()) {
            let step = Step::Mount(volume.at.clone(), volume.from.clone());
            let reason =
                "a guest cannot have mounts propagated to it on cgroup v2; allowed is private";
            return Err(Failed::new(step, reason).into());
        }
        let binds_devices = namespaces.has_user() && volumes.iter().any(Volume::is_dev);
        Ok(Isolation {
            devices: if binds_devices { Devices::open()? } else { Devices::default() },
            sysctls: Sysctls::open(linux)?,
            state: State::new(request, spec)?,
            fixed: request.workload.fixed(),
            spec,
            linux,
            process,
            directory,
            cgroup,
            namespaces,
            root,
            volumes,
            until,
        })
    }

    fn make(&self, stdio: [Option<OwnedFd>; 3], workload: Isolated) -> Result<Pid, Error> {
        let preparing = trace::span("cgroup");
        if !self.cgroup.by_systemd() {
            self.cgroup.make()?;
            self.limit()?;
        }
        drop(preparing);
        let gate = gate::Gate::make(self.directory)?;
        let (parent, child) = link::pair().map_err(Error::system("make a socket pair"))?;
        // A process that enters the container must not look into its first process, or through it at the node.
        nix::sys::prctl::set_dumpable(false).map_err(Error::system("hide from the container"))?;
        let into = self.cgroup.directory();
        let cloning = trace::span("clone");
        let Some(pid) = self.namespaces.clone(into.as_ref().map(AsFd::as_fd))? else {
            drop((parent, cloning));
            let inside = Inside {
                spec: self.spec,
                process: self.process,
                namespaces: &self.namespaces,
                root: &self.root,
                volumes: &self.volumes,
                devices: &self.devices,
                sysctls: self.sysctls.as_ref(),
                state: &self.state,
                stdio,
                gate,
                workload,
                fixed: self.fixed,
            };
            inside.run(child)
        };
        drop((child, cloning));
        self.accompany(pid, &parent).inspect_err(|_| {
            let _ = kill(pid, Signal::SIGKILL);
            let _ = waitpid(pid, None);
        })?;
        Ok(pid)
    }

    fn limit(&self) -> Result<(), Error> {
        self.cgroup.limit(&self.linux.resources().clone().unwrap_or_default())
    }

    /// Does what the isolated process cannot do itself, until that one is ready.
    fn accompany(&self, pid: Pid, parent: &Parent) -> Result<(), Error> {
        let path = self.directory.join(PID);
        fs::write(&path, pid.to_string())
            .map_err(Error::io(format!("write {}", path.display())))?;
        let moving = trace::span("enter the cgroup");
        self.place(pid)?;
        drop(moving);
        self.map_ids(pid)?;
        process::set_limits(pid, self.process.rlimits().as_deref().unwrap_or_default())?;
        if let Some(score) = self.process.oom_score_adj() {
            let set = fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string());
            set.map_err(Failed::at(Step::Property(format!("oom_score_adj {score}"))))?;
        }
        parent.go_on();
        let _waiting = trace::span("wait until it is isolated");
        loop {
            match parent.report_by(self.until)? {
                Report::Hooks => self.run_hooks(pid)?,
                _ => return Ok(()),
            }
            parent.go_on();
        }
    }

    fn place(&self, pid: Pid) -> Result<(), Error> {
        if self.cgroup.by_systemd() {
            let resources = self.linux.resources().clone().unwrap_or_default();
            self.cgroup.start_scope(pid, &resources, self.until)?;
            return self.limit();
        }
        // On v2 it begins in its cgroup, unless the kernel is older than 5.7.
        if self.cgroup.is_v2() && self.cgroup.pids()?.contains(&pid) {
            return Ok(());
        }
        self.cgroup.add(pid)
    }

    fn map_ids(&self, pid: Pid) -> Result<(), Failed> {
        let users = self.linux.uid_mappings().as_deref().unwrap_or_default();
        let groups = self.linux.gid_mappings().as_deref().unwrap_or_default();
        let maps = Maps { users, groups };
        let is_made = self.namespaces.makes(CloneFlags::CLONE_NEWUSER);
        if is_made {
            maps.write(pid)?;
        }
        let namespace = is_made.then(|| users::of(pid)).transpose()?;
        let own = namespace.as_ref().map(|namespace| (maps, namespace));
        self.volumes.iter().try_for_each(|volume| volume.map_ids(own))
    }

    fn run_hooks(&self, pid: Pid) -> Result<(), Failed> {
        let Some(hooks) = self.spec.hooks() else { return Ok(()) };
        for (kind, hooks) in
            [("prestart", hooks.prestart()), ("createRuntime", hooks.create_runtime())]
        {
            let status = ContainerState::Creating;
            self.state.run(kind, hooks.as_ref(), status, Some(pid), Some(self.until))?;
        }
        Ok(())
    }
}

/// Refuses parts of a spec that a guest's container cannot have.
fn check(spec: &Spec) -> Result<(), Failed> {
    let refuse = |field: &str, reason: &str| Err(Failed::new(Step::Spec(field.into()), reason));
    let Some(linux) = spec.linux() else { return Ok(()) };
    let has = |kind| linux.namespaces().iter().flatten().any(|namespace| namespace.typ() == kind);
    use oci_spec::runtime::LinuxNamespaceType as Kind;
    let is_some = |list: &Option<Vec<_>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let has_ids = is_some(linux.uid_mappings()) || is_some(linux.gid_mappings());
    match () {
        _ if !spec.version().starts_with("1.") => refuse("ociVersion", "allowed is 1"),
        _ if spec.hostname().is_some() && !has(Kind::Uts) => {
            refuse("hostname", "the container has the node's UTS namespace")
        }
        _ if spec.domainname().is_some() && !has(Kind::Uts) => {
            refuse("domainname", "the container has the node's UTS namespace")
        }
        _ if has_ids && !has(Kind::User) => {
            refuse("linux.uidMappings", "the container has the node's user namespace")
        }
        _ if linux.time_offsets().is_some() && !has(Kind::Time) => {
            refuse("linux.timeOffsets", "the container has the node's time namespace")
        }
        _ if linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()) => {
            refuse("linux.netDevices", "a guest is given no network devices")
        }
        _ if linux.memory_policy().is_some() => {
            refuse("linux.memoryPolicy", "it is not supported for guests")
        }
        _ if linux.intel_rdt().is_some() => {
            refuse("linux.intelRdt", "it is not supported for guests")
        }
        () => Ok(()),
    }
}

/// Propagation type that volumes have before their own, so that no volume receives more mounts from the node, or passes more on
/// to it, than the root's type allows. runc does the same: it gives that type to all mounts of the node first. Empty if the
/// volumes stay peers of the node's mounts.
fn before_volumes(linux: &Linux) -> MsFlags {
    match linux.rootfs_propagation().as_deref() {
        Some("shared" | "rshared") => MsFlags::empty(),
        Some("private" | "rprivate" | "unbindable" | "runbindable") => MsFlags::MS_PRIVATE,
        _ => MsFlags::MS_SLAVE,
    }
}

fn open_root(
    request: &Create,
    spec: &Spec,
    linux: &Linux,
    in_short_table: bool,
) -> Result<RootTree, Failed> {
    let missing = || Failed::new(Step::Spec("root".into()), "it is missing");
    let root = spec.root().as_ref().ok_or_else(missing)?;
    let failed = || Step::Root(root.path().clone());
    let path = fs::canonicalize(root.path()).map_err(Failed::at(failed()))?;
    let tree = if table::has_mounts_by_descriptor() {
        let tree = syscalls::open_tree(&path, true).map_err(Failed::at(failed()))?;
        let private = syscalls::Attributes {
            attr_set: libc::MOUNT_ATTR_NODEV,
            propagation: libc::MS_PRIVATE,
            ..syscalls::UNCHANGED
        };
        let changed = syscalls::set_attributes(tree.as_fd(), true, &private);
        changed.map_err(Failed::at(failed()))?;
        Some(tree)
    } else {
        None
    };
    Ok(RootTree {
        path,
        tree,
        in_short_table,
        is_read_only: root.readonly() == Some(true),
        no_pivot_root: request.no_pivot_root,
        propagation: match linux.rootfs_propagation().as_deref() {
            Some("shared" | "rshared") => Some(MsFlags::MS_SHARED),
            Some("unbindable" | "runbindable") => Some(MsFlags::MS_UNBINDABLE),
            _ => None,
        },
    })
}
