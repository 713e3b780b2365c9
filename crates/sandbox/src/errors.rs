//! Errors of this crate, including the ways in which a worker ends without an answer.

use std::fmt;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::isolate::Failed;

/// A failure between the shim and its zygote, or of a step towards an isolated process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("cannot {action}: {source}")]
    System {
        /// The action that failed, with the name of its object.
        action: String,
        /// The kernel's answer.
        #[source]
        source: nix::Error,
    },
    /// A file could not be read or written.
    #[error("cannot {action}: {source}")]
    Io {
        /// The action that failed, with the path of its object.
        action: String,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A message between shim and zygote, or a state file, cannot be parsed.
    #[error("cannot {action}: {source}")]
    Malformed {
        /// The action that failed, with what was read.
        action: String,
        /// Reason of the parser.
        #[source]
        source: serde_json::Error,
    },
    /// A request came without a descriptor that it needs.
    #[error("descriptor {0:?} is missing from the request")]
    MissingDescriptor(String),
    /// A request came with a descriptor that it does not take.
    #[error("the request has a descriptor {0:?} that it does not take")]
    SurplusDescriptor(String),
    /// A file is larger than allowed.
    #[error("{path} is larger than {limit} bytes", path = .path.display())]
    TooLarge {
        /// The file.
        path: std::path::PathBuf,
        /// The largest size, in bytes.
        limit: u64,
    },
    /// The zygote, or the process it forked for a request, ended before it answered.
    #[error("the {process} process ended before it answered; was it killed?")]
    Gone {
        /// Name of the process, such as `zygote` or `request`.
        process: &'static str,
    },
    /// A worker ended before it answered.
    #[error("the worker {0}")]
    Worker(End),
    /// There is no OCI runtime for a Linux program.
    #[error(
        "cannot run a Linux program: no OCI runtime {program:?} in {searched}; install runc there, or name another \
         runtime by BinaryName in containerd's runtime options (WASI guests need none)"
    )]
    NoRuntime {
        /// Path or name of the runtime.
        program: String,
        /// Directories that were searched.
        searched: String,
    },
    /// The OCI runtime failed.
    #[error("OCI runtime {verb} failed: {reason}")]
    Runtime {
        /// The command: `create`, `start`, …
        verb: &'static str,
        /// The last error that it logged.
        reason: String,
    },
    /// The OCI runtime was killed before it had finished.
    #[error("OCI runtime {verb} failed: {reason}")]
    RuntimeKilled {
        /// The command.
        verb: &'static str,
        /// The last error that it logged, or how it was killed.
        reason: String,
    },
    /// A request failed, for the reason that its process reported.
    #[error("{0}")]
    Container(String),
    /// A request failed because the OCI runtime was killed.
    #[error("{0}")]
    Killed(String),
    /// The process forked for a request did not answer in time.
    #[error(
        "no answer within {seconds} s: its process was killed; does a file system of the node hang?"
    )]
    Late {
        /// How long the shim waited.
        seconds: u64,
    },
    /// A step of a guest's isolation failed.
    #[error(transparent)]
    Isolation(#[from] Failed),
    /// A mount option that this runtime does not know.
    #[error("mount option {0:?} is not supported")]
    MountOption(String),
    /// The ids of a mount's files cannot be mapped.
    #[error("cannot carry out mount option {option:?}: {reason}")]
    IdMap {
        /// The option.
        option: String,
        /// Reason, with what is allowed.
        reason: &'static str,
    },
    /// A limit that cannot be set.
    #[error("{what} cannot be {value}: {reason}")]
    Limit {
        /// Name of the limit, or its file.
        what: String,
        /// The value that was asked for.
        value: String,
        /// Reason.
        reason: String,
    },
    /// A cgroup could not be read, signalled or removed.
    #[error("cgroup {path}: {reason}")]
    Cgroup {
        /// The cgroup's path as the OCI spec gives it.
        path: String,
        /// Reason.
        reason: String,
    },
}

/// How a worker ended without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// Its time was up.
    Time,
    /// The kernel killed it because memory ran out: its cgroup's, one's above it, or the node's.
    OutOfMemory,
    /// A signal ended it.
    Signal(i32),
    /// It ended itself with that exit code.
    Code(i32),
}

impl fmt::Display for End {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Time => write!(to, "was ended when its time was up"),
            End::OutOfMemory => write!(to, "was killed because memory ran out"),
            End::Signal(signal) => match Signal::try_from(*signal) {
                Ok(signal) => write!(to, "was ended by {signal}"),
                Err(_) => write!(to, "was ended by signal {signal}"),
            },
            End::Code(code) => write!(to, "ended with exit code {code}"),
        }
    }
}

impl Error {
    /// Whether a process was killed that may have started others of which no other process knows.
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
