//! What happens in the isolated process once it is released.

use std::convert::Infallible;
use std::os::fd::RawFd;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::child::exit;
use crate::guests::Guests;
use crate::page_map::Receiver;
use crate::rlimit::OpenFiles;
use crate::unneeded::Unneeded;
use crate::{Descriptors, Error, SingleThread, Workload, console, environment, inherit};

/// The guest could not be run (as a shell has it).
const CANNOT_EXECUTE: i32 = 126;

/// Name of the descriptor of a guest's page map (proc(5), `/proc/PID/pagemap`).
pub const PAGE_MAP: &str = "page map";

/// The signals that end the pause, as they do Kubernetes' own.
const ENDING: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// What an isolated process does once it is released.
#[expect(
    clippy::large_enum_variant,
    reason = "the pause gives back its heap, so what it reads then is on its stack"
)]
pub enum Isolated {
    /// [`crate::Workload::Pause`].
    Pause(Pause),
    /// [`crate::Workload::Guest`].
    Guest(Guest),
}

impl Isolated {
    /// Of a request, in the process that this one will be a copy of.
    pub fn new(
        workload: &Workload,
        guests: &Guests,
        files: Descriptors,
        page_map: Option<Receiver>,
        open_files: OpenFiles,
    ) -> Result<Isolated, Error> {
        match workload {
            Workload::Pause => Ok(Isolated::Pause(Pause { unneeded: Unneeded::find() })),
            Workload::Guest { value, .. } => {
                Ok(Isolated::Guest(Guest::new(guests, value, files, page_map, open_files)))
            }
            Workload::Program => Err(Error::Container("a program is not a guest".into())),
        }
    }

    /// Makes ready to wait for Start, with the container's root, user and limits in force.
    pub fn ready(&self) -> nix::Result<()> {
        trace::mark("confined");
        // A guest's env is part of its value; the process keeps nothing of containerd's.
        // SAFETY: this process was forked from one with one thread, and has started none.
        environment::clear(&unsafe { SingleThread::assume() });
        match self {
            Isolated::Pause(_) => Ok(()),
            // From before Create answers: a signal sent while the guest is still being loaded waits for whoever
            // takes it. Unblocked, it would be dropped: this may be the first process of a pid namespace.
            Isolated::Guest(guest) => guest.guests.signals.thread_block(),
        }
    }

    /// What is not to be closed before.
    pub fn descriptors(&self) -> Vec<RawFd> {
        match self {
            Isolated::Pause(_) => Vec::new(),
            Isolated::Guest(guest) => guest.descriptors(),
        }
    }

    /// Runs it.
    pub fn run(self) -> ! {
        match self {
            Isolated::Pause(pause) => pause.run(),
            Isolated::Guest(guest) => guest.run(),
        }
    }
}

/// The built-in pause.
pub struct Pause {
    /// Of what this process is a copy of.
    unneeded: Unneeded,
}

impl Pause {
    fn run(self) -> ! {
        let _ = nix::sys::prctl::set_name(c"pause");
        trace::last("pauses");
        // What is not the pause's was closed before; now a filter may refuse it.
        let _ = inherit::close_unlisted(&[]);
        // SAFETY: what follows waits for signals, reaps and ends: system calls with arguments on the stack.
        unsafe { self.unneeded.give_back() };
        exit(hold().map_or(1, |never| match never {}))
    }
}

/// Waits for the signal that ends the Pod. Children appear where containers share the Pod's pid namespace.
fn hold() -> nix::Result<Infallible> {
    let signals = SigSet::from_iter(ENDING.into_iter().chain([Signal::SIGCHLD]));
    // As the first process of a pid namespace, it would not be sent a signal it neither handles nor blocks.
    signals.thread_block()?;
    loop {
        match signals.wait()? {
            Signal::SIGCHLD => reap(),
            _ => exit(0),
        }
    }
}

fn reap() {
    let any = Pid::from_raw(-1);
    while !matches!(waitpid(any, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_)) {
    }
}

/// A guest: [`Guests::run`] with its value and files.
pub struct Guest {
    guests: Guests,
    value: Value,
    files: Descriptors,
    page_map: Option<Receiver>,
    open_files: OpenFiles,
}

impl Guest {
    /// With the files that came with the request, and one that comes later.
    pub fn new(
        guests: &Guests,
        value: &Value,
        files: Descriptors,
        page_map: Option<Receiver>,
        open_files: OpenFiles,
    ) -> Guest {
        Guest { guests: guests.clone(), value: value.clone(), files, page_map, open_files }
    }

    fn descriptors(&self) -> Vec<RawFd> {
        let mut numbers = self.files.numbers();
        numbers.extend(self.page_map.iter().map(Receiver::descriptor));
        numbers
    }

    /// Runs it. If it cannot be run, the reason is on stderr, which is the container's log.
    pub fn run(self) -> ! {
        let _ = nix::sys::prctl::set_name(c"wasm");
        trace::mark("released");
        console::take();
        // Those of the isolation; all others were closed before. Now a filter may refuse it.
        let _ = inherit::close_unlisted(&self.descriptors());
        let mut files = self.files;
        if let Some(map) = self.page_map.and_then(Receiver::receive) {
            files.add(PAGE_MAP, map);
        }
        // Nothing that a guest may find under a /proc is its own to write, its memory least of all.
        let ready = nix::sys::prctl::set_dumpable(false).and_then(|()| self.open_files.apply());
        if let Err(errno) = ready {
            eprintln!("limit the guest's process: {}", errno.desc());
            exit(CANNOT_EXECUTE)
        }
        // SAFETY: this process was forked from one with one thread, and has started none.
        let single = unsafe { SingleThread::assume() };
        exit((self.guests.run)(self.value, files, single).into())
    }
}
