//! Steps of the isolated process itself, from the fork until it waits for Start, and afterwards.
//!
//! The order matters. Steps that need the rights of the container's root come first: names, mounts, the change of root. Then the
//! process becomes the container's user and drops capabilities. It loads the seccomp filter last, so that the filter need not
//! allow the other steps. The process is a copy of one with a single thread. It reports the first step that fails, and ends.

use std::os::fd::{OwnedFd, RawFd};

use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, getcwd, getpid, setsid};
use oci_spec::runtime::{ContainerState, Hooks, Process, Spec};

use super::devices::Devices;
use super::errors::{Failed, Step};
use super::gate::Gate;
use super::hooks::{Prepared, State};
use super::link::{Child, Report};
use super::mounts::{self, RootTree};
use super::namespaces::Namespaces;
use super::sysctl::Sysctls;
use super::targets::Root;
use super::volumes::Volume;
use super::{hidden, network, process, seccomp, users};
use crate::child::exit;
use crate::workload::Isolated;
use crate::{build_lock, inherit, keyring};

/// Exit code of a process that could not be isolated, or whose request process has ended.
const NOT_ISOLATED: i32 = 125;

/// Everything that the isolated process needs. All that is of the host was opened before the fork.
pub struct Inside<'a> {
    pub spec: &'a Spec,
    pub process: &'a Process,
    pub namespaces: &'a Namespaces,
    pub root: &'a RootTree,
    pub volumes: &'a [Volume],
    pub devices: &'a Devices,
    pub sysctls: Option<&'a Sysctls>,
    pub state: &'a State<'a>,
    pub stdio: [Option<OwnedFd>; 3],
    pub gate: Gate,
    pub workload: Isolated,
    /// Files that the workload may neither change nor replace.
    pub fixed: &'a [String],
}

impl<'a> Inside<'a> {
    /// Isolates this process, loads the workload, waits for Start, and runs the workload.
    pub fn run(mut self, link: Child) -> ! {
        trace::process("guest");
        // This name distinguishes it from the process that made it, until the workload sets another one.
        let _ = prctl::set_name(c"wasm-init");
        let hooks = match self.isolate(&link) {
            Ok(hooks) if link.send(&Report::Ready) => hooks,
            Ok(_) => exit(NOT_ISOLATED),
            Err(failed) => {
                link.send(&Report::Failed(failed));
                exit(NOT_ISOLATED)
            }
        };
        drop(link);
        // Hooks may change what the workload is given, so they come first.
        let workload = match hooks.is_empty() {
            true => Ok(self.workload.load()),
            false => Err(self.workload),
        };
        if self.gate.wait().is_err() {
            exit(NOT_ISOLATED)
        }
        let environment = self.process.env().as_deref().unwrap_or_default();
        // They have no time limit: like the workload, they run until they end or the container is ended.
        if let Err(failed) = hooks.run(environment, None) {
            // Start has answered by now, so the error goes to the container's log.
            eprintln!("{failed}");
            exit(NOT_ISOLATED)
        }
        workload.unwrap_or_else(Isolated::load).run()
    }

    /// Isolates this process. Returns the hooks for Start.
    fn isolate(&mut self, link: &Child) -> Result<Prepared<'a>, Failed> {
        wait(link);
        let outer = trace::span("namespaces, root and volumes");
        self.begin()?;
        let root = self.mount()?;
        drop(outer);
        if let Some(hooks) = self.spec.hooks().as_ref().filter(|hooks| run_outside(hooks)) {
            link.send(&Report::Hooks);
            wait(link);
            let (hooks, status) = (hooks.create_container().as_ref(), ContainerState::Creating);
            // When the time is up, the request process ends this one, and the hook with it.
            self.state.run("createContainer", hooks, status, Some(getpid()), None)?;
        }
        let _inner = trace::span("root, user and rights");
        self.root.enter(&root)?;
        self.spec.linux().as_ref().map_or(Ok(()), hidden::hide)?;
        hidden::fix(self.fixed)?;
        self.root.propagate()?;
        self.sysctls.map_or(Ok(()), Sysctls::set)?;
        if let Some(personality) =
            self.spec.linux().as_ref().and_then(|it| it.personality().as_ref())
        {
            process::set_personality(personality)?;
        }
        process::set_umask(self.process.user());
        let (spec, state) = (self.spec, self.state);
        let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.start_container().as_ref());
        let status = ContainerState::Created;
        let hooks = state.prepare("startContainer", hooks, status, Some(getpid()))?;
        self.confine(link, &hooks)?;
        self.workload.ready().map_err(Failed::at(Step::Property("signals".into())))?;
        Ok(hooks)
    }

    /// First steps: keyring, user, session, stdio, names and network.
    fn begin(&mut self) -> Result<(), Failed> {
        // This must come before the change of user, because users other than root may only have few keyrings (keyrings(7)).
        keyring::leave().map_err(Failed::at(Step::Property("session keyring".into())))?;
        if self.namespaces.makes(CloneFlags::CLONE_NEWUSER) {
            users::become_root().map_err(Failed::at(Step::MapIds))?;
        }
        if self.namespaces.makes(CloneFlags::CLONE_NEWCGROUP) {
            unshare(CloneFlags::CLONE_NEWCGROUP).map_err(Failed::at(Step::Clone))?;
        }
        setsid().map_err(Failed::at(Step::Property("session".into())))?;
        self.process.io_priority().as_ref().map_or(Ok(()), process::set_io_priority)?;
        self.process.scheduler().as_ref().map_or(Ok(()), process::set_scheduler)?;
        process::connect_stdio(std::mem::take(&mut self.stdio))
            .map_err(Failed::at(Step::Property("stdin, stdout and stderr".into())))?;
        if self.namespaces.makes(CloneFlags::CLONE_NEWUTS) {
            self.take_names()?;
        }
        if self.namespaces.makes(CloneFlags::CLONE_NEWNET) {
            network::start_loopback()?;
        }
        prctl::set_no_new_privs().map_err(Failed::at(Step::Property("no_new_privs".into())))
    }

    fn take_names(&self) -> Result<(), Failed> {
        if let Some(name) = self.spec.hostname() {
            network::set_host_name(name).map_err(Failed::at(Step::HostName(name.clone())))?;
        }
        if let Some(name) = self.spec.domainname() {
            network::set_domain_name(name).map_err(Failed::at(Step::HostName(name.clone())))?;
        }
        Ok(())
    }

    /// Mounts the root and all volumes. The umask is 0, so that mount points get the modes that they are made with.
    fn mount(&self) -> Result<OwnedFd, Failed> {
        umask(Mode::empty());
        let root = self.root.attach()?;
        let inside = Root::new(&root);
        for volume in self.volumes {
            volume.attach(inside)?;
            if volume.is_dev() {
                self.devices.make(inside)?;
            }
        }
        if self.root.tree.is_none() {
            mounts::forbid_devices(&self.root.path)?;
        }
        for volume in self.volumes {
            volume.protect(inside)?;
        }
        // An image's working directory may not exist. It is made, as by runc. If that fails, for example because the root cannot
        // be written, entering it reports the error.
        let _ = inside.directory(self.process.cwd());
        self.root.protect(&root)?;
        Ok(root)
    }

    fn confine(&self, link: &Child, hooks: &Prepared<'_>) -> Result<(), Failed> {
        let directory = self.process.cwd();
        // First with the rights of the container's root, then with those of the user: either may be needed.
        let entered = chdir(directory);
        process::become_user(self.process.user())?;
        self.close(link, hooks).map_err(Failed::at(Step::Property("descriptors".into())))?;
        let Some(capabilities) = self.process.capabilities() else {
            return Err(Failed::new(Step::Capabilities, "the spec names none to keep"));
        };
        process::drop_capabilities(capabilities)?;
        // The working directory must be inside the container's root.
        let entered = entered.or_else(|_| chdir(directory)).and_then(|()| getcwd().map(drop));
        entered.map_err(Failed::at(Step::WorkingDirectory(directory.clone())))?;
        seccomp::load(self.spec)
    }

    /// Closes all descriptors but the workload's. From here on the process can be found by its pid and its cgroup.
    fn close(&self, link: &Child, hooks: &Prepared<'_>) -> nix::Result<()> {
        build_lock::release();
        let own = [link.descriptor(), self.gate.descriptor()];
        let kept = self.workload.descriptors().into_iter().chain(own).chain(hooks.descriptors());
        inherit::close_unlisted(&kept.collect::<Vec<RawFd>>())
    }
}

/// Whether there are hooks between the mounts and the change of root.
pub fn run_outside(hooks: &Hooks) -> bool {
    let is_some = |hooks: &Option<Vec<_>>| hooks.as_ref().is_some_and(|hooks| !hooks.is_empty());
    is_some(hooks.prestart())
        || is_some(hooks.create_runtime())
        || is_some(hooks.create_container())
}

/// Waits for the request process. Ends this process if that one has ended.
fn wait(link: &Child) {
    if !link.wait() {
        exit(NOT_ISOLATED)
    }
}
