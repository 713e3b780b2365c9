//! One container of the Pod: its processes, and what must be taken away at the end.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use containerd_shim::protos::events::task::TaskIO;
use nix::unistd::Pid;
use oci_spec::image::Descriptor;
use oci_spec::runtime;
use sandbox::cgroup::Cgroup;
use sandbox::pidfd::Ticks;
use sandbox::{Kind, Members};
use serde_json::Value;

use crate::errors::Error;
use crate::events::Events;
use crate::oom::OomKills;
use crate::options::Options;
use crate::process::Process;

/// How long the end of a container is not told yet, because that of a process executed in it is not. It is killed
/// with the container; its output may take a while to be read.
const EXECS_END: Duration = Duration::from_secs(5);

/// What a container is made of, once Create has succeeded.
pub struct Parts {
    /// containerd's id.
    pub id: String,
    /// The OCI bundle.
    pub bundle: PathBuf,
    /// Where the snapshot is mounted.
    pub rootfs: PathBuf,
    /// The first process.
    pub first: Arc<Process>,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Its processes in the cgroup; `None` if the first process was killed before Create ended.
    pub members: Option<Members>,
    /// Whether its pid namespace ends with it.
    pub own_pid_namespace: bool,
    /// What its first process is.
    pub kind: Kind,
    /// The wasm layers that its guest is made of.
    pub layers: Vec<Descriptor>,
    /// The runtime options of its Create.
    pub options: Options,
}

/// A process that was, or is to be, executed in a container.
#[derive(Clone)]
pub struct Exec {
    /// What containerd asked for, as far as it is understood here.
    pub spec: Arc<runtime::Process>,
    /// All of it.
    pub json: Arc<Value>,
    /// The process, once it is started.
    pub process: Arc<Process>,
}

/// A container of this shim.
pub struct Container {
    parts: Parts,
    execs: Mutex<HashMap<String, Exec>>,
}

impl Container {
    /// A created container, whose first process waits for Start.
    pub fn new(parts: Parts) -> Container {
        Container { parts, execs: Mutex::default() }
    }

    /// containerd's id.
    pub fn id(&self) -> &str {
        &self.parts.id
    }

    /// The OCI bundle.
    pub fn bundle(&self) -> &Path {
        &self.parts.bundle
    }

    /// Where the snapshot is mounted.
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

    /// Kills what a call of the OCI runtime that began `then`, was to execute `args` and was killed has left in it. To be called
    /// when nothing is being executed in a container.
    pub fn kill_strays(&self, then: Ticks, args: &[String]) {
        let Some(members) = self.parts.members else { return };
        if let Err(error) = members.kill_strays(then, args, |pid| self.claims(pid)) {
            log::warn!("container {}: {error}", self.id());
        }
    }

    /// What its first process is.
    pub fn kind(&self) -> Kind {
        self.parts.kind
    }

    /// The wasm layers that its guest is made of; none of what is a file.
    pub fn layers(&self) -> &[Descriptor] {
        &self.parts.layers
    }

    /// The stdio of the first process, as events have it.
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

    /// The first process, or the one executed under that id.
    pub fn process(&self, exec_id: &str) -> Result<Arc<Process>, Error> {
        if exec_id.is_empty() {
            return Ok(self.first().clone());
        }
        Ok(self.exec(exec_id)?.process)
    }

    /// What was executed under that id.
    pub fn exec(&self, id: &str) -> Result<Exec, Error> {
        self.execs().get(id).cloned().ok_or_else(|| Error::NoSuchExec(id.to_owned()))
    }

    /// All its processes that were started through this shim.
    pub fn processes(&self) -> Vec<Arc<Process>> {
        let executed = self.execs().values().map(|exec| exec.process.clone()).collect::<Vec<_>>();
        [self.first().clone()].into_iter().chain(executed).collect()
    }

    /// Notes a process that is to be executed.
    ///
    /// # Errors
    /// [`Error::Exists`] when the id is in use.
    pub fn add(&self, id: &str, exec: Exec) -> Result<(), Error> {
        match self.execs().entry(id.to_owned()) {
            Entry::Occupied(_) => Err(Error::Exists(id.to_owned())),
            Entry::Vacant(vacant) => {
                vacant.insert(exec);
                Ok(())
            }
        }
    }

    /// Forgets what was executed under that id.
    pub fn forget(&self, id: &str) {
        self.execs().remove(id);
    }

    /// Whether one of its processes is still to be reaped by its own watcher.
    pub fn claims(&self, pid: Pid) -> bool {
        self.first().claims(pid) || self.execs().values().any(|exec| exec.process.claims(pid))
    }

    /// Waits for the first process to end, ends those it left, and tells everyone, once.
    pub async fn watch(self: Arc<Container>, events: Events) {
        let mut kills = OomKills::of(self.id(), self.cgroup(), &events);
        let code = tokio::select! {
            code = self.first().ended() => code,
            never = kills.tell() => match never {},
        };
        kills.tell_the_last().await;
        self.end_the_others().await;
        self.first().drain().await;
        if tokio::time::timeout(EXECS_END, self.execs_end()).await.is_err() {
            log::warn!("container {}: ended before what is executed in it", self.id());
        }
        self.first().finish(self.id(), self.id(), code, &events).await;
    }

    /// The same for a process that was executed.
    pub async fn watch_exec(self: Arc<Container>, id: String, exec: Exec, events: Events) {
        let code = exec.process.ended().await;
        exec.process.drain().await;
        exec.process.finish(self.id(), &id, code, &events).await;
    }

    /// containerd is told of their ends before it is told of the container's.
    async fn execs_end(&self) {
        let started = |exec: &&Exec| exec.process.pid().is_some();
        let execs: Vec<Exec> = self.execs().values().filter(started).cloned().collect();
        for exec in execs {
            exec.process.wait().await;
        }
    }

    /// Where the pid namespace is shared, nothing ends with the first process by itself.
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
