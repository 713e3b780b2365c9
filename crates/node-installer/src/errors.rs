//! What can go wrong, and the exit code of each kind.

use std::io;
use std::path::{Path, PathBuf};

/// Nothing was changed.
const FAILED: u8 = 1;
/// Nothing was changed, because it would have harmed what is there.
const REFUSED: u8 = 4;
/// All is as it was before.
const ROLLED_BACK: u8 = 5;
/// The node needs a person.
const BROKEN: u8 = 6;

/// An error with an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No containerd that we know how to configure.
    #[error(
        "cannot find containerd: none of {looked} is there; name it by --containerd, or its version by \
         --containerd-version"
    )]
    NoContainerd {
        /// The paths that were tried.
        looked: String,
    },
    /// A text that containerd does not understand either.
    #[error("cannot edit {path:?}: it is not valid TOML: {reason}")]
    BrokenConfig {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        reason: String,
    },
    /// A configuration in a form that we do not know.
    #[error(
        "cannot edit {path:?}: its version is {found}; allowed is 2, 3 or 4 (`containerd config migrate` makes a newer \
         one of version 1)"
    )]
    ConfigVersion {
        /// The file.
        path: PathBuf,
        /// The version, 1 where the file has none.
        found: i64,
    },
    /// The CRI plugin is turned off.
    #[error(
        "cannot use {path:?}: it disables {plugin:?}, without which there is no Kubernetes on this node"
    )]
    CriDisabled {
        /// The file.
        path: PathBuf,
        /// The plugin as it is named there.
        plugin: String,
    },
    /// A table where containerd expects another kind of value.
    #[error("cannot edit {path:?}: {key} is not a table")]
    NoTable {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A shim of the same name that we did not bring.
    #[error(
        "cannot install {path:?}: another shim of that name is there ({version}, {owner}); --replace puts ours in its \
         place, and `uninstall` brings it back"
    )]
    ForeignShim {
        /// The file.
        path: PathBuf,
        /// What it says about itself.
        version: String,
        /// The user, and the package where a package manager knows it.
        owner: String,
    },
    /// A handler of the same name that runs another shim.
    #[error(
        "cannot add the handler \"wasmtime\" to {path:?}: it has one of type {runtime:?}; --replace puts ours in its \
         place, and `uninstall` brings it back"
    )]
    ForeignHandler {
        /// The file.
        path: PathBuf,
        /// Its `runtime_type`.
        runtime: String,
    },
    /// A handler in a text that is no TOML.
    #[error(
        "cannot add the handler \"wasmtime\" to {path:?}: the template has one already; remove it there, and install \
         again"
    )]
    HandlerInTemplate {
        /// The template.
        path: PathBuf,
    },
    /// A service without a file of variables.
    #[error(
        "cannot pass variables to the shims: {distribution} has no file for those of containerd's service"
    )]
    NoVariables {
        /// Which distribution.
        distribution: String,
    },
    /// Nowhere to put the binary.
    #[error("cannot install the shim: {tried}; name a directory by --bin-dir")]
    NoBinDir {
        /// Each directory and why it cannot be used.
        tried: String,
    },
    /// The file to install is not there or is not what it should be.
    #[error("cannot install {path:?}: {reason}")]
    BadShim {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// An operation on a file.
    #[error("cannot {action} {path:?}: {}", explain(.source))]
    File {
        /// Such as `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another installer works here.
    #[error("another node-installer works on this node; try again when it has ended")]
    Busy,
    /// containerd reads the new configuration and does not accept it.
    #[error("{program:?} does not accept the new configuration, nothing was changed: {reason}")]
    NotAccepted {
        /// The containerd that was asked.
        program: PathBuf,
        /// Its words.
        reason: String,
    },
    /// A restart would end every Pod.
    #[error(
        "cannot restart {unit}: its KillMode is {mode}, which ends all Pods of the node with it; allowed is process or none"
    )]
    KillMode {
        /// The systemd unit.
        unit: String,
        /// As systemd has it.
        mode: String,
    },
    /// There is nobody to restart containerd.
    #[error("cannot restart containerd: {reason}")]
    NoRestart {
        /// Why, and what to do.
        reason: String,
    },
    /// Pods of the handler are there.
    #[error(
        "cannot uninstall: Pods of the handler \"wasmtime\" are running: {pods}; drain the node or delete them first \
         (--force leaves them without their shim)"
    )]
    PodsRunning {
        /// Their names.
        pods: String,
    },
    /// containerd did not come back with the handler.
    #[error(
        "containerd did not come back with the handler, everything is as it was before: {reason}"
    )]
    RolledBack {
        /// Why.
        reason: String,
    },
    /// Nor did it come back without it.
    #[error(
        "containerd did not come back, and does not answer with its former configuration either: {reason}; see `systemctl \
         status` and the containerd log"
    )]
    NotRolledBack {
        /// Why.
        reason: String,
    },
    /// A call to the Kubernetes API.
    #[error("cannot {what}: {reason}")]
    Api {
        /// Such as `label node "a"`.
        what: String,
        /// The answer, or what became of the connection.
        reason: String,
    },
}

impl Error {
    /// The exit code, as `--help` lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::ConfigVersion { .. }
            | Error::CriDisabled { .. }
            | Error::ForeignShim { .. }
            | Error::ForeignHandler { .. }
            | Error::HandlerInTemplate { .. }
            | Error::NoBinDir { .. }
            | Error::NoVariables { .. }
            | Error::NotAccepted { .. }
            | Error::KillMode { .. }
            | Error::NoRestart { .. }
            | Error::PodsRunning { .. } => REFUSED,
            Error::RolledBack { .. } => ROLLED_BACK,
            Error::NotRolledBack { .. } => BROKEN,
            _ => FAILED,
        }
    }

    /// The error of an operation on a file.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    }
}

/// What to do about the two errors that an administrator can fix, after the kernel's own words.
fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".into(),
        io::ErrorKind::StorageFull => {
            "no space is left on the device; free some, and try again".into()
        }
        _ => error.to_string(),
    }
}

/// The exit code of any error: that of the first in its chain that has one of its own.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|it| it.downcast_ref::<Error>()).map_or(FAILED, Error::exit_code)
}
