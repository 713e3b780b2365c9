//! The one place where this shim's errors become ttrpc codes.
//!
//! containerd tells them apart by code: it takes NOT_FOUND of Kill and Delete for done, and shows the text
//! of the others to the user.

use containerd_shim::protos::ttrpc;
use provided::{Place, SettingError};

use crate::lifecycle::Refusal;
use crate::stdio::errors::Error as StdioError;
use crate::{config, options};

/// Why a call to the task service failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container of that id in this shim.
    #[error("container {0:?} is not in this Pod's shim")]
    NoSuchContainer(String),
    /// No exec process of that id.
    #[error("this container has no exec process {0:?}")]
    NoSuchExec(String),
    /// Nothing to execute has that name.
    #[error(
        "cannot execute {0:?}: no such file in the container; the built-in command `help` lists the others"
    )]
    NoSuchFile(String),
    /// Exec in the Pod's sandbox.
    #[error("cannot execute in the Pod's sandbox: it runs no programs")]
    Sandboxed,
    /// The process to execute, as the request describes it.
    #[error("cannot read the process to execute: {0}")]
    Process(String),
    /// A profile is being taken of the guest.
    #[error("cannot take a profile: one of this guest is being taken, and another is waiting")]
    Busy,
    /// Create or Exec of an id in use.
    #[error("{0:?} exists already")]
    Exists(String),
    /// Not possible in the container's present state.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The bundle.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The runtime options.
    #[error(transparent)]
    Options(#[from] options::Error),
    /// The image, or what was found in it.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// The guest cannot be compiled or linked.
    #[error("{0}")]
    Guest(String),
    /// Compilation takes longer than the caller waits.
    #[error(
        "{names}: still {} after {seconds} s; this continues in the background, and the next attempt will use its result",
        if *has_begun { "being compiled" } else { "waiting for others to be compiled" }
    )]
    Compiling {
        /// The names of what is compiled.
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
    /// An annotation of the Pod, or a variable of the container's or of containerd's environment.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The container's stdio.
    #[error(transparent)]
    Stdio(#[from] StdioError),
    /// The isolation.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// A signal this kernel does not have.
    #[error("cannot send signal {0}: it does not exist; allowed is 1 to 64")]
    Signal(u32),
    /// The limits of an Update.
    #[error(
        "cannot read the resources: {0}; allowed is LinuxResources of the OCI runtime spec, as JSON"
    )]
    Resources(String),
    /// Checkpoint, or Create from one.
    #[error(
        "checkpoints are not supported: they need CRIU, which this runtime does not use, and the state of a guest has no form from which another process could continue"
    )]
    Checkpoint,
    /// A file or task of the shim's own.
    #[error("{action}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// For `map_err`: an I/O error with what was being done.
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
            | Error::Sandboxed
            | Error::Sandbox(sandbox::Error::Limit { .. }) => Code::FAILED_PRECONDITION,
            Error::GivenUp(_) => Code::CANCELLED,
            Error::Image(image::Error::NoTurn { .. }) => Code::UNAVAILABLE,
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
