//! Kills a process at a chosen step of its life: ptrace(2) stops it at the beginning and at the end of each of its system
//! calls.
//!
//! Steps and processes are counted, and nothing is known of what they do.

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

/// How often is looked for a process that has stopped.
const INTERVAL: Duration = Duration::from_micros(20);

/// A process that was just forked and is traced from its first instruction on (ptrace(2), `PTRACE_EVENT_STOP`).
const BORN: i32 = 128;

/// Who is to be killed, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Victim {
    /// Of the processes that are forked below the one that is watched, the how manieth; the first is 0.
    pub process: usize,
    /// At its how manieth step; the first is 1.
    pub step: usize,
}

/// Somebody who waits for the victim, and kills it.
pub struct Killer {
    thread: JoinHandle<Result<usize>>,
    is_over: Arc<AtomicBool>,
}

impl Killer {
    /// Watches what is forked by that process and below it, from now on until the limit.
    pub fn watch(parent: &Process, victim: Victim, limit: Duration) -> Result<Self> {
        let (ready, is_ready) = channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let parent = Pid::from_raw(parent.pid);
        // Who traces is a thread; when it ends, all go on as if they had never been traced.
        let thread = thread::spawn(move || {
            let seized = ptrace::seize(parent, options());
            let watched = seized.is_ok();
            ready.send(seized.with_context(|| format!("trace process {parent}")))?;
            if watched { Watch::new(parent, victim, over).run(limit) } else { Ok(0) }
        });
        wait(&is_ready)?;
        Ok(Self { thread, is_over })
    }

    /// Waits no longer, and returns how many steps the victim has made by now, killed or not.
    pub fn steps(self) -> Result<usize> {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().map_err(|_| anyhow!("whoever waits for the victim panicked"))?
    }
}

fn wait(is_ready: &Receiver<Result<()>>) -> Result<()> {
    is_ready.recv().context("whoever waits for the victim is gone")?
}

fn options() -> Options {
    Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACESYSGOOD
}

struct Watch {
    victim: Victim,
    is_over: Arc<AtomicBool>,
    /// By process, the how manieth it is; the one that was there before is none.
    traced: HashMap<Pid, Option<usize>>,
    forked: usize,
    steps: usize,
}

impl Watch {
    fn new(parent: Pid, victim: Victim, is_over: Arc<AtomicBool>) -> Self {
        Self { victim, is_over, traced: [(parent, None)].into(), forked: 0, steps: 0 }
    }

    fn run(mut self, limit: Duration) -> Result<usize> {
        let start = Instant::now();
        loop {
            let traced: Vec<_> = self.traced.keys().copied().collect();
            let mut nobody_stopped = true;
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
                        nobody_stopped = false;
                        self.stopped(pid, stopped)?;
                    }
                }
            }
            if nobody_stopped && self.is_over.load(Ordering::SeqCst) {
                return Ok(self.steps);
            }
            if start.elapsed() > limit {
                bail!("waited {limit:?} for {:?}; it made {} steps", self.victim, self.steps);
            }
            if nobody_stopped {
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
                    return Ok(kill(pid, Signal::SIGKILL)?);
                }
            }
            WaitStatus::Stopped(_, sent) => signal = Some(sent),
            _ => {}
        }
        let place = self.traced.get(&pid).copied().flatten();
        // Whoever comes later than the victim is none of ours.
        let gone_on = if place.is_some_and(|place| place > self.victim.process) {
            self.traced.remove(&pid);
            ptrace::detach(pid, signal)
        } else if self.is_victim(pid) {
            ptrace::syscall(pid, signal)
        } else {
            ptrace::cont(pid, signal)
        };
        // Somebody else may have killed it.
        match gone_on {
            Ok(()) | Err(nix::Error::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("have process {pid} go on")),
        }
    }
}
