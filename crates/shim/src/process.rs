//! One process of a container: an exec process, or the first process, with which the container ends.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use containerd_shim::protos::events::task::TaskExit;
use nix::unistd::Pid;
use sandbox::console::Size;
use sandbox::pidfd::PidFd;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::{Instant, sleep};

use crate::errors::Error;
use crate::events::{Events, timestamp};
use crate::lifecycle::{Exit, Lifecycle, Refusal, State};
use crate::ready::ready_fd;
use crate::stdio::{Paths, ShimEnds};

/// How long the shim waits for the output of an ended process to be read (2 s as in runc's shim), and how often it checks.
const READ_WITHIN: Duration = Duration::from_secs(2);
const READ_PAUSE: Duration = Duration::from_millis(2);

/// If no byte is read for this long, there is no reader: a reader empties a fifo of 64 KiB in milliseconds.
const READS_WITHIN: Duration = Duration::from_millis(250);

/// How often, and after which pause, to check whether the request process has ended, so that its child is adopted. It ends right
/// after its answer, but may take a while under load.
const ADOPTION_TRIES: u32 = 5000;
const ADOPTION_PAUSE: Duration = Duration::from_millis(1);

/// A start that has begun. If it is dropped before it has succeeded, the process can be started again.
pub struct Start<'a> {
    process: &'a Process,
}

impl Start<'_> {
    /// The process runs.
    pub fn succeeded(self) {
        self.process.lifecycle().started();
    }
}

impl Drop for Start<'_> {
    fn drop(&mut self) {
        self.process.lifecycle().start_failed();
    }
}

/// A process of a container.
pub struct Process {
    stdio: Paths,
    child: OnceLock<PidFd>,
    is_guest: AtomicBool,
    shim_ends: Mutex<ShimEnds>,
    /// Whether CloseIO came, which may be while the process is still being made.
    stdin_closed: AtomicBool,
    lifecycle: Mutex<Lifecycle>,
    exit: watch::Sender<Option<Exit>>,
    /// Held by Start, Pause and Resume, so that an exit is published after them.
    pub transition: AsyncMutex<()>,
}

impl Process {
    /// A process that is not made yet.
    pub fn new(stdio: Paths) -> Process {
        Process {
            stdio,
            child: OnceLock::new(),
            is_guest: AtomicBool::new(false),
            shim_ends: Mutex::default(),
            stdin_closed: AtomicBool::new(false),
            lifecycle: Mutex::new(Lifecycle::created()),
            exit: watch::Sender::new(None),
            transition: AsyncMutex::new(()),
        }
    }

    /// Records that it was made; `shim_ends` are the shim's ends of its stdio.
    pub fn made(&self, child: PidFd, shim_ends: ShimEnds, is_guest: bool) {
        self.is_guest.store(is_guest, Ordering::SeqCst);
        *self.shim_ends() = shim_ends;
        if self.stdin_closed.load(Ordering::SeqCst) {
            self.shim_ends().close_stdin();
        }
        let again = self.child.set(child).is_err();
        debug_assert!(!again, "a process is made once");
    }

    /// Its pid; `None` before it was made.
    pub fn pid(&self) -> Option<Pid> {
        self.child.get().map(PidFd::pid)
    }

    /// Its pid for messages, in which 0 stands for none.
    pub fn raw_pid(&self) -> u32 {
        self.pid().map_or(0, |pid| pid.as_raw() as u32)
    }

    /// Its descriptor; `None` before it was made.
    pub fn child(&self) -> Option<&PidFd> {
        self.child.get()
    }

    /// Whether it is a guest, which gets a new memory limit.
    pub fn is_guest(&self) -> bool {
        self.is_guest.load(Ordering::SeqCst)
    }

    /// Paths of its stdio, from containerd.
    pub fn stdio(&self) -> &Paths {
        &self.stdio
    }

    /// Its state, with the transitions.
    pub fn lifecycle(&self) -> MutexGuard<'_, Lifecycle> {
        // A panic cannot leave it half changed: its methods assign once.
        self.lifecycle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a start.
    ///
    /// # Errors
    /// [`Refusal`] if it cannot be started now.
    pub fn begin_start(&self) -> Result<Start<'_>, Refusal> {
        self.lifecycle().start()?;
        Ok(Start { process: self })
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// [`Refusal::Finished`] if it has ended, [`Refusal::NotStarted`] if it was not made yet.
    pub fn signal(&self, signal: i32) -> Result<(), Error> {
        let child = self.child.get().ok_or(Refusal::NotStarted)?;
        if child.signal(signal)? { Ok(()) } else { Err(Refusal::Finished.into()) }
    }

    /// Closes stdin, because the client has closed its end.
    pub fn close_stdin(&self) {
        self.stdin_closed.store(true, Ordering::SeqCst);
        self.shim_ends().close_stdin();
    }

    /// Resizes its terminal, if it has one.
    pub fn resize(&self, size: Size) -> Result<(), Error> {
        self.shim_ends().resize(size)
    }

    /// Whether it has that pid, and its own watcher has not reaped it yet.
    pub fn claims(&self, pid: Pid) -> bool {
        self.pid() == Some(pid) && !matches!(self.lifecycle().state(), State::Stopped(_))
    }

    /// Waits until its exit is published.
    pub async fn wait(&self) -> Exit {
        let mut exits = self.exit.subscribe();
        loop {
            if let Some(exit) = *exits.borrow_and_update() {
                return exit;
            }
            // The sender is part of self, so it still exists.
            let _ = exits.changed().await;
        }
    }

    /// Waits until it has ended, reaps it, and returns its exit code.
    pub async fn ended(&self) -> u8 {
        self.reaped().await.unwrap_or_else(|error| {
            log::error!("process {}: {error}", self.raw_pid());
            u8::MAX
        })
    }

    /// Waits until containerd has read what the process wrote, as long as it makes progress. Some versions (1.6.20) close their
    /// end at the exit event, and lose what is still in the fifo.
    pub async fn drain(&self) {
        let end = Instant::now() + READ_WITHIN;
        let (mut before, mut read_at) = (usize::MAX, Instant::now());
        while Instant::now() < end {
            let unread = self.shim_ends().unread();
            if unread == 0 {
                return;
            }
            if unread != before {
                (before, read_at) = (unread, Instant::now());
            }
            if read_at.elapsed() > READS_WITHIN {
                break;
            }
            sleep(READ_PAUSE).await;
        }
        log::warn!("process {}: the last of its output was not read yet", self.raw_pid());
    }

    /// Waits until its output is read and passed on, at most 2 s each, and closes the shim's ends. For Delete.
    pub async fn read_to_the_end(&self) {
        self.drain().await;
        let end = Instant::now() + READ_WITHIN;
        while !self.shim_ends().is_done() && Instant::now() < end {
            sleep(READ_PAUSE).await;
        }
        *self.shim_ends() = ShimEnds::default();
    }

    /// Publishes its exit with that code to containerd and to calls that wait for it, once. `id` is that of the container or the
    /// exec process.
    pub async fn finish(&self, container: &str, id: &str, code: u8, events: &Events) {
        let _transition = self.transition.lock().await;
        let exit = Exit { code, at: SystemTime::now() };
        if !self.lifecycle().exited(exit) {
            return;
        }
        events.publish(TaskExit {
            container_id: container.into(),
            id: id.into(),
            pid: self.raw_pid(),
            exit_status: code.into(),
            exited_at: Some(timestamp(exit.at)).into(),
            ..Default::default()
        });
        self.exit.send_replace(Some(exit));
    }

    fn shim_ends(&self) -> MutexGuard<'_, ShimEnds> {
        self.shim_ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reaped(&self) -> Result<u8, Error> {
        let child = self.child.get().ok_or(Refusal::NotStarted)?;
        let fd = child.as_fd().try_clone_to_owned();
        let fd = fd.and_then(ready_fd).map_err(Error::io("watch a process"))?;
        let mut ready = fd.readable().await.map_err(Error::io("watch a process"))?;
        ready.retain_ready();
        // It has ended, but it becomes a child of this process only when the request process has ended, too.
        for _ in 0..ADOPTION_TRIES {
            if let Some(code) = child.try_wait()? {
                return Ok(code);
            }
            sleep(ADOPTION_PAUSE).await;
        }
        Err(sandbox::Error::Gone { process: "container" }.into())
    }
}
