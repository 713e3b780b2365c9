//! A compile worker: its limits, the cgroup that it is charged to, and the errors if the limits are too low.

use std::os::fd::OwnedFd;

use nix::libc::{SIGABRT, SIGBUS, SIGKILL, SIGSEGV, SIGTRAP};
use sandbox::{Bounds, Charged, End, Leash};

use crate::container::Container;
use crate::errors::Error;
use crate::settings::{COMPILE_MEMORY, COMPILE_TIME};

/// The memory limit of a Pod from which on its compilations count towards it. Below it, a compilation is charged to the
/// shim's own cgroup, which is containerd's, and may use as much as this: to compile a guest takes some times the memory
/// that it runs in.
const FLOOR: u64 = 512 << 20;

/// Advice if the Pod's limit was too low.
const RAISE: &str =
    "raise resources.limits.memory, or have the image compiled beforehand (wasm-image warm)";

/// Parameters of a worker that is not made yet.
#[derive(Debug)]
pub struct Worker {
    /// Limits of the worker.
    pub share: Share,
    /// Container whose cgroup it enters; `None` if it stays in the shim's.
    pub charged: Option<Charged>,
    /// The worker's end of the [`Leash`].
    pub leash: OwnedFd,
}

/// Limits of a worker, and where they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Limits of time and memory.
    pub bounds: Bounds,
    /// Source of the memory limit.
    limit: Limit,
}

/// Source of a worker's memory limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// The node's administrator only.
    Node,
    /// Also the Pod's limit, in bytes.
    Pod(u64),
    /// [`FLOOR`], because the Pod's limit, in bytes, is below it.
    Floor(u64),
}

impl Worker {
    /// A worker within these bounds, for the Pod of that sandbox. The worker ends when the leash is dropped.
    ///
    /// # Errors
    /// As of [`Leash::new`].
    pub fn new(bounds: Bounds, sandbox: Option<&Container>) -> Result<(Worker, Leash), Error> {
        let pod = sandbox.and_then(|sandbox| sandbox.cgroup().memory_within());
        let share = Share::new(bounds, pod);
        let charged = sandbox.filter(|_| share.is_charged_to_pod()).map(|sandbox| Charged {
            id: sandbox.id().to_owned(),
            bundle: sandbox.bundle().to_owned(),
        });
        let (held, leash) = Leash::new()?;
        Ok((Worker { share, charged, leash }, held))
    }
}

impl Share {
    fn new(bounds: Bounds, pod: Option<u64>) -> Share {
        match pod {
            None => Share { bounds, limit: Limit::Node },
            Some(limit) if limit < FLOOR => {
                let memory = bounds.memory.min(FLOOR);
                Share { bounds: Bounds { memory, ..bounds }, limit: Limit::Floor(limit) }
            }
            Some(limit) => Share { bounds, limit: Limit::Pod(limit) },
        }
    }

    fn is_charged_to_pod(self) -> bool {
        !matches!(self.limit, Limit::Floor(_))
    }

    /// Error of a worker with these limits that has not answered.
    pub fn unfinished(self, end: End) -> String {
        let ended = sandbox::Error::Worker(end);
        match (end, self.limit) {
            (End::Time, _) => format!(
                "cannot be compiled within {:?}; {COMPILE_TIME} in containerd's environment allows more",
                self.bounds.time
            ),
            (End::OutOfMemory, Limit::Pod(limit)) => format!(
                "cannot be compiled within the Pod's memory limit of {} MiB, towards which its compilation counts; \
                 {RAISE}",
                limit >> 20
            ),
            // This is the only sign of an allocation that fails deep inside, or of a thread's stack that cannot be made. Where a
            // signal does not end the process, abort(3) executes an instruction: SIGSEGV on x86_64, SIGTRAP on aarch64.
            (End::Signal(SIGABRT | SIGSEGV | SIGBUS | SIGTRAP) | End::Code(_), _) => {
                format!("{} ({ended})", self.out_of_memory())
            }
            (End::Signal(SIGKILL), _) => format!(
                "cannot be compiled: {ended}, which is what the kernel does when a node has no memory left"
            ),
            (End::OutOfMemory | End::Signal(_), _) => format!("cannot be compiled: {ended}"),
        }
    }

    /// Error of a worker with these limits that had not enough memory.
    pub fn out_of_memory(self) -> String {
        let memory = self.bounds.memory >> 20;
        match self.limit {
            Limit::Floor(limit) if self.bounds.memory == FLOOR => format!(
                "cannot be compiled in {memory} MiB of memory, which a Pod with a memory limit of {} MiB has for that; \
                 {RAISE}",
                limit >> 20
            ),
            _ => format!(
                "cannot be compiled in {memory} MiB of memory; {COMPILE_MEMORY} in containerd's environment allows more"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_pays_unless_its_limit_is_below_the_floor() {
        let bounds = Bounds::default();
        let share = |bounds, pod| {
            let share = Share::new(bounds, pod);
            (share.bounds.memory, share.is_charged_to_pod())
        };
        assert_eq!(share(bounds, None), (bounds.memory, true));
        assert_eq!(share(bounds, Some(FLOOR)), (bounds.memory, true));
        assert_eq!(share(bounds, Some(FLOOR - 1)), (FLOOR, false));
        let less = Bounds { memory: FLOOR / 2, ..bounds };
        assert_eq!(share(less, Some(1)), (FLOOR / 2, false));
    }

    #[test]
    fn what_is_to_be_raised_is_what_was_not_enough() {
        let error = |pod: Option<u64>, end| Share::new(Bounds::default(), pod).unfinished(end);
        let abort = End::Signal(SIGABRT);
        for (pod, end, part) in [
            (None, End::Time, "within 300s; WASMTIME_SHIM_COMPILE_TIME in"),
            (None, abort, "in 4096 MiB of memory; WASMTIME_SHIM_COMPILE_MEMORY in"),
            (None, abort, "(the worker was ended by SIGABRT)"),
            (None, End::Signal(SIGTRAP), "in 4096 MiB of memory; WASMTIME_SHIM_COMPILE_MEMORY in"),
            (None, End::OutOfMemory, "was killed because memory ran out"),
            (Some(1 << 30), End::OutOfMemory, "memory limit of 1024 MiB, towards"),
            (Some(1 << 30), abort, "in 4096 MiB of memory; WASMTIME_SHIM_COMPILE_MEMORY in"),
            (
                Some(64 << 20),
                abort,
                "in 512 MiB of memory, which a Pod with a memory limit of 64 MiB has",
            ),
            (Some(64 << 20), End::Code(101), "raise resources.limits.memory, or"),
            (Some(64 << 20), End::Signal(9), "cannot be compiled: the worker was ended by SIGKILL"),
        ] {
            let text = error(pod, end);
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
}
