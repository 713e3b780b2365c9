//! One container of the Pod: its process, its lifecycle, and what must be taken away at the end.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use containerd_shim::protos::events::task::{TaskExit, TaskIO};
use nix::unistd::Pid;
use sandbox::cgroup::Cgroup;
use sandbox::pidfd::PidFd;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex as AsyncMutex, watch};

use crate::errors::Error;
use crate::events::{Events, timestamp};
use crate::lifecycle::{Exit, Lifecycle, State};
use crate::oom::OomKills;
use crate::stdio::{Kept, Paths};

/// 2 s for the 64 KiB a fifo holds: who is there reads them in milliseconds.
const DRAIN_TRIES: u32 = 1000;
const DRAIN_PAUSE: Duration = Duration::from_millis(2);

/// The process that builds a container ends right after its answer; under load that may take a while.
const ADOPTION_TRIES: u32 = 5000;
const ADOPTION_PAUSE: Duration = Duration::from_millis(1);

/// What a container is made of, once Create has succeeded.
pub struct Parts {
    /// containerd's id.
    pub id: String,
    /// The OCI bundle.
    pub bundle: PathBuf,
    /// Where the snapshot is mounted.
    pub rootfs: PathBuf,
    /// The first process.
    pub process: PidFd,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Whether it runs in Wasmtime.
    pub is_guest: bool,
    /// Whether its pid namespace ends with it.
    pub own_pid_namespace: bool,
    /// As containerd gave them.
    pub stdio: Paths,
    /// The shim's ends of the stdio.
    pub kept: Kept,
}

/// A container of this shim.
pub struct Container {
    parts: Parts,
    lifecycle: Mutex<Lifecycle>,
    kept: Mutex<Kept>,
    exit: watch::Sender<Option<Exit>>,
    /// Held while Start, Pause or Resume is carried out, so that an exit is told after it.
    pub starting: AsyncMutex<()>,
}

impl Container {
    /// A created container, whose first process waits for Start.
    pub fn new(mut parts: Parts) -> Container {
        let kept = Mutex::new(std::mem::take(&mut parts.kept));
        Container {
            parts,
            kept,
            lifecycle: Mutex::new(Lifecycle::created()),
            exit: watch::Sender::new(None),
            starting: AsyncMutex::new(()),
        }
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

    /// The first process, by number.
    pub fn pid(&self) -> Pid {
        self.parts.process.pid()
    }

    /// The first process.
    pub fn process(&self) -> &PidFd {
        &self.parts.process
    }

    /// The cgroup of all its processes.
    pub fn cgroup(&self) -> &Cgroup {
        &self.parts.cgroup
    }

    /// Whether it runs in Wasmtime.
    pub fn is_guest(&self) -> bool {
        self.parts.is_guest
    }

    /// As containerd gave them.
    pub fn stdio(&self) -> &Paths {
        &self.parts.stdio
    }

    /// The same, as events have it.
    pub fn task_io(&self) -> TaskIO {
        let Paths { stdin, stdout, stderr } = self.parts.stdio.clone();
        TaskIO { stdin, stdout, stderr, ..Default::default() }
    }

    /// The state, and what may follow it.
    pub fn lifecycle(&self) -> MutexGuard<'_, Lifecycle> {
        // A panic cannot leave it half changed: its methods assign once.
        self.lifecycle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client has closed its end of stdin.
    pub fn close_stdin(&self) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).close_stdin();
    }

    /// Whether this container's first process is still to be reaped by its own watcher.
    pub fn claims(&self, pid: Pid) -> bool {
        self.pid() == pid && !matches!(self.lifecycle().state(), State::Stopped(_))
    }

    /// Waits for the end of the first process.
    pub async fn wait(&self) -> Exit {
        let mut exits = self.exit.subscribe();
        loop {
            if let Some(exit) = *exits.borrow_and_update() {
                return exit;
            }
            // The sender is part of self: it cannot be gone.
            let _ = exits.changed().await;
        }
    }

    /// Waits for the first process to end, ends those it left, and tells everyone, once.
    pub async fn watch(self: Arc<Container>, events: Events) {
        let mut kills = OomKills::of(self.id(), self.cgroup(), &events);
        let ended = tokio::select! {
            ended = self.ended() => ended,
            never = kills.tell() => match never {},
        };
        kills.tell_the_last().await;
        let code = match ended {
            Ok(code) => code,
            Err(error) => {
                log::error!("container {}: {error}", self.id());
                u8::MAX
            }
        };
        self.end_the_others().await;
        self.drain_stdio().await;
        let _started = self.starting.lock().await;
        let exit = Exit { code, at: SystemTime::now() };
        if !self.lifecycle().exited(exit) {
            return;
        }
        events.publish(TaskExit {
            container_id: self.id().into(),
            id: self.id().into(),
            pid: self.pid().as_raw() as u32,
            exit_status: code.into(),
            exited_at: Some(timestamp(exit.at)).into(),
            ..Default::default()
        });
        self.exit.send_replace(Some(exit));
    }

    /// Waits until containerd has read what the container wrote, but not for long: it may be away. Some
    /// versions (1.6.20) close their end as soon as they hear of the exit, and lose what is still in the fifo.
    async fn drain_stdio(&self) {
        for _ in 0..DRAIN_TRIES {
            if self.kept.lock().unwrap_or_else(PoisonError::into_inner).is_drained() {
                return;
            }
            tokio::time::sleep(DRAIN_PAUSE).await;
        }
        log::warn!("container {}: nobody has read the last of its output yet", self.id());
    }

    async fn ended(&self) -> Result<u8, Error> {
        let fd = self.parts.process.as_fd().try_clone_to_owned();
        #[expect(
            deprecated,
            reason = "unsound for types that give another descriptor later; OwnedFd does not"
        )]
        let fd = fd.and_then(AsyncFd::new).map_err(Error::io("watch a process"))?;
        let mut ready = fd.readable().await.map_err(Error::io("watch a process"))?;
        ready.retain_ready();
        // It has ended, but becomes this process's child only when the one that built it has ended too.
        for _ in 0..ADOPTION_TRIES {
            if let Some(code) = self.parts.process.try_wait()? {
                return Ok(code);
            }
            tokio::time::sleep(ADOPTION_PAUSE).await;
        }
        Err(sandbox::Error::Gone { process: "container" }.into())
    }

    /// Where the pid namespace is shared, nothing ends with the first process by itself.
    async fn end_the_others(self: &Arc<Container>) {
        if self.parts.own_pid_namespace {
            return;
        }
        let container = self.clone();
        let killed = tokio::task::spawn_blocking(move || container.cgroup().kill()).await;
        if let Ok(Err(error)) = killed {
            log::warn!("container {}: {error}", self.id());
        }
    }
}
