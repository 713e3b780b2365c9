//! What the zygote can do with guests. The embedder provides it, because this crate knows nothing of what a guest is.

use std::rc::Rc;

use nix::sys::signal::SigSet;
use serde_json::Value;

use crate::{Descriptors, SingleThread};

/// A loaded workload: it runs in place of a program, and returns an exit code.
pub type Loaded = Box<dyn FnOnce() -> u8>;

/// Functions of the embedder, made in the zygote after the fork.
#[derive(Clone)]
pub struct Guests {
    /// Runs in a worker without privileges: a request's value and descriptors in, a value out.
    pub job: Rc<dyn Fn(Value, Descriptors) -> Value>,
    /// Loads the workload in the isolated process, while that waits for Start: the workload's value and descriptors in. It
    /// starts no thread. A reason why it cannot be run goes to the container's log.
    pub load: Rc<dyn Fn(Value, Descriptors, SingleThread) -> Result<Loaded, String>>,
    /// The signals that a loaded workload takes: blocked from before Create answers, so that one may be pending.
    pub signals: SigSet,
    /// Version that the results of jobs depend on, besides their arguments ([`crate::Zygote::version`]).
    pub version: String,
}
