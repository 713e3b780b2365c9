//! A registry that runs as long as a value.

use std::path::PathBuf;

use tempfile::TempDir;
use tests::registry::Daemon;

/// A registry on loopback, with its files in a folder of its own.
pub struct Registry {
    /// Host and port.
    pub address: String,
    daemon: Daemon,
    folder: TempDir,
}

impl Registry {
    /// One that lets everybody in.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::new(Daemon::start(folder.path()).unwrap(), folder)
    }

    /// One that lets in user `ci` with the password `secret`.
    pub fn with_password() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::new(Daemon::start_with_password(folder.path()).unwrap(), folder)
    }

    /// One that speaks TLS, with a certificate for 127.0.0.1 by the authority in the file `ca.pem`.
    pub fn with_tls() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::new(Daemon::start_with_tls(folder.path()).unwrap(), folder)
    }

    /// One of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn new(daemon: Daemon, folder: TempDir) -> Self {
        Self { address: daemon.address.clone(), daemon, folder }
    }

    /// How many requests it had that begin so, such as `PUT /v2/app/manifests/`.
    pub fn requests(&self, beginning: &str) -> usize {
        self.daemon.requests(beginning).unwrap()
    }
}
