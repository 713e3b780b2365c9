//! The first process of a program's container, made by libcontainer's own steps up to the point where it waits for Start.
//!
//! libcontainer's builder is not used, because when it fails it kills every process in the cgroup and removes the cgroup,
//! although other containers may be in it. [`crate::destroy`] alone cleans up after a failure.
//!
//! The process can be found at any moment. Its pid is on disk ([`PID`]) before it continues from the fork: it waits for the
//! answer to its request to run hooks, which we have it send even if there are no hooks. Until it is ready it also holds
//! the lock of [`crate::building`].

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcgroups::common::CgroupConfig;
use libcontainer::apparmor;
use libcontainer::config::YoukiConfig;
use libcontainer::container::{Container, ContainerStatus};
use libcontainer::error::{ErrInvalidSpec, LibcontainerError, MissingSpecError};
use libcontainer::notify_socket::{NOTIFY_FILE, NotifyListener};
use libcontainer::process::args::{ContainerArgs, ContainerType};
use libcontainer::process::container_main_process::container_main_process;
use libcontainer::process::intel_rdt::setup_intel_rdt;
use libcontainer::syscall::syscall::{SyscallType, create_syscall};
use libcontainer::user_ns::UserNamespaceConfig;
use libcontainer::validator::Validator;
use libcontainer::workload::Executor;
use libcontainer::{tty, utils};
use nix::unistd::Pid;
use oci_spec::runtime::{Hooks, Spec};

use crate::console::Console;
use crate::errors::explain;
use crate::isolate::PID;
use crate::request::Given;
use crate::rlimit::Descriptors;
use crate::workload::Linux;
use crate::{Create, Error};

/// Makes the process of `spec` and returns its pid. Its state files go to `directory`.
pub fn build(
    request: &Create,
    mut spec: Spec,
    directory: &Path,
    fds: Vec<OwnedFd>,
    systemd: bool,
) -> Result<Pid, Error> {
    let Given { stdio, console, .. } = Given::take(request.stdio, request.console, fds)?;
    let console = console.map(|fd| Console::listen(directory, fd)).transpose()?;
    let descriptors = Descriptors::withhold(&mut spec);
    let executor = Box::new(Linux { descriptors });
    if spec.hooks().is_none() {
        spec.set_hooks(Some(Hooks::default()));
    }
    let socket = console.as_ref().map(|console| console.path.as_path());
    let building = Building { request, directory, systemd };
    let made = building.make(spec, stdio, socket, executor);
    let pid = made.map_err(|error| explain(&error))?;
    if let Some(console) = console {
        console.forward()?;
    }
    Ok(pid)
}

/// A container that is being built.
struct Building<'a> {
    request: &'a Create,
    directory: &'a Path,
    systemd: bool,
}

impl Building<'_> {
    fn make(
        &self,
        spec: Spec,
        stdio: [Option<OwnedFd>; 3],
        console: Option<&Path>,
        executor: Box<dyn Executor>,
    ) -> Result<Pid, LibcontainerError> {
        validate(&spec)?;
        let mut container = self.begin(&spec)?;
        let args = self.args(spec, &stdio, console, executor, &container)?;
        prepare_this_process(&args.spec)?;
        let pid = container_main_process(&args)?;
        let linux = args.spec.linux().as_ref();
        if let Some(cache) = linux.and_then(|linux| linux.intel_rdt().as_ref()) {
            let (own, monitoring) = setup_intel_rdt(Some(&self.request.id), &pid, cache)?;
            container.set_intel_rdt_dir(own).set_intel_rdt_monitoring_dir(monitoring);
        }
        container.set_status(ContainerStatus::Created).set_creator(0).set_pid(pid.as_raw());
        container.save()?;
        Ok(Pid::from_raw(pid.as_raw()))
    }

    /// libcontainer's record of the container.
    fn begin(&self, spec: &Spec) -> Result<Container, LibcontainerError> {
        let root = self.root();
        fs::create_dir(&root).map_err(LibcontainerError::OtherIO)?;
        let (id, creating) = (&self.request.id, ContainerStatus::Creating);
        let mut container = Container::new(id, creating, None, self.directory, &root)?;
        container.set_systemd(self.systemd).set_annotations(spec.annotations().clone());
        container.save()?;
        YoukiConfig::from_spec(spec, id)?.save(&root)?;
        Ok(container)
    }

    fn args(
        &self,
        spec: Spec,
        stdio: &[Option<OwnedFd>; 3],
        console: Option<&Path>,
        executor: Box<dyn Executor>,
        container: &Container,
    ) -> Result<ContainerArgs, LibcontainerError> {
        let root = self.root();
        let rootfs = spec.root().as_ref().ok_or(MissingSpecError::Root)?.path();
        let rootfs = fs::canonicalize(rootfs).map_err(LibcontainerError::OtherIO)?;
        let console = console.map(|it| tty::setup_console_socket(&root, it, "console-socket"));
        let linux = spec.linux().as_ref().ok_or(MissingSpecError::Linux)?;
        let cgroup_config = CgroupConfig {
            cgroup_path: utils::get_cgroup_path(linux.cgroups_path(), &self.request.id),
            systemd_cgroup: self.systemd,
            container_name: self.request.id.clone(),
        };
        let fd = |stream: usize| stdio[stream].as_ref().map(AsRawFd::as_raw_fd);
        Ok(ContainerArgs {
            container_type: ContainerType::InitContainer,
            syscall: SyscallType::Linux,
            rootfs,
            // Closed when this process ends.
            console_socket: console.transpose()?.map(std::os::fd::IntoRawFd::into_raw_fd),
            notify_listener: NotifyListener::new(&root.join(NOTIFY_FILE))?,
            preserve_fds: 0,
            container: Some(container.clone()),
            user_ns_config: UserNamespaceConfig::new(&spec)?,
            cgroup_config,
            detached: true,
            executor,
            no_pivot: self.request.no_pivot_root,
            stdin: fd(0),
            stdout: fd(1),
            stderr: fd(2),
            as_sibling: false,
            pid_file: Some(self.directory.join(PID)),
            spec: Rc::new(spec),
        })
    }

    fn root(&self) -> PathBuf {
        self.directory.join(&self.request.id)
    }
}

/// Refuses a spec that cannot be carried out, before there is a process.
fn validate(spec: &Spec) -> Result<(), LibcontainerError> {
    if !spec.version().starts_with("1.") {
        return Err(ErrInvalidSpec::UnsupportedVersion.into());
    }
    Validator::validate_spec(spec)?;
    let profile = spec.process().as_ref().and_then(|process| process.apparmor_profile().as_ref());
    if profile.is_some() && !apparmor::is_enabled().map_err(LibcontainerError::OtherIO)? {
        return Err(ErrInvalidSpec::AppArmorNotEnabled.into());
    }
    let syscall = create_syscall();
    utils::validate_spec_for_new_user_ns(spec, syscall.as_ref())?;
    Ok(utils::validate_spec_for_net_devices(spec, syscall.as_ref())?)
}

/// Sets what the container's processes inherit: their `oom_score_adj`, and that processes in a namespace that they join
/// cannot trace them. In this order, because `/proc/self` is not writable in a process that is not dumpable.
fn prepare_this_process(spec: &Spec) -> Result<(), LibcontainerError> {
    let process = spec.process().as_ref().ok_or(MissingSpecError::Process)?;
    if let Some(score) = process.oom_score_adj() {
        fs::write("/proc/self/oom_score_adj", score.to_string())
            .map_err(LibcontainerError::OtherIO)?;
    }
    nix::sys::prctl::set_dumpable(false).map_err(|errno| LibcontainerError::OtherIO(errno.into()))
}
