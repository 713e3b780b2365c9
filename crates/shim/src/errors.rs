//! Errors of this shim, and their ttrpc codes.
//!
//! containerd distinguishes errors by code. It regards NOT_FOUND of Kill and Delete as success, and shows the text of other
//! errors to the user.

use containerd_shim::protos::ttrpc;
use provided::{Place, SettingError};

use crate::lifecycle::Refusal;
use crate::stdio::errors::Error as StdioError;
use crate::{config, options, policy};

/// Error of a call to the task service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no container of that id in this shim.
    #[error("container {0:?} is not in this Pod's shim")]
    NoSuchContainer(String),
    /// There is no exec process of that id.
    #[error("this container has no exec process {0:?}")]
    NoSuchExec(String),
    /// There is no file or built-in command of that name.
    #[error(
        "cannot execute {0:?}: no such file in the container; the built-in command `help` lists the others"
    )]
    NoSuchFile(String),
    /// Exec in the Pod's sandbox is not possible.
    #[error("cannot execute in the Pod's sandbox: it runs no programs")]
    Sandboxed,
    /// The process of an Exec request cannot be read.
    #[error("cannot read the process to execute: {0}")]
    Process(String),
    /// The guest is busy with another profile.
    #[error("cannot take a profile: one of this guest is being taken, and another is waiting")]
    Busy,
    /// The id of a Create or Exec is in use.
    #[error("{0:?} exists already")]
    Exists(String),
    /// The call is not possible in the container's present state.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The bundle is invalid.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The runtime options are invalid.
    #[error(transparent)]
    Options(#[from] options::Error),
    /// The image cannot be used.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The guest cannot be compiled or linked.
    #[error("{0}")]
    Guest(String),
    /// The compilation takes longer than the caller waits.
    #[error(
        "{names}: still {} after {seconds} s; this continues in the background, and the next attempt will use its result",
        if *has_begun { "being compiled" } else { "waiting for others to be compiled" }
    )]
    Compiling {
        /// Names of the layers.
        names: String,
        /// Time since the call, in seconds.
        seconds: u64,
        /// Whether a worker compiles it already.
        has_begun: bool,
    },
    /// The caller of Create is gone.
    #[error(
        "cannot create the container of {0}: its caller is gone, or has asked for its deletion"
    )]
    GivenUp(String),
    /// An annotation of the Pod, or a variable of the container's or of containerd's environment, is invalid.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The guest is not granted what it asks for, or the node's policy cannot be used.
    #[error(transparent)]
    Policy(#[from] policy::Error),
    /// The container's stdio cannot be opened.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The isolation failed.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// The kernel does not have that signal.
    #[error("cannot send signal {0}: it does not exist; allowed is 1 to 64")]
    Signal(u32),
    /// The limits of an Update cannot be read.
    #[error(
        "cannot read the resources: {0}; allowed is LinuxResources of the OCI runtime spec, as JSON"
    )]
    Resources(String),
    /// Checkpoint, or Create from one, is not supported.
    #[error(
        "checkpoints are not supported: they need CRIU, which this runtime does not use, and the state of a guest has no form from which another process could continue"
    )]
    Checkpoint,
    /// An operation of the shim itself failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// The operation.
        action: &'static str,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// I/O error of an operation, for `map_err`.
    pub fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io { action, source }
    }

    fn code(&self) -> ttrpc::Code {
        use ttrpc::Code;
        match self {
            Error::NoSuchContainer(_)
            | Error::NoSuchExec(_)
            | Error::Refused(Refusal::Finished) => Code::NOT_FOUND,
            Error::Exists(_) => Code::ALREADY_EXISTS,
            Error::Refused(_)
            | Error::Busy
            | Error::Setting(SettingError::Value { place: Place::Node, .. })
            | Error::Policy(_)
            | Error::Sandboxed
            | Error::Sandbox(sandbox::Error::Limit { .. }) => Code::FAILED_PRECONDITION,
            Error::GivenUp(_) => Code::CANCELLED,
            Error::Image(image::Error::NoCompileSlot { .. }) => Code::UNAVAILABLE,
            Error::Config(_)
            | Error::Setting(_)
            | Error::Options(_)
            | Error::Image(_)
            | Error::Guest(_)
            | Error::Process(_)
            | Error::NoSuchFile(_)
            | Error::Resources(_)
            | Error::Signal(_) => Code::INVALID_ARGUMENT,
            Error::Compiling { .. } => Code::UNAVAILABLE,
            Error::Checkpoint => Code::UNIMPLEMENTED,
            Error::Stdio(_) | Error::Sandbox(_) | Error::Io { .. } => Code::UNKNOWN,
        }
    }
}

impl From<Error> for ttrpc::Error {
    fn from(error: Error) -> ttrpc::Error {
        let text = text::with_causes(&error);
        log::error!("{text}");
        ttrpc::Error::RpcStatus(ttrpc::get_status(error.code(), text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_written_once() {
        let broken = options::Options::from_toml("SystemdCgroup = true =").expect_err("no TOML");
        let missing = StdioError::Open {
            what: "stdout",
            path: "/x".into(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        for (error, reason) in
            [(Error::from(broken), "expected newline"), (Error::from(missing), "entity not found")]
        {
            let ttrpc::Error::RpcStatus(status) = ttrpc::Error::from(error) else {
                panic!("no status")
            };
            assert_eq!(status.message.matches(reason).count(), 1, "{}", status.message);
        }
    }
}
