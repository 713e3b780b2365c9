//! Certificates of authorities that the node trusts.

use std::fs::File;

/// Paths of the file with all of them, in PEM: of Debian, Ubuntu, Alpine and Arch; Fedora and RHEL; openSUSE; CentOS; FreeBSD and
/// macOS, which others follow.
const PATHS: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Opens the first of them that exists.
pub fn open() -> Option<File> {
    PATHS.iter().find_map(|path| File::open(path).ok())
}
