//! Errors of the installer, and the exit code of each kind.

use std::io;
use std::path::{Path, PathBuf};

/// Nothing was changed.
const FAILED: u8 = 1;
/// Nothing was changed, because the change would have harmed what exists.
const REFUSED: u8 = 4;
/// Everything is as it was before.
const ROLLED_BACK: u8 = 5;
/// The node needs an administrator.
const BROKEN: u8 = 6;

/// An error with an exit code of its own.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no containerd that the installer knows how to configure.
    #[error(
        "cannot find containerd: none of {looked} exists; name it with --containerd, or its version with \
         --containerd-version"
    )]
    NoContainerd {
        /// Paths that were tried.
        looked: String,
    },
    /// The file is not valid TOML, so containerd cannot read it either.
    #[error("cannot edit {path:?}: it is not valid TOML: {reason}")]
    BrokenConfig {
        /// Path of the file.
        path: PathBuf,
        /// The parser's message, with line and column.
        reason: String,
    },
    /// The configuration has a version that the installer does not know.
    #[error(
        "cannot edit {path:?}: its version is {found}; allowed is 2, 3 or 4 (`containerd config migrate` makes a newer \
         one of version 1)"
    )]
    ConfigVersion {
        /// Path of the file.
        path: PathBuf,
        /// The version. It is 1 if the file has none.
        found: i64,
    },
    /// The CRI plugin is disabled.
    #[error(
        "cannot use {path:?}: it disables {plugin:?}, and Kubernetes cannot run on this node without that plugin"
    )]
    CriDisabled {
        /// Path of the file.
        path: PathBuf,
        /// Name of the plugin in the file.
        plugin: String,
    },
    /// A value is not a table, but containerd expects one.
    #[error("cannot edit {path:?}: {key} is not a table")]
    NoTable {
        /// Path of the file.
        path: PathBuf,
        /// Key of the value.
        key: String,
    },
    /// There is another shim of the same name.
    #[error(
        "cannot install {path:?}: another shim of that name is there ({version}, {owner}); --replace replaces it, and \
         `uninstall` restores it"
    )]
    ForeignShim {
        /// Path of the other shim.
        path: PathBuf,
        /// Version that it reports.
        version: String,
        /// Its user, and its package if a package manager knows it.
        owner: String,
    },
    /// There is a handler of the same name that runs another shim.
    #[error(
        "cannot add the handler \"wasmtime\" to {path:?}: it has one of type {runtime:?}; --replace replaces it, and \
         `uninstall` restores it"
    )]
    ForeignHandler {
        /// Path of the file.
        path: PathBuf,
        /// `runtime_type` of the other handler.
        runtime: String,
    },
    /// A text that is not TOML already has the handler.
    #[error(
        "cannot add the handler \"wasmtime\" to {path:?}: the template has one already; remove it there, and install \
         again"
    )]
    HandlerInTemplate {
        /// Path of the template.
        path: PathBuf,
    },
    /// The service has no file for variables.
    #[error(
        "cannot pass variables to the shims: {distribution} has no file for those of containerd's service"
    )]
    NoVariables {
        /// The distribution.
        distribution: String,
    },
    /// No directory is suitable for the binary.
    #[error("cannot install the shim: {tried}; name a directory with --bin-dir")]
    NoBinDir {
        /// Each directory, and why it cannot be used.
        tried: String,
    },
    /// The file to install does not exist or is not the shim.
    #[error("cannot install {path:?}: {reason}")]
    BadShim {
        /// Path of the file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
    /// An operation on a file failed.
    #[error("cannot {action} {path:?}: {}", explain(.source))]
    File {
        /// The operation, such as `write`.
        action: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another installer is running on this node.
    #[error("another node-installer is running on this node; try again when it has ended")]
    Busy,
    /// containerd does not accept the new configuration.
    #[error("{program:?} does not accept the new configuration, and nothing was changed: {reason}")]
    NotAccepted {
        /// Path of containerd.
        program: PathBuf,
        /// Message of containerd.
        reason: String,
    },
    /// A restart would end every Pod.
    #[error(
        "cannot restart {unit}: its KillMode is {mode}, which ends all Pods of the node with it; allowed is process or none"
    )]
    KillMode {
        /// Name of the systemd unit.
        unit: String,
        /// `KillMode` of the unit.
        mode: String,
    },
    /// The installer knows no way to restart containerd.
    #[error("cannot restart containerd: {reason}")]
    NoRestart {
        /// The reason, and what to do.
        reason: String,
    },
    /// Pods of the handler are running.
    #[error(
        "cannot uninstall: Pods of the handler \"wasmtime\" are running: {pods}; drain the node or delete them first \
         (--force leaves them without their shim)"
    )]
    PodsRunning {
        /// Names of the Pods.
        pods: String,
    },
    /// containerd did not come back with the handler.
    #[error(
        "containerd did not come back with the handler, and everything is as it was before: {reason}"
    )]
    RolledBack {
        /// The reason.
        reason: String,
    },
    /// containerd did not come back with the former configuration either.
    #[error(
        "containerd did not come back, and does not answer with its former configuration either: {reason}; see `systemctl \
         status` and the containerd log"
    )]
    NotRolledBack {
        /// The reason.
        reason: String,
    },
    /// A call to the Kubernetes API failed.
    #[error("cannot {what}: {reason}")]
    Api {
        /// The action, such as `label node "a"`.
        what: String,
        /// The answer, or the fault of the connection.
        reason: String,
    },
}

impl Error {
    /// Returns the exit code, as `--help` lists them.
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

    /// Makes the error of an operation on a file.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    }
}

/// Explains the two errors that an administrator can fix. Other errors keep the kernel's text.
fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".into(),
        io::ErrorKind::StorageFull => {
            "no space is left on the device; free some, and try again".into()
        }
        _ => error.to_string(),
    }
}

/// Returns the exit code of any error: that of the first error in its chain that has one.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|it| it.downcast_ref::<Error>()).map_or(FAILED, Error::exit_code)
}
