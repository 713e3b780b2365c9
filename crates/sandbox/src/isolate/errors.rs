//! Errors of isolation: the step that failed, its object, and the reason.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A step of the isolation of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Carrying out a field of the OCI spec.
    Spec(String),
    /// Joining the namespace of that kind at a path.
    Join(String, PathBuf),
    /// Making the process with the namespaces of the spec.
    Clone,
    /// Writing the user and group ids of a user namespace.
    MapIds,
    /// Mounting the root at a path of the host.
    Root(PathBuf),
    /// Mounting at a path in the container from a path of the host, or from the name of a file system.
    Mount(PathBuf, PathBuf),
    /// Keeping a file of the container as it is.
    Fix(PathBuf),
    /// Making a file of the runtime's `/dev`.
    Device(String),
    /// Changing the process's root to the container's.
    ChangeRoot,
    /// Setting a kernel parameter.
    Sysctl(String),
    /// Setting host or domain name.
    HostName(String),
    /// Starting the loopback device of a new network namespace.
    Loopback,
    /// Setting a limit of the process (setrlimit(2)).
    Limit(String),
    /// Setting a property of the process.
    Property(String),
    /// Entering the working directory.
    WorkingDirectory(PathBuf),
    /// Becoming the user and group of the spec.
    User(u32, u32),
    /// Joining the supplementary groups of the spec.
    Groups,
    /// Dropping capabilities.
    Capabilities,
    /// Loading the seccomp filter.
    Seccomp,
    /// All steps of the isolated process itself, until it waits for Start.
    Isolate,
    /// Running a hook of that kind.
    Hook(String, PathBuf),
    /// Releasing the process.
    Start,
}

impl fmt::Display for Step {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Spec(field) => write!(to, "carry out {field} of the spec"),
            Step::Join(kind, path) => write!(to, "join the {kind} namespace {path:?}"),
            Step::Clone => write!(to, "make a process with the namespaces of the spec"),
            Step::MapIds => write!(to, "map the ids of the user namespace"),
            Step::Root(path) => write!(to, "mount the root {path:?}"),
            Step::Mount(at, from) => write!(to, "mount {at:?} from {from:?}"),
            Step::Fix(path) => {
                write!(to, "keep {path:?} as it is for a guest with names in its grants")
            }
            Step::Device(name) => write!(to, "make {name:?}"),
            Step::ChangeRoot => write!(to, "change to the container's root"),
            Step::Sysctl(name) => write!(to, "set the kernel parameter {name:?}"),
            Step::HostName(name) => write!(to, "set the name {name:?}"),
            Step::Loopback => write!(to, "start the loopback device"),
            Step::Limit(name) => write!(to, "set the limit {name}"),
            Step::Property(name) => write!(to, "set the process's {name}"),
            Step::WorkingDirectory(path) => write!(to, "enter the working directory {path:?}"),
            Step::User(user, group) => write!(to, "become user {user} and group {group}"),
            Step::Groups => write!(to, "join the supplementary groups"),
            Step::Capabilities => write!(to, "drop capabilities"),
            Step::Seccomp => write!(to, "load the seccomp filter"),
            Step::Isolate => write!(to, "isolate the container's process"),
            Step::Hook(kind, path) => write!(to, "run the {kind} hook {path:?}"),
            Step::Start => write!(to, "start the container"),
        }
    }
}

/// Reason why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// An error number of the kernel (errno(3)).
    Kernel(i32),
    /// A reason of this runtime, or of a library.
    Refused(String),
    /// The process ended before it answered.
    Ended,
    /// It did not answer in time.
    Late,
}

impl fmt::Display for Reason {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Kernel(number) => {
                let text = nix::Error::from_raw(*number).desc();
                let mut letters = text.chars();
                let first = letters.next().unwrap_or_default().to_lowercase();
                write!(to, "{first}{}", letters.as_str())
            }
            Reason::Refused(text) => write!(to, "{text}"),
            Reason::Late => write!(to, "it was not ready in time; does a mount or a hook hang?"),
            Reason::Ended => write!(to, "its process ended before it was ready; was it killed?"),
        }
    }
}

impl From<nix::Error> for Reason {
    fn from(errno: nix::Error) -> Reason {
        Reason::Kernel(errno as i32)
    }
}

impl From<io::Error> for Reason {
    fn from(error: io::Error) -> Reason {
        match error.raw_os_error() {
            Some(number) => Reason::Kernel(number),
            None => Reason::Refused(error.to_string()),
        }
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Reason {
        Reason::Refused(text.to_owned())
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Reason {
        Reason::Refused(text)
    }
}

/// A step that failed. The isolated process sends it to the process that makes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("cannot {step}: {reason}")]
pub struct Failed {
    step: Step,
    reason: Reason,
}

impl Failed {
    /// A failure with its reason.
    pub fn new(step: Step, reason: impl Into<Reason>) -> Failed {
        Failed { step, reason: reason.into() }
    }

    /// A failure of `step`, for `map_err`.
    pub fn at<E: Into<Reason>>(step: Step) -> impl FnOnce(E) -> Failed {
        move |error| Failed::new(step, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_could_not_be_done_with_what_and_why() {
        let mount = Step::Mount("/data".into(), "/var/lib/x".into());
        assert_eq!(
            Failed::new(mount, nix::Error::ENOENT).to_string(),
            r#"cannot mount "/data" from "/var/lib/x": no such file or directory"#
        );
        let spec = Step::Spec("linux.netDevices".into());
        assert_eq!(
            Failed::new(spec, "a guest has no devices").to_string(),
            "cannot carry out linux.netDevices of the spec: a guest has no devices"
        );
    }
}
