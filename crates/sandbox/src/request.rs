//! What the shim may ask of its zygote: one enum of requests and one of replies, both serde.
//! File descriptors travel beside the request, in the order its documentation gives.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{End, Error, Runtime, limits};

/// A request to the zygote. Each is served by a process forked for it alone.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Build a container up to the point where it waits for [`Request::Start`].
    /// Descriptors: those of stdin, stdout and stderr that [`Create::stdio`] announces, then the files of a
    /// [`Workload::Guest`], then the console of [`Create::console`].
    Create(Create),
    /// Make a further process in a container, which runs its workload when it reads a byte of a pipe and exits if that ends
    /// ([`crate::Zygote::exec`]). Descriptors: the pipe, the container's first process ([`crate::pidfd`]), those of stdin, stdout and stderr that [`Exec::stdio`] announces, the files of a
    /// [`Workload::Guest`], and the console of [`Exec::console`].
    Exec(Box<Exec>),
    /// Change a container: that of a [`Workload::Program`] by the OCI runtime, another's cgroup.
    Change {
        /// The OCI bundle the container was created from.
        bundle: PathBuf,
        /// The container's id.
        id: String,
        /// What is to become of it.
        change: Change,
    },
    /// Release a created container.
    Start {
        /// The OCI bundle the container was created from.
        bundle: PathBuf,
        /// The container's id.
        id: String,
        /// How long the OCI runtime, or a guest's hooks, may take ([`time`]).
        time: Duration,
    },
    /// End a container's processes and take away its cgroup and state ([`crate::destroy`]).
    Destroy {
        /// The OCI bundle the container was created from.
        bundle: PathBuf,
        /// The container's id.
        id: String,
    },
    /// Run [`crate::Guests::job`] in a worker without privileges. Descriptors: the worker's end of a [`crate::Leash`],
    /// then those that are handed to the job, in order.
    Job {
        /// What is handed to it.
        value: Value,
        /// What it may use.
        bounds: Bounds,
        /// The container in whose cgroup it is; none for the zygote's own.
        charged: Option<Charged>,
    },
}

/// What a worker may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// How long it may take; of processor time, as much on each of them.
    pub time: Duration,
    /// Its memory, in bytes.
    pub memory: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { time: limits::WORKER_TIME, memory: limits::WORKER_MEMORY }
    }
}

/// The container in whose cgroup a worker is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charged {
    /// Its id.
    pub id: String,
    /// The OCI bundle it was created from.
    pub bundle: PathBuf,
}

/// A change to a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Change {
    /// Stops its processes where they are.
    Pause,
    /// Lets them continue.
    Resume,
    /// Sets other limits: `LinuxResources` of the OCI runtime spec, as the client wrote them.
    Update(Value),
}

/// How to build one container.
#[derive(Debug, Serialize, Deserialize)]
pub struct Create {
    /// The container's id, as containerd gave it.
    pub id: String,
    /// The OCI bundle: a directory with `config.json` (OCI runtime spec, section "Filesystem Bundle").
    pub bundle: PathBuf,
    /// Whether systemd manages the cgroup (runtime option `SystemdCgroup`).
    pub systemd_cgroup: bool,
    /// Whether to change the root with `chroot` in place of `pivot_root` (runtime option `NoPivotRoot`).
    pub no_pivot_root: bool,
    /// The OCI runtime, for a [`Workload::Program`].
    pub runtime: Option<Runtime>,
    /// How long it may take, hooks included ([`time`]).
    pub time: Duration,
    /// Which of stdin, stdout and stderr come as descriptors; the others are `/dev/null`.
    pub stdio: [bool; 3],
    /// Whether the process gets a terminal of the container's own devpts, in place of the three: its other side
    /// comes back through a [`crate::console`].
    pub console: bool,
    /// What runs once the container is started.
    pub workload: Workload,
}

/// How to start a further process in a container.
#[derive(Debug, Serialize, Deserialize)]
pub struct Exec {
    /// The container's id.
    pub id: String,
    /// The OCI bundle the container was created from.
    pub bundle: PathBuf,
    /// The container's first process.
    pub pid: i32,
    /// Its args, user, working directory, env and rights (OCI runtime spec, "Process"). For a program, the OCI runtime is
    /// given it as the client wrote it, with what only a later spec knows.
    pub process: Value,
    /// Which of stdin, stdout and stderr come as descriptors; the others are `/dev/null`.
    pub stdio: [bool; 3],
    /// As in [`Create::console`].
    pub console: bool,
    /// As in [`Create::time`].
    pub time: Duration,
    /// What runs in it.
    pub workload: Workload,
}

impl Request {
    /// How long its process may take; `None` for what has other bounds.
    pub(crate) fn time(&self) -> Option<Duration> {
        match self {
            Request::Create(create) => Some(create.time),
            Request::Exec(exec) => Some(exec.time),
            Request::Start { time, .. } => Some(*time),
            Request::Change { .. } | Request::Destroy { .. } | Request::Job { .. } => None,
        }
    }
}

/// How long a request may take for a caller who waits for `patience`, if not for ever.
pub fn time(patience: Option<Duration>) -> Duration {
    let patience = patience.unwrap_or(limits::RUNTIME_TIME);
    patience.clamp(limits::RUNTIME_LEAST_TIME, limits::RUNTIME_TIME)
}

/// The descriptors of a [`Create`] or [`Exec`], by what they are for.
pub(crate) struct Given {
    pub stdio: [Option<OwnedFd>; 3],
    pub files: Vec<File>,
    pub console: Option<OwnedFd>,
}

impl Given {
    /// Takes them apart, in the order in which they are sent.
    pub fn take(
        stdio: [bool; 3],
        console: bool,
        fds: impl IntoIterator<Item = OwnedFd>,
    ) -> Result<Given, Error> {
        let gone = || Error::Gone { process: "request" };
        let mut fds: Vec<OwnedFd> = fds.into_iter().collect();
        let console = console.then(|| fds.pop().ok_or_else(gone)).transpose()?;
        let mut fds = fds.into_iter();
        let mut next = |announced: bool| announced.then(|| fds.next().ok_or_else(gone)).transpose();
        let stdio = [next(stdio[0])?, next(stdio[1])?, next(stdio[2])?];
        Ok(Given { stdio, files: fds.map(File::from).collect(), console })
    }
}

/// What runs in the isolated process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Workload {
    /// Holds a Pod's namespaces: waits for SIGTERM or SIGINT and reaps what is orphaned to it.
    Pause,
    /// The program that `process.args` of the OCI spec names, in a container that the node's OCI runtime makes.
    // What an older shim has written of a container is read when a newer one deletes it.
    #[serde(alias = "Linux")]
    Program,
    /// [`crate::Guests::run`] with a value and the files that come with the request.
    Guest {
        /// What it is handed.
        value: Value,
        /// Whether a first process has its own page map (proc(5)) as its last file, where the kernel has any.
        page_map: bool,
    },
}

/// The kind of a [`Workload`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// [`Workload::Pause`].
    Pause,
    /// [`Workload::Program`].
    Program,
    /// [`Workload::Guest`].
    Guest,
}

impl Workload {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Workload::Pause => Kind::Pause,
            Workload::Program => Kind::Program,
            Workload::Guest { .. } => Kind::Guest,
        }
    }
}

/// The answer to a [`Request`].
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The container, or the further process, waits; the process, in the shim's pid namespace.
    Created {
        /// Process id.
        pid: i32,
    },
    /// The container was released.
    Started,
    /// The container was changed.
    Changed,
    /// The container is gone.
    Destroyed {
        /// What went wrong on the way without keeping it from going, such as a hook that failed.
        warning: Option<String>,
    },
    /// What the job returned.
    Job(Value),
    /// The job's worker ended and has not answered.
    Ended(End),
    /// The request failed.
    Failed(Failure),
}

/// Why a request failed, for the person who reads `kubectl describe`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The reason, one line where it can be.
    pub message: String,
    /// [`Error::may_have_left_processes`].
    pub was_killed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_older_shim_has_written_of_a_program_is_read() {
        let workload: Workload = serde_json::from_str("\"Linux\"").expect("is read");
        assert_eq!(workload.kind(), Kind::Program);
    }
}
