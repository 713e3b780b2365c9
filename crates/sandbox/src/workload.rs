//! Workloads: what an isolated process does once it is released.

use std::convert::Infallible;
use std::os::fd::RawFd;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::child::exit;
use crate::guests::{Guests, Loaded};
use crate::page_map::Receiver;
use crate::release_memory::ForkedMemory;
use crate::rlimit::OpenFiles;
use crate::{Descriptors, Error, SingleThread, Workload, confine, console, environment, inherit};

/// Exit code of a guest that could not be run, as of a shell.
const CANNOT_EXECUTE: u8 = 126;

/// Name of the descriptor of a guest's page map (proc(5), `/proc/PID/pagemap`).
pub const PAGE_MAP: &str = "page map";

/// Signals that end the pause, as they end the pause of Kubernetes.
const ENDING: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// Workload of an isolated process.
#[expect(
    clippy::large_enum_variant,
    reason = "the pause gives back its heap, so that it can only use its stack then"
)]
pub enum Isolated {
    /// [`crate::Workload::Pause`].
    Pause(Pause),
    /// [`crate::Workload::Guest`].
    Guest(Guest),
}

impl Isolated {
    /// The workload of a request. To be called before the fork of the isolated process.
    pub fn new(
        workload: &Workload,
        guests: &Guests,
        files: Descriptors,
        page_map: Option<Receiver>,
        open_files: OpenFiles,
    ) -> Result<Isolated, Error> {
        match workload {
            Workload::Pause => Ok(Isolated::Pause(Pause { forked: ForkedMemory::find() })),
            Workload::Guest { value, .. } => {
                Ok(Isolated::Guest(Guest::new(guests, value, files, page_map, open_files)))
            }
            Workload::Program => Err(Error::Container("a program is not a guest".into())),
        }
    }

    /// Prepares to wait for Start. To be called when the container's root, user and limits are in force.
    pub fn ready(&self) -> nix::Result<()> {
        trace::mark("confined");
        // A guest's env is part of its value. The process must keep nothing of containerd's environment.
        // SAFETY: this process was forked from one with one thread, and has started none.
        environment::clear(&unsafe { SingleThread::assume() });
        match self {
            Isolated::Pause(_) => Ok(()),
            // From before Create answers, so that a signal that is sent while the guest is loaded stays pending. If it were
            // not blocked it would be dropped, because this may be the first process of a pid namespace.
            Isolated::Guest(guest) => guest.guests.signals.thread_block(),
        }
    }

    /// Descriptors that must stay open until then.
    pub fn descriptors(&self) -> Vec<RawFd> {
        match self {
            Isolated::Pause(_) => Vec::new(),
            Isolated::Guest(guest) => guest.descriptors(),
        }
    }

    /// Does all that can be done before Start. To be called when the process is ready, because no caller waits for it then.
    pub fn load(self) -> Waiting {
        match self {
            Isolated::Pause(pause) => Waiting::Pause(pause),
            Isolated::Guest(guest) => Waiting::Guest(guest.load()),
        }
    }
}

/// A workload that waits for Start.
#[expect(
    clippy::large_enum_variant,
    reason = "the pause gives back its heap, so that it can only use its stack then"
)]
pub enum Waiting {
    /// [`crate::Workload::Pause`].
    Pause(Pause),
    /// [`crate::Workload::Guest`].
    Guest(Loaded),
}

impl Waiting {
    /// Runs it.
    pub fn run(self) -> ! {
        match self {
            Waiting::Pause(pause) => pause.run(),
            Waiting::Guest(guest) => {
                let _ = nix::sys::prctl::set_name(c"wasm");
                trace::mark("released");
                exit(guest().into())
            }
        }
    }
}

/// The built-in pause.
pub struct Pause {
    /// Memory of the process that this one is a copy of.
    forked: ForkedMemory,
}

impl Pause {
    fn run(self) -> ! {
        let _ = nix::sys::prctl::set_name(c"pause");
        trace::last("pauses");
        // All others were closed before; a seccomp filter may refuse to close these now.
        let _ = inherit::close_unlisted(&[]);
        // SAFETY: what follows waits for signals, reaps and exits, by system calls with arguments on the stack.
        unsafe { self.forked.release() };
        exit(hold().map_or(1, |never| match never {}))
    }
}

/// Waits for the signal that ends the Pod, and reaps children: it gets some if containers share the Pod's pid namespace.
fn hold() -> nix::Result<Infallible> {
    let signals = SigSet::from_iter(ENDING.into_iter().chain([Signal::SIGCHLD]));
    // The kernel does not send the first process of a pid namespace a signal that it neither handles nor blocks.
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

/// A guest: [`Guests::load`] with its value and descriptors.
pub struct Guest {
    guests: Guests,
    value: Value,
    files: Descriptors,
    page_map: Option<Receiver>,
    open_files: OpenFiles,
}

impl Guest {
    /// A guest with the descriptors of the request, and a page map that is received later.
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

    /// Loads the guest. If that fails, the reason is on stderr, which is the container's log, when the container is started.
    fn load(self) -> Loaded {
        self.load_restricted().unwrap_or_else(|reason| {
            Box::new(move || {
                eprintln!("error: {reason}");
                CANNOT_EXECUTE
            })
        })
    }

    /// Restricts this process, and loads the guest in it.
    fn load_restricted(self) -> Result<Loaded, String> {
        let mut files = self.files;
        if let Some(map) = self.page_map.and_then(Receiver::receive) {
            files.add(PAGE_MAP, map);
        }
        console::take();
        // A guest must not write its own files under /proc, such as its memory.
        let limited = nix::sys::prctl::set_dumpable(false).and_then(|()| self.open_files.apply());
        let limited = limited.map_err(Error::system("limit the guest's process"));
        limited.and_then(|()| confine::load()).map_err(|error| error.to_string())?;
        // SAFETY: this process was forked from one with one thread, and has started none.
        let single = unsafe { SingleThread::assume() };
        let loaded = (self.guests.load)(self.value, files, single)?;
        // All that is executed is mapped by now.
        confine::seal().map_err(|error| error.to_string())?;
        Ok(loaded)
    }
}
