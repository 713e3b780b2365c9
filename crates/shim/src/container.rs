//! One container of the Pod: its processes, and what must be removed at its end.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use containerd_shim::protos::events::task::TaskIO;
use grants::Grants;
use nix::unistd::Pid;
use oci_spec::image::Descriptor;
use oci_spec::runtime;
use sandbox::cgroup::Cgroup;
use sandbox::pidfd::Ticks;
use sandbox::{Kind, Members};
use serde_json::Value;

use crate::errors::Error;
use crate::events::Events;
use crate::lifecycle::KILLED;
use crate::oom::OomKills;
use crate::options::Options;
use crate::process::Process;

/// How long the exit event of a container waits for those of its exec processes. They are killed with the container, but it
/// may take a while until their output is read.
const EXECS_END: Duration = Duration::from_secs(5);

/// Parts of a container that was created.
pub struct Parts {
    /// Id of the container in containerd.
    pub id: String,
    /// The OCI bundle.
    pub bundle: PathBuf,
    /// Mount point of the snapshot.
    pub rootfs: PathBuf,
    /// The first process.
    pub first: Arc<Process>,
    /// Cgroup of its processes.
    pub cgroup: Cgroup,
    /// Its processes in the cgroup; `None` if the first process was killed before Create ended.
    pub members: Option<Members>,
    /// Whether its pid namespace ends with it.
    pub own_pid_namespace: bool,
    /// Kind of its workload.
    pub kind: Kind,
    /// Whether there are hooks to run after its start.
    pub has_poststart_hooks: bool,
    /// Wasm layers of its guest.
    pub layers: Vec<Descriptor>,
    /// The runtime options of its Create.
    pub options: Options,
    /// What its guest may do, as it was when the container was created. `None` for others than guests.
    pub grants: Option<Grants>,
}

/// An exec process, before and after its start.
#[derive(Clone)]
pub struct Exec {
    /// Process of the request, as far as this shim knows its fields.
    pub spec: Arc<runtime::Process>,
    /// Process of the request, with all fields.
    pub json: Arc<Value>,
    /// The process itself.
    pub process: Arc<Process>,
}

/// A container of this shim.
pub struct Container {
    parts: Parts,
    execs: Mutex<HashMap<String, Exec>>,
    /// Whether containerd has asked to kill it.
    kill_was_asked: AtomicBool,
}

impl Container {
    /// A created container, whose first process waits for Start.
    pub fn new(parts: Parts) -> Container {
        Container { parts, execs: Mutex::default(), kill_was_asked: AtomicBool::default() }
    }

    /// Id of the container in containerd.
    pub fn id(&self) -> &str {
        &self.parts.id
    }

    /// The OCI bundle.
    pub fn bundle(&self) -> &Path {
        &self.parts.bundle
    }

    /// Mount point of the snapshot.
    pub fn rootfs(&self) -> &Path {
        &self.parts.rootfs
    }

    /// The first process.
    pub fn first(&self) -> &Arc<Process> {
        &self.parts.first
    }

    /// The cgroup of all its processes.
    pub fn cgroup(&self) -> &Cgroup {
        &self.parts.cgroup
    }

    /// Notes that containerd asks to kill it, so that its end is not taken for one by the kernel.
    pub fn kill_is_asked(&self) {
        self.kill_was_asked.store(true, Ordering::Relaxed);
    }

    /// Sends a signal to all its processes.
    pub fn signal_all(&self, signal: i32) -> Result<(), Error> {
        match self.parts.members {
            Some(members) => Ok(members.signal(self.cgroup(), signal)?),
            None => self.first().signal(signal),
        }
    }

    /// The runtime options of its Create.
    pub fn options(&self) -> &Options {
        &self.parts.options
    }

    /// What its guest may do, as it was when the container was created. `None` for others than guests.
    pub fn grants(&self) -> Option<&Grants> {
        self.parts.grants.as_ref()
    }

    /// Kills processes in the container that were left by a killed call of the OCI runtime, which began `then` to execute `args`.
    /// To be called when no exec process is being made.
    pub fn kill_strays(&self, then: Ticks, args: &[String]) {
        let Some(members) = self.parts.members else { return };
        if let Err(error) = members.kill_strays(then, args, |pid| self.claims(pid)) {
            log::warn!("container {}: {error}", self.id());
        }
    }

    /// Kind of its workload.
    pub fn kind(&self) -> Kind {
        self.parts.kind
    }

    /// Whether there are hooks to run after its start (OCI runtime spec, "POSIX-platform Hooks").
    pub fn has_poststart_hooks(&self) -> bool {
        self.parts.has_poststart_hooks
    }

    /// Wasm layers of its guest; empty if the guest is a file.
    pub fn layers(&self) -> &[Descriptor] {
        &self.parts.layers
    }

    /// Stdio of the first process, for events.
    pub fn task_io(&self) -> TaskIO {
        let stdio = self.first().stdio().clone();
        TaskIO {
            stdin: stdio.stdin,
            stdout: stdio.stdout,
            stderr: stdio.stderr,
            terminal: stdio.terminal,
            ..Default::default()
        }
    }

    /// The first process, or the exec process of that id.
    pub fn process(&self, exec_id: &str) -> Result<Arc<Process>, Error> {
        if exec_id.is_empty() {
            return Ok(self.first().clone());
        }
        Ok(self.exec(exec_id)?.process)
    }

    /// Exec process of that id.
    pub fn exec(&self, id: &str) -> Result<Exec, Error> {
        self.execs().get(id).cloned().ok_or_else(|| Error::NoSuchExec(id.to_owned()))
    }

    /// All its processes that were started through this shim.
    pub fn processes(&self) -> Vec<Arc<Process>> {
        let executed = self.execs().values().map(|exec| exec.process.clone()).collect::<Vec<_>>();
        [self.first().clone()].into_iter().chain(executed).collect()
    }

    /// Adds an exec process, which is started later.
    ///
    /// # Errors
    /// [`Error::Exists`] if the id is in use.
    pub fn add(&self, id: &str, exec: Exec) -> Result<(), Error> {
        match self.execs().entry(id.to_owned()) {
            Entry::Occupied(_) => Err(Error::Exists(id.to_owned())),
            Entry::Vacant(vacant) => {
                vacant.insert(exec);
                Ok(())
            }
        }
    }

    /// Forgets the exec process of that id.
    pub fn forget(&self, id: &str) {
        self.execs().remove(id);
    }

    /// Whether the process is one of its own whose watcher has not reaped it yet.
    pub fn claims(&self, pid: Pid) -> bool {
        self.first().claims(pid) || self.execs().values().any(|exec| exec.process.claims(pid))
    }

    /// Waits for the end of the first process, ends those that it left, and publishes the exit, once.
    pub async fn watch(self: Arc<Container>, events: Events) {
        let mut kills = OomKills::of(self.id(), self.cgroup(), &events);
        let code = tokio::select! {
            code = self.first().ended() => code,
            never = kills.publish() => match never {},
        };
        kills.publish_last(code == KILLED && !self.kill_was_asked.load(Ordering::Relaxed)).await;
        self.end_the_others().await;
        self.first().drain().await;
        if tokio::time::timeout(EXECS_END, self.execs_end()).await.is_err() {
            log::warn!("container {}: ended before what is executed in it", self.id());
        }
        self.first().finish(self.id(), self.id(), code, &events).await;
    }

    /// Waits for the end of an exec process, and publishes its exit.
    pub async fn watch_exec(self: Arc<Container>, id: String, exec: Exec, events: Events) {
        let code = exec.process.ended().await;
        exec.process.drain().await;
        exec.process.finish(self.id(), &id, code, &events).await;
    }

    /// Waits until the exits of all exec processes are published, because they must come before the container's.
    async fn execs_end(&self) {
        let started = |exec: &&Exec| exec.process.pid().is_some();
        let execs: Vec<Exec> = self.execs().values().filter(started).cloned().collect();
        for exec in execs {
            exec.process.wait().await;
        }
    }

    /// Ends the other processes, if the pid namespace is shared: they do not end with the first process by themselves.
    async fn end_the_others(self: &Arc<Container>) {
        if self.parts.own_pid_namespace {
            return;
        }
        let (container, Some(members)) = (self.clone(), self.parts.members) else { return };
        let killed = tokio::task::spawn_blocking(move || members.kill(container.cgroup())).await;
        if let Ok(Err(error)) = killed {
            log::warn!("container {}: {error}", self.id());
        }
    }

    fn execs(&self) -> MutexGuard<'_, HashMap<String, Exec>> {
        // A panic cannot leave it half changed: each use inserts, removes or reads once.
        self.execs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
