//! Certificate authorities that a guest's requests trust: those of a file in the container, or else those that the node
//! trusts.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::lines::Lines;

/// Variable with the path of a PEM file of certificates that are trusted instead of the node's, as in OpenSSL, Go and Python.
pub const VARIABLE: &str = "SSL_CERT_FILE";

/// The most that is read of the file, in bytes. A distribution's file has 250 kB.
const MOST: u64 = 16 << 20;

/// How long a configuration is used for other connections, so that a client that tries for ever does not read for ever.
const KEPT: Duration = Duration::from_secs(10);

/// Certificates of authorities, read when the first connection needs them.
pub struct Roots {
    /// Path of the container's own file.
    path: Option<String>,
    /// The node's file.
    node: Option<File>,
    /// The configuration of TLS with them, and when they were read.
    client: Mutex<Option<(Instant, Arc<ClientConfig>)>>,
    lines: Lines,
}

impl Roots {
    /// Takes the value of [`VARIABLE`], where an empty value counts as unset, and the node's file of certificates.
    pub fn new(path: Option<&str>, node: Option<File>) -> Roots {
        let path = path.filter(|path| !path.is_empty()).map(str::to_owned);
        Roots { path, node, client: Mutex::default(), lines: Lines::default() }
    }

    /// Returns the configuration of TLS. If a file of the container cannot be read, no certificate is trusted, and this is
    /// logged once.
    ///
    /// # Errors
    /// If the cryptography supports no version of TLS.
    pub fn client(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, config)) = &*client
            && since.elapsed() < KEPT
        {
            return Ok(config.clone());
        }
        let config = Arc::new(self.read_client()?);
        *client = Some((Instant::now(), config.clone()));
        Ok(config)
    }

    /// Gives back what an idle server does not need.
    pub fn release(&self) {
        if let Ok(mut client) = self.client.try_lock() {
            *client = None;
        }
    }

    fn read_client(&self) -> Result<ClientConfig, rustls::Error> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?;
        Ok(builder.with_root_certificates(self.store()).with_no_client_auth())
    }

    fn store(&self) -> RootCertStore {
        if let Some(path) = &self.path {
            return open(path).and_then(|file| read(&file)).unwrap_or_else(|error| {
                self.warn(&format!("{VARIABLE}: {path}: {error}; no certificate is trusted"));
                RootCertStore::empty()
            });
        }
        let node = self.node.as_ref().and_then(|file| {
            let reason = |error| self.warn(&format!("the node's certificates: {error}"));
            read(file).map_err(reason).ok()
        });
        node.unwrap_or_else(|| RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() })
    }

    fn warn(&self, reason: &str) {
        self.lines.log(reason, &format!("warning: {reason}"));
    }
}

/// Opens the file without waiting, because it may be a FIFO without a writer.
fn open(path: &str) -> io::Result<File> {
    let mut options = File::options();
    let file = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a file")),
    }
}

/// Reads certificates. Entries that are not usable certificates are skipped, because every such file has old ones. There must be
/// at least one certificate.
fn read(file: &File) -> io::Result<RootCertStore> {
    let mut pem = vec![0; usize::try_from(file.metadata()?.len().min(MOST)).unwrap_or_default()];
    // Read by position, because the descriptor's own position may be anywhere.
    file.read_exact_at(&mut pem, 0)?;
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    match store.is_empty() {
        true => Err(io::Error::other("there is no certificate in it, in PEM")),
        false => Ok(store),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const AUTHORITY: &str = "\
-----BEGIN CERTIFICATE-----
MIIBgDCCASWgAwIBAgIUWIsO5HmggBQXgyqcmfqO6U3YYSgwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJYXV0aG9yaXR5MCAXDTI2MTEyMjA4MjIxM1oYDzIxMjYxMDI5
MDgyMjEzWjAUMRIwEAYDVQQDDAlhdXRob3JpdHkwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAT8YAV5Wasm/D7UBC14D0m/IAxTV6N6wxA8T9KK/tQIpiQOPjjdZoXv
Oma4k/LpprunVZeBN+nHLxhcSDmVpveio1MwUTAdBgNVHQ4EFgQUz7q6l7AgUv4n
ywdnYV0/8uEL5hwwHwYDVR0jBBgwFoAUz7q6l7AgUv4nywdnYV0/8uEL5hwwDwYD
VR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNJADBGAiEAzyJlcaM2mQYePuHX30ph
EFbBou8YS4PY1T47QfO9QlcCIQCy0L8D3gc7PSXwFzhurtphxMonrKJACXAynzEb
fd614Q==
-----END CERTIFICATE-----
";

    fn file(text: &str) -> File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        file
    }

    #[test]
    fn the_nodes_file_is_read_wherever_its_position_is_and_as_often_as_it_is_asked() {
        let roots = Roots::new(Some(""), Some(file(&format!("# comment\n{AUTHORITY}"))));
        assert_eq!([roots.store().len(), roots.store().len()], [1, 1]);
    }

    #[test]
    fn many_connections_share_what_was_read_until_it_is_released() {
        let roots = Roots::new(None, Some(file(AUTHORITY)));
        let first = roots.client().expect("a configuration");
        assert!(Arc::ptr_eq(&first, &roots.client().expect("a configuration")));
        roots.release();
        assert!(!Arc::ptr_eq(&first, &roots.client().expect("a configuration")));
    }

    #[test]
    fn without_a_certificate_of_the_nodes_mozillas_are_trusted_and_of_the_containers_none() {
        let all = webpki_roots::TLS_SERVER_ROOTS.len();
        assert_eq!(Roots::new(None, Some(file("none"))).store().len(), all);
        assert_eq!(Roots::new(None, None).store().len(), all);
        for path in ["/missing", "/dev/null", "/"] {
            assert!(Roots::new(Some(path), Some(file(AUTHORITY))).store().is_empty(), "{path}");
        }
    }
}
