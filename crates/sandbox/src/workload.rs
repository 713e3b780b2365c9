//! What happens in the isolated process once it is released.
//!
//! For programs this is libcontainer's `Executor`: `validate` runs before Create answers, with the container's root, user and
//! limits in force, so that what it refuses is in Create's error. `exec` runs after Start and never returns.

use std::convert::Infallible;
use std::env;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{AccessFlags, Pid, access, execve};
use serde_json::Value;

use crate::page_map::Receiver;
use crate::rlimit::Descriptors;
use crate::unneeded::Unneeded;
use crate::zygote::{Guests, exit};
use crate::{Error, Workload, building, console, environment, errors, inherit};

/// The image's program could not be executed (as a shell has it).
const CANNOT_EXECUTE: i32 = 126;

/// The signals that end the pause, as they do Kubernetes' own.
const ENDING: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// What an isolated process does once it is released.
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
        files: Vec<File>,
        page_map: Option<Receiver>,
        descriptors: Descriptors,
    ) -> Result<Isolated, Error> {
        match workload {
            Workload::Pause => Ok(Isolated::Pause(Pause { unneeded: Unneeded::find() })),
            Workload::Guest { value, .. } => {
                Ok(Isolated::Guest(Guest::new(guests, value, files, page_map, descriptors)))
            }
            Workload::Linux => Err(Error::Container("a program is not a guest".into())),
        }
    }

    /// Makes ready to wait for Start, with the container's root, user and limits in force.
    pub fn ready(&self) -> nix::Result<()> {
        trace::mark("confined");
        // A guest's env is part of its value; the process keeps nothing of containerd's.
        environment::clear();
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
        inherit::close_unlisted(&[]);
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
    files: Vec<File>,
    page_map: Option<Receiver>,
    limit: Descriptors,
}

impl Guest {
    /// With the files that came with the request, and one that comes later.
    pub fn new(
        guests: &Guests,
        value: &Value,
        files: Vec<File>,
        page_map: Option<Receiver>,
        limit: Descriptors,
    ) -> Guest {
        Guest { guests: guests.clone(), value: value.clone(), files, page_map, limit }
    }

    fn descriptors(&self) -> Vec<RawFd> {
        let files = self.files.iter().map(AsRawFd::as_raw_fd).chain(errors::descriptor());
        files.chain(self.page_map.iter().map(Receiver::descriptor)).collect()
    }

    /// Runs it. If it cannot be run, the reason is on stderr, which is the container's log.
    pub fn run(self) -> ! {
        let _ = nix::sys::prctl::set_name(c"wasm");
        trace::mark("released");
        console::take();
        // What the image has at /proc is not to be believed.
        inherit::close_unlisted(&self.descriptors());
        let mut files = self.files;
        files.extend(self.page_map.and_then(Receiver::receive));
        // Nothing that a guest may find under a /proc is its own to write, its memory least of all.
        let ready = nix::sys::prctl::set_dumpable(false).and_then(|()| self.limit.apply());
        if let Err(errno) = ready {
            eprintln!("limit the guest's process: {}", errno.desc());
            exit(CANNOT_EXECUTE)
        }
        exit((self.guests.run)(self.value, files).into())
    }
}

/// A program of the image.
#[derive(Clone)]
pub struct Linux {
    /// Limit of open files to apply before the program starts.
    pub descriptors: Descriptors,
}

impl Executor for Linux {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        trace::last("execve");
        let Err(error) = execute(spec, self.descriptors);
        // Start has answered by now: the container's log is where the user looks.
        eprintln!("{error}");
        exit(CANNOT_EXECUTE)
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        building::over();
        program(spec).map(drop).map_err(ExecutorValidationError::ArgValidationError)
    }
}

fn execute(spec: &Spec, descriptors: Descriptors) -> Result<Infallible, String> {
    let path = program(spec)?;
    let name = path.display().to_string();
    let c_string = |text: &str| {
        CString::new(text)
            .map_err(|_| format!("exec {name:?}: an argument or variable holds a NUL byte"))
    };
    let args = arguments(spec).iter().map(|arg| c_string(arg)).collect::<Result<Vec<_>, _>>()?;
    let env = env::vars()
        .map(|(key, value)| c_string(&format!("{key}={value}")))
        .collect::<Result<Vec<_>, _>>()?;
    reset_signals();
    label(spec)?;
    descriptors.apply().map_err(|errno| format!("limit the descriptors: {}", errno.desc()))?;
    execve(&c_string(&name)?, &args, &env)
        .map_err(|error| format!("exec {name:?}: {}", error.desc()))
}

/// From execve(2) on the process has the SELinux label of the spec, which libcontainer leaves out.
fn label(spec: &Spec) -> Result<(), String> {
    let label = spec.process().as_ref().and_then(|process| process.selinux_label().clone());
    let Some(label) = label.filter(|label| !label.is_empty()) else { return Ok(()) };
    fs::write("/proc/thread-self/attr/exec", &label)
        .map_err(|error| format!("take on the SELinux label {label:?}: {error}"))
}

/// Rust ignores SIGPIPE and that would outlive execve(2).
fn reset_signals() {
    for each in [Signal::SIGPIPE, Signal::SIGCHLD] {
        // SAFETY: SIG_DFL is no function.
        let _ = unsafe { signal(each, SigHandler::SigDfl) };
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

fn arguments(spec: &Spec) -> &[String] {
    spec.process().as_ref().and_then(|process| process.args().as_deref()).unwrap_or_default()
}

/// The program that `process.args[0]` names: a path as it is, a bare name looked up in the container's PATH.
fn program(spec: &Spec) -> Result<PathBuf, String> {
    let Some(name) = arguments(spec).first().filter(|name| !name.is_empty()) else {
        return Err("no command specified: process.args is empty".into());
    };
    if name.contains('/') {
        return executable(Path::new(name)).map(|()| PathBuf::from(name));
    }
    let env = spec.process().as_ref().and_then(|process| process.env().clone()).unwrap_or_default();
    let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    let mut reason = format!("exec: {name:?}: executable file not found in $PATH ({path:?})");
    for folder in path.split(':').filter(|folder| !folder.is_empty()) {
        let candidate = Path::new(folder).join(name);
        match executable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(_) if !candidate.exists() => {}
            Err(refused) => reason = refused,
        }
    }
    Err(reason)
}

fn executable(path: &Path) -> Result<(), String> {
    let refuse = |reason: &str| Err(format!("exec: {path:?}: {reason}"));
    match path.metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            refuse("no such file or directory")
        }
        Err(error) => refuse(&error.to_string()),
        Ok(metadata) if metadata.is_dir() => refuse("is a directory"),
        Ok(_) => match access(path, AccessFlags::X_OK) {
            Ok(()) => Ok(()),
            Err(errno) => refuse(&errno.desc().to_lowercase()),
        },
    }
}
