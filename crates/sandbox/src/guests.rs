//! What the zygote can do with guests. The embedder provides it, because this crate knows nothing of what a guest is.

use std::rc::Rc;

use nix::sys::signal::SigSet;
use serde_json::Value;

use crate::{Descriptors, SingleThread};

/// Functions of the embedder, made in the zygote after the fork.
#[derive(Clone)]
pub struct Guests {
    /// Runs in a worker without privileges: a request's value and descriptors in, a value out.
    pub job: Rc<dyn Fn(Value, Descriptors) -> Value>,
    /// Runs in the isolated process, in place of a program: the workload's value and descriptors in, an exit code
    /// out. It starts with one thread.
    pub run: Rc<dyn Fn(Value, Descriptors, SingleThread) -> u8>,
    /// The signals that `run` takes: blocked from before Create answers, so that one may be pending.
    pub signals: SigSet,
    /// What the results of jobs depend on beside what they are given ([`crate::Zygote::version`]).
    pub version: String,
}
