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
pub mod console;
mod create;
pub mod environment;
mod exec;
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

use nix::sys::signal::Signal;

pub use create::destroy;
pub use isolate::{Failed, Step};
pub use members::Members;
pub use program::Change;
pub use request::{Create, Exec, Failure, Kind, Reply, Request, Workload};
pub use runtime::Runtime;
pub use single_thread::SingleThread;
pub use spec::load as load_spec;
pub use worker::{Bounds, Charged, End, Leash};
pub use zygote::{Guests, Zygote};

/// What can go wrong between the shim and its zygote, or on the way to an isolated process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{action}: {source}")]
    System {
        /// What was being done, with the name it was done to.
        action: String,
        /// The kernel's answer.
        #[source]
        source: nix::Error,
    },
    /// A file could not be read or written.
    #[error("{action}: {source}")]
    Io {
        /// What was being done, with the path it was done to.
        action: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A message between shim and zygote, or a state file, is not what it should be.
    #[error("{action}: {source}")]
    Malformed {
        /// What was being read.
        action: String,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
    /// A file is larger than what is read.
    #[error("{path} is larger than {limit} bytes", path = .path.display())]
    TooLarge {
        /// The file.
        path: std::path::PathBuf,
        /// In bytes.
        limit: u64,
    },
    /// The zygote, or the process it forked for a request, ended before it answered.
    #[error("the {process} process ended before it answered; was it killed?")]
    Gone {
        /// Which process: `zygote`, or the one forked for the request.
        process: &'static str,
    },
    /// A worker ended before it answered.
    #[error("the worker {}", ended(.0))]
    Worker(End),
    /// There is no OCI runtime for a Linux program.
    #[error(
        "cannot run a Linux program: no OCI runtime {program:?} in {searched}; install runc there, or name another \
         runtime by BinaryName in containerd's runtime options (WASI guests need none)"
    )]
    NoRuntime {
        /// Its path, or its name.
        program: String,
        /// Directories in which it was looked for.
        searched: String,
    },
    /// The OCI runtime failed.
    #[error("OCI runtime {verb} failed: {reason}")]
    Runtime {
        /// What it was to do: `create`, `start`, …
        verb: &'static str,
        /// The last error that it logged.
        reason: String,
    },
    /// The OCI runtime was killed on the way.
    #[error("OCI runtime {verb} failed: {reason}")]
    RuntimeKilled {
        /// What it was to do.
        verb: &'static str,
        /// By what, or the last error that it logged.
        reason: String,
    },
    /// A request failed: the reason that its process reported.
    #[error("{0}")]
    Container(String),
    /// The same, where the OCI runtime was killed on the way.
    #[error("{0}")]
    Killed(String),
    /// The process forked for a request did not answer in time.
    #[error(
        "no answer within {seconds} s: its process was killed; does a file system of the node hang?"
    )]
    Late {
        /// How long it was waited for.
        seconds: u64,
    },
    /// A step of a guest's isolation failed.
    #[error(transparent)]
    Isolation(#[from] Failed),
    /// A mount option that only a newer runtime knows what to do with.
    #[error("mount option {0:?} is not supported")]
    MountOption(String),
    /// Ids of a mount's files that cannot be mapped.
    #[error("cannot carry out mount option {option:?}: {reason}")]
    IdMap {
        /// The option.
        option: String,
        /// What is allowed.
        reason: &'static str,
    },
    /// A limit that cannot be set.
    #[error("{what} cannot be {value}: {reason}")]
    Limit {
        /// The file that has it, or its name.
        what: String,
        /// What it was to be.
        value: String,
        /// Why it cannot.
        reason: String,
    },
    /// A cgroup could not be read, signalled or removed.
    #[error("cgroup {path}: {reason}")]
    Cgroup {
        /// The cgroup's path as the OCI spec gives it.
        path: String,
        /// Why not.
        reason: String,
    },
}

fn ended(end: &End) -> String {
    match end {
        End::Time => "was ended when its time was up".to_owned(),
        End::OutOfMemory => "was killed because memory ran out".to_owned(),
        End::Signal(signal) => match Signal::try_from(*signal) {
            Ok(signal) => format!("was ended by {signal}"),
            Err(_) => format!("was ended by signal {signal}"),
        },
        End::Code(code) => format!("ended with exit code {code}"),
    }
}

impl Error {
    /// Whether a process was killed on the way that may have begun others, which nobody else knows of.
    pub fn may_have_left_processes(&self) -> bool {
        matches!(
            self,
            Error::RuntimeKilled { .. }
                | Error::Killed(_)
                | Error::Late { .. }
                | Error::Gone { .. }
        )
    }

    pub(crate) fn system(action: impl Into<String>) -> impl FnOnce(nix::Error) -> Error {
        let action = action.into();
        move |source| Error::System { action, source }
    }

    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let action = action.into();
        move |source| Error::Io { action, source }
    }

    pub(crate) fn malformed(action: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Error {
        let action = action.into();
        move |source| Error::Malformed { action, source }
    }
}
