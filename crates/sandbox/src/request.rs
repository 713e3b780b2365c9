//! Requests of the shim to its zygote, and the replies: two enums, both serialised by serde.
//!
//! Descriptors go beside a request, by name ([`Descriptors`]): a Create comes with [`ProcessFds`], an Exec with those and two more,
//! a Job with [`JobFds`], and the others with none.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Descriptors, End, Error, Runtime, limits};

/// A request to the zygote. The zygote forks a process for each.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Build a container up to the point where it waits for Start.
    Create(Create),
    /// Make a further process in a container, which runs its workload when it is released ([`crate::Zygote::exec`]).
    Exec(Box<Exec>),
    /// Change a container. The OCI runtime changes that of a [`Workload::Program`]; of others the cgroup is changed.
    Change {
        /// The OCI bundle the container was created from.
        bundle: PathBuf,
        /// The container's id.
        id: String,
        /// The change.
        change: Change,
    },
    /// Start a created container by its OCI runtime, or release it and run its `poststart` hooks. Others need no request
    /// ([`crate::release`]).
    Start {
        /// The OCI bundle the container was created from.
        bundle: PathBuf,
        /// The container's id.
        id: String,
        /// How long the OCI runtime, or a guest's hooks, may take ([`time`]).
        time: Duration,
    },
    /// End a container's processes and remove its cgroup and state ([`crate::destroy`]).
    Destroy {
        /// The OCI bundle the container was created from.
        bundle: PathBuf,
        /// The container's id.
        id: String,
    },
    /// Run [`crate::Guests::job`] in a worker without privileges.
    Job(Job),
}

/// A job for a worker.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// Argument of [`crate::Guests::job`].
    pub value: Value,
    /// Limits of the worker.
    pub bounds: Bounds,
    /// The container whose cgroup it enters; `None` if it stays in the zygote's.
    pub charged: Option<Charged>,
}

/// Limits of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// How long it may take. It may use as much time of each processor.
    pub time: Duration,
    /// How much memory it may use, in bytes.
    pub memory: u64,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { time: limits::WORKER_TIME, memory: limits::WORKER_MEMORY }
    }
}

/// A container to which a worker's resources are charged: the worker enters its cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charged {
    /// The container's id.
    pub id: String,
    /// The OCI bundle it was created from.
    pub bundle: PathBuf,
}

/// A change to a container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Change {
    /// Freezes its processes.
    Pause,
    /// Lets them continue.
    Resume,
    /// Sets other limits, given as `LinuxResources` of the OCI runtime spec as the client wrote them.
    Update(Value),
}

/// How to build one container.
#[derive(Debug, Serialize, Deserialize)]
pub struct Create {
    /// The container's id, as containerd gave it.
    pub id: String,
    /// The OCI bundle: a directory with `config.json` (OCI runtime spec, section "Filesystem Bundle").
    pub bundle: PathBuf,
    /// Whether systemd manages the cgroup: by the runtime option `SystemdCgroup`, or because it runs here and the cgroup has the
    /// form of its names.
    pub systemd_cgroup: bool,
    /// Whether to change the root with `chroot` in place of `pivot_root` (runtime option `NoPivotRoot`).
    pub no_pivot_root: bool,
    /// The OCI runtime, for a [`Workload::Program`].
    pub runtime: Option<Runtime>,
    /// How long it may take, hooks included ([`time`]).
    pub time: Duration,
    /// Workload of the first process.
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
    /// Its args, user, working directory, env and rights (OCI runtime spec, "Process"). The OCI runtime gets it as the client
    /// wrote it, with fields of a later spec.
    pub process: Value,
    /// As in [`Create::time`].
    pub time: Duration,
    /// Workload of the process.
    pub workload: Workload,
}

impl Request {
    /// How long the request process may take; `None` if the request has other limits.
    pub(crate) fn time(&self) -> Option<Duration> {
        match self {
            Request::Create(create) => Some(create.time),
            Request::Exec(exec) => Some(exec.time),
            Request::Start { time, .. } => Some(*time),
            Request::Change { .. } | Request::Destroy { .. } | Request::Job(_) => None,
        }
    }
}

/// How long a request may take for a caller who waits for `timeout`; `None` is for ever.
pub fn time(timeout: Option<Duration>) -> Duration {
    let timeout = timeout.unwrap_or(limits::RUNTIME_TIME);
    timeout.clamp(limits::RUNTIME_LEAST_TIME, limits::RUNTIME_TIME)
}

/// Names of the descriptors of a process's stdio.
const STDIO: [&str; 3] = ["stdin", "stdout", "stderr"];
const CONSOLE: &str = "console";

/// Prefix of the names of a guest's own descriptors.
const GUEST: &str = "guest/";

/// Names of the further descriptors of an exec and a job.
const FIRST: &str = "first process";
const RELEASE: &str = "release";
const LEASH: &str = "leash";

/// Descriptors of a process that is to be made.
#[derive(Debug, Default)]
pub struct ProcessFds {
    /// stdin, stdout and stderr; `None` is `/dev/null`.
    pub stdio: [Option<OwnedFd>; 3],
    /// In place of the three, if the process gets a terminal of the container's own devpts: the terminal's other side comes
    /// back through it ([`crate::console`]).
    pub console: Option<OwnedFd>,
    /// Descriptors of a [`Workload::Guest`].
    pub guest: Descriptors,
}

impl ProcessFds {
    pub(crate) fn into_descriptors(self) -> Descriptors {
        let mut all = Descriptors::default();
        for (name, fd) in STDIO.into_iter().zip(self.stdio) {
            fd.into_iter().for_each(|fd| all.add(name, fd));
        }
        self.console.into_iter().for_each(|fd| all.add(CONSOLE, fd));
        all.add_below(GUEST, self.guest);
        all
    }

    pub(crate) fn from_descriptors(mut all: Descriptors) -> Result<ProcessFds, Error> {
        let stdio = STDIO.map(|name| all.take(name));
        let (console, guest) = (all.take(CONSOLE), all.take_below(GUEST));
        all.finish()?;
        Ok(ProcessFds { stdio, console, guest })
    }
}

/// Descriptors of an [`Exec`].
#[derive(Debug)]
pub(crate) struct ExecFds {
    /// The container's first process ([`crate::pidfd`]).
    pub first: OwnedFd,
    /// A pipe: the process runs its workload when it reads a byte of it, and exits if it ends before.
    pub release: OwnedFd,
    /// Descriptors of the process itself.
    pub process: ProcessFds,
}

impl ExecFds {
    pub fn into_descriptors(self) -> Descriptors {
        let mut all = self.process.into_descriptors();
        all.add(FIRST, self.first);
        all.add(RELEASE, self.release);
        all
    }

    pub fn from_descriptors(mut all: Descriptors) -> Result<ExecFds, Error> {
        let (first, release) = (all.require(FIRST)?, all.require(RELEASE)?);
        Ok(ExecFds { first, release, process: ProcessFds::from_descriptors(all)? })
    }
}

/// Descriptors of a [`Job`].
#[derive(Debug)]
pub struct JobFds {
    /// The worker's end of a [`crate::Leash`].
    pub leash: OwnedFd,
    /// Descriptors that [`crate::Guests::job`] gets.
    pub guest: Descriptors,
}

impl JobFds {
    pub(crate) fn into_descriptors(self) -> Descriptors {
        let mut all = Descriptors::default();
        all.add(LEASH, self.leash);
        all.add_below(GUEST, self.guest);
        all
    }

    pub(crate) fn from_descriptors(mut all: Descriptors) -> Result<JobFds, Error> {
        let (leash, guest) = (all.require(LEASH)?, all.take_below(GUEST));
        all.finish()?;
        Ok(JobFds { leash, guest })
    }
}

/// Workload of an isolated process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Workload {
    /// Pause: holds a Pod's namespaces, waits for SIGTERM or SIGINT, and reaps orphans.
    Pause,
    /// The program that `process.args` of the OCI spec names, in a container that the node's OCI runtime makes.
    // A newer shim reads the record of an older one when it deletes the container.
    #[serde(alias = "Linux")]
    Program,
    /// [`crate::Guests::load`] with a value and the descriptors that come with the request.
    Guest {
        /// Argument of [`crate::Guests::load`].
        value: Value,
        /// Whether a first process gets its own page map (proc(5)) as [`crate::PAGE_MAP`], if the kernel has one.
        page_map: bool,
        /// Files of the container that the guest may neither change nor replace, if they exist.
        fixed: Vec<String>,
    },
}

impl Workload {
    /// Files of the container that the workload may neither change nor replace.
    pub(crate) fn fixed(&self) -> &[String] {
        match self {
            Workload::Guest { fixed, .. } => fixed,
            _ => &[],
        }
    }
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
    /// Kind of this workload.
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
    /// The container, or the exec process, waits to be released.
    Created {
        /// Process id, in the shim's pid namespace.
        pid: i32,
    },
    /// The container was released.
    Started,
    /// The container was changed.
    Changed,
    /// The container is gone.
    Destroyed {
        /// A failure that did not prevent the removal, such as that of a hook.
        warning: Option<String>,
    },
    /// Result of the job.
    Job(Value),
    /// The job's worker ended without an answer.
    Ended(End),
    /// The request failed.
    Failed(Failure),
}

/// Reason why a request failed, for the person who reads `kubectl describe`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The reason, one line if possible.
    pub message: String,
    /// [`Error::may_have_left_processes`].
    pub was_killed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptors_of_an_exec_come_out_as_they_went_in_and_one_too_many_is_refused() {
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").expect("opened"));
        let mut guest = Descriptors::default();
        guest.add("code", null());
        let stdio = [None, Some(null()), None];
        let process = ProcessFds { stdio, console: None, guest };
        let all = ExecFds { first: null(), release: null(), process }.into_descriptors();
        let numbers = all.numbers();
        let mut again = ExecFds::from_descriptors(all).expect("as it went in");
        assert!(matches!(again.process.stdio, [None, Some(_), None]));
        assert_eq!(again.process.guest.names(), ["code"]);
        again.process.guest.require("code").expect("is there");
        let all = again.into_descriptors();
        assert_eq!(all.numbers(), [numbers[0], numbers[2], numbers[3]]);
        let surplus = ProcessFds::from_descriptors(all).expect_err("is no exec").to_string();
        assert!(surplus.contains("first process"), "{surplus}");
        let missing = JobFds::from_descriptors(Descriptors::default()).expect_err("has none");
        assert!(missing.to_string().contains("\"leash\""), "{missing}");
    }

    #[test]
    fn what_an_older_shim_has_written_of_a_program_is_read() {
        let workload: Workload = serde_json::from_str("\"Linux\"").expect("is read");
        assert_eq!(workload.kind(), Kind::Program);
    }
}
