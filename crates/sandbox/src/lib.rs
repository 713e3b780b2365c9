//! An isolated process from an OCI runtime spec, and nothing about what runs in it.
//!
//! Read in this order:
//! 1. [`request`]: what the shim may ask of its zygote, and the answers;
//! 2. [`zygote`]: the process that answers, forked before any thread exists;
//! 3. `create`, `isolate`, `building`, `spec`, `rights` and `workload`: from an OCI bundle to a process that waits for
//!    Start; `members`: which processes are the container's; `exec`: a further process in the same container;
//! 4. `program`: the same for the container of a Linux program, by the node's OCI runtime ([`runtime`]);
//! 5. `worker`: a short-lived process without privileges, for parsing what nobody has vouched for;
//! 6. [`cgroup`], [`console`], [`environment`], [`heap`], [`pidfd`], [`pipe`], [`rlimit`], [`rootfs`], [`inherit`], [`stack`],
//!    [`unwritable`], `keyring`, `page_map`, `ready`, `single_thread`, `unneeded`: one file per kernel mechanism;
//! 7. `wait`: how to look again for what cannot be waited for.
//!
//! What a guest is, how it is compiled and run, comes in as a [`Guests`] value made after the fork.
//! Of the shim's `unsafe` code most is here; the rest is in four files of the engine.

mod building;
pub mod cgroup;
mod child;
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
mod page_map;
pub mod pidfd;
pub mod pipe;
mod program;
mod ready;
mod record;
pub mod request;
mod rights;
pub mod rlimit;
pub mod rootfs;
pub mod runtime;
mod single_thread;
mod spec;
pub mod stack;
mod syscalls;
mod unneeded;
pub mod unwritable;
mod wait;
mod wire;
mod worker;
mod workload;
pub mod zygote;

pub use create::destroy;
pub use descriptors::Descriptors;
pub use errors::{End, Error};
pub use guests::Guests;
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
pub use zygote::Zygote;
