//! A registry that runs as long as a value exists.

use std::path::PathBuf;

use tempfile::TempDir;
use tests::registry::Daemon;

/// A registry on loopback, with its files in a directory of its own.
pub struct Registry {
    /// Host and port.
    pub address: String,
    daemon: Daemon,
    directory: TempDir,
}

impl Registry {
    /// Starts a registry that accepts everybody.
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::new(Daemon::start(directory.path()).unwrap(), directory)
    }

    /// Starts a registry that accepts the user `ci` with the password `secret`.
    pub fn with_password() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::new(Daemon::start_with_password(directory.path()).unwrap(), directory)
    }

    /// Starts a registry that speaks TLS, with a certificate for 127.0.0.1. The authority is in the file `ca.pem`.
    pub fn with_tls() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self::new(Daemon::start_with_tls(directory.path()).unwrap(), directory)
    }

    /// Returns the path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn new(daemon: Daemon, directory: TempDir) -> Self {
        Self { address: daemon.address.clone(), daemon, directory }
    }

    /// Returns the number of requests that begin like this, such as `PUT /v2/app/manifests/`.
    pub fn requests(&self, beginning: &str) -> usize {
        self.daemon.requests(beginning).unwrap()
    }
}
