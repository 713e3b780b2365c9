//! Isolated processes from OCI runtime specs. This crate knows nothing of what runs in them.
//!
//! Read in this order:
//! 1. [`request`]: requests of the shim to its zygote, and the replies; `descriptors`: what goes beside them;
//! 2. [`zygote`]: the process that answers, forked before any thread exists;
//! 3. `create`, `record`, `isolate`, `build_lock`, `spec`, `rights` and `workload`: from an OCI bundle to a process that
//!    waits for Start; `members`: which processes belong to the container; `exec`: a further process in it;
//! 4. `program`: the same for the container of a Linux program, by the node's OCI runtime ([`runtime`]);
//! 5. `worker`: a short-lived process without privileges, which parses untrusted input;
//! 6. `confine`: what a guest's process can still ask of the kernel once it runs;
//! 7. [`cgroup`], [`console`], [`environment`], [`heap`], [`pidfd`], [`pipe`], [`rlimit`], [`rootfs`], [`inherit`], [`stack`],
//!    [`read_only`], `child`, `keyring`, `name_service`, `page_map`, `ready`, `single_thread`, `release_memory`: one file for each
//!    mechanism of the kernel or the C library;
//! 8. `wait`: polling, where the kernel offers no descriptor to wait for.
//!
//! How a guest is compiled and run comes in as a [`Guests`] value, which the zygote makes after the fork.
//! Most of the shim's `unsafe` code is here; the rest is in six files of the engine.

mod build_lock;
pub mod cgroup;
mod child;
mod confine;
pub mod console;
mod create;
mod descriptors;
pub mod environment;
mod errors;
mod exec;
mod guests;
pub mod heap;
pub mod inherit;
mod isolate;
mod keyring;
mod limits;
mod members;
mod name_service;
mod page_map;
pub mod pidfd;
pub mod pipe;
mod program;
pub mod read_only;
mod ready;
mod record;
mod release_memory;
pub mod request;
mod rights;
pub mod rlimit;
pub mod rootfs;
pub mod runtime;
mod single_thread;
mod spec;
pub mod stack;
mod syscalls;
mod wait;
mod wire;
mod worker;
mod workload;
pub mod zygote;

pub use create::{destroy, release};
pub use descriptors::Descriptors;
pub use errors::{End, Error};
pub use guests::{Guests, Loaded};
pub use isolate::{Failed, Step};
pub use members::Members;
pub use request::{
    Bounds, Change, Charged, Create, Exec, Failure, Job, JobFds, Kind, ProcessFds, Reply, Request,
    Workload,
};
pub use runtime::Runtime;
pub use single_thread::SingleThread;
pub use spec::load as load_spec;
pub use worker::Leash;
pub use workload::PAGE_MAP;
pub use zygote::{RequestProcess, Zygote};
