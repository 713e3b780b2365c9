//! Kills a process at a chosen step. A step is the start or the end of a system call, where ptrace(2) stops the process.
//!
//! Steps and processes are only counted: nothing here knows what they do.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::processes::Process;

/// Pause between two looks for a stopped process.
const INTERVAL: Duration = Duration::from_micros(20);

/// Event of a new process that is traced from its first instruction on (ptrace(2), `PTRACE_EVENT_STOP`).
const BORN: i32 = 128;

/// Which process to kill, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Victim {
    /// Index among the processes that are forked below the watched one, from 0.
    pub process: usize,
    /// Number of its step, from 1.
    pub step: usize,
}

/// Thread that waits for a process to reach a step, and kills it or another one.
pub struct Killer {
    thread: JoinHandle<Result<usize>>,
    is_over: Arc<AtomicBool>,
}

impl Killer {
    /// Watches the processes that are forked by `parent` and below it, from now on and for at most `limit`. At the step of
    /// `victim` it kills `other`; if there is none, the victim itself.
    pub fn watch(
        parent: &Process,
        victim: Victim,
        other: Option<&Process>,
        limit: Duration,
    ) -> Result<Self> {
        let (ready, is_ready) = channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let parent = Pid::from_raw(parent.pid);
        let other = other.map(|process| Pid::from_raw(process.pid));
        // The tracer is a thread. When it ends, the processes continue as if they had never been traced.
        let thread = thread::spawn(move || {
            let seized = ptrace::seize(parent, options());
            let watched = seized.is_ok();
            ready.send(seized.with_context(|| format!("trace process {parent}")))?;
            if watched { Watch::new(parent, victim, other, over).run(limit) } else { Ok(0) }
        });
        wait(&is_ready)?;
        Ok(Self { thread, is_over })
    }

    /// Stops watching and returns how many steps the victim has made, killed or not.
    pub fn steps(self) -> Result<usize> {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| anyhow!("the thread that waits for the victim panicked"))?
    }
}

fn wait(is_ready: &Receiver<Result<()>>) -> Result<()> {
    is_ready.recv().context("the thread that waits for the victim is gone")?
}

fn options() -> Options {
    Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACESYSGOOD
}

struct Watch {
    victim: Victim,
    other: Option<Pid>,
    is_over: Arc<AtomicBool>,
    /// Index of each process; none for the parent, which was there before.
    traced: HashMap<Pid, Option<usize>>,
    forked: usize,
    steps: usize,
}

impl Watch {
    fn new(parent: Pid, victim: Victim, other: Option<Pid>, is_over: Arc<AtomicBool>) -> Self {
        Self { victim, other, is_over, traced: [(parent, None)].into(), forked: 0, steps: 0 }
    }

    fn run(mut self, limit: Duration) -> Result<usize> {
        let start = Instant::now();
        loop {
            let traced: Vec<_> = self.traced.keys().copied().collect();
            let mut none_stopped = true;
            for pid in traced {
                let flags = WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
                match waitpid(pid, Some(flags)) {
                    Ok(WaitStatus::StillAlive) => {}
                    Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(_) => {
                        if self.is_victim(pid) {
                            return Ok(self.steps);
                        }
                        self.traced.remove(&pid);
                    }
                    Ok(stopped) => {
                        none_stopped = false;
                        self.stopped(pid, stopped)?;
                    }
                }
            }
            if none_stopped && self.is_over.load(Ordering::SeqCst) {
                return Ok(self.steps);
            }
            if start.elapsed() > limit {
                bail!("waited {limit:?} for {:?}; it made {} steps", self.victim, self.steps);
            }
            if none_stopped {
                sleep(INTERVAL);
            }
        }
    }

    fn is_victim(&self, pid: Pid) -> bool {
        self.traced.get(&pid) == Some(&Some(self.victim.process))
    }

    fn stopped(&mut self, pid: Pid, status: WaitStatus) -> Result<()> {
        let mut signal = None;
        match status {
            WaitStatus::PtraceEvent(_, _, BORN) => {}
            WaitStatus::PtraceEvent(..) => {
                let child = Pid::from_raw(ptrace::getevent(pid)?.try_into()?);
                self.traced.insert(child, Some(self.forked));
                self.forked += 1;
            }
            WaitStatus::PtraceSyscall(_) if self.is_victim(pid) => {
                self.steps += 1;
                if self.steps == self.victim.step {
                    kill(self.other.unwrap_or(pid), Signal::SIGKILL)?;
                }
            }
            WaitStatus::Stopped(_, sent) => signal = Some(sent),
            _ => {}
        }
        let place = self.traced.get(&pid).copied().flatten();
        // Processes after the victim are not watched.
        let gone_on = if place.is_some_and(|place| place > self.victim.process) {
            self.traced.remove(&pid);
            ptrace::detach(pid, signal)
        } else if self.is_victim(pid) {
            ptrace::syscall(pid, signal)
        } else {
            ptrace::cont(pid, signal)
        };
        // It may have been killed.
        match gone_on {
            Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("have process {pid} go on")),
        }
    }
}
