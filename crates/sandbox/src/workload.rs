//! What happens in the isolated process once it is released: libcontainer's `Executor` for each workload.
//!
//! `validate` runs before Create answers, with the container's root, user and limits in force, so that what
//! it refuses is in Create's error. `exec` runs after Start and never returns.

use std::cell::Cell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::rc::Rc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{
    Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError,
};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use crate::page_map::Receiver;
use crate::rlimit::Descriptors;
use crate::unneeded::Unneeded;
use crate::zygote::{Guests, exit};
use crate::{building, console, environment, errors, inherit};

/// The signals that end the pause, as they do Kubernetes' own.
const ENDING: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// The built-in pause.
#[derive(Clone)]
pub struct Pause {
    unneeded: Unneeded,
}

impl Pause {
    /// Of what this process is a copy of.
    pub fn new() -> Pause {
        Pause { unneeded: Unneeded::find() }
    }
}

impl Executor for Pause {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let _ = nix::sys::prctl::set_name(c"pause");
        trace::last("pauses");
        inherit::close_all_but(errors::descriptor().as_slice());
        // SAFETY: what follows waits for signals, reaps and ends: system calls with arguments on the stack.
        unsafe { self.unneeded.give_back() };
        exit(hold().map_or(1, |never| match never {}))
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        building::over();
        Ok(())
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        environment::clear();
        Ok(())
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
#[derive(Clone)]
pub struct Guest {
    guests: Guests,
    value: Value,
    /// Until they are handed over.
    files: Rc<Cell<Vec<File>>>,
    page_map: Rc<Cell<Option<Receiver>>>,
    descriptors: Descriptors,
}

impl Guest {
    /// With the files that came with the request, and one that comes later.
    pub fn new(
        guests: &Guests,
        value: &Value,
        files: Vec<File>,
        page_map: Option<Receiver>,
        descriptors: Descriptors,
    ) -> Guest {
        let (files, page_map) = (Rc::new(Cell::new(files)), Rc::new(Cell::new(page_map)));
        Guest { guests: guests.clone(), value: value.clone(), files, page_map, descriptors }
    }
}

impl Executor for Guest {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let _ = nix::sys::prctl::set_name(c"wasm");
        trace::mark("released");
        console::take();
        // Nothing that a guest may find under a /proc is its own to write, its memory least of all.
        nix::sys::prctl::set_dumpable(false)
            .map_err(|errno| ExecutorError::Execution(errno.into()))?;
        let (mut files, page_map) = (self.files.take(), self.page_map.take());
        let kept = files.iter().map(AsRawFd::as_raw_fd).chain(errors::descriptor());
        let kept = kept.chain(page_map.iter().map(Receiver::descriptor));
        // What the image has at /proc is not to be believed.
        inherit::close_unlisted(&kept.collect::<Vec<_>>());
        files.extend(page_map.and_then(Receiver::receive));
        self.descriptors.apply().map_err(|errno| ExecutorError::Execution(errno.into()))?;
        exit((self.guests.run)(self.value.clone(), files).into())
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        building::over();
        // From before Create answers: a signal sent while the guest is still being loaded waits for whoever
        // takes it. Unblocked, it would be dropped: this may be the first process of a pid namespace.
        self.guests
            .signals
            .thread_block()
            .map_err(|errno| ExecutorValidationError::ArgValidationError(errno.to_string()))
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        trace::process("guest");
        trace::mark("confined");
        // The guest's env is part of its value; the process keeps nothing of containerd's.
        environment::clear();
        Ok(())
    }
}
