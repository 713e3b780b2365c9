//! The certificates of authorities that the node trusts.

use std::fs::File;

/// Where distributions have them in one file, in PEM: Debian, Ubuntu, Alpine and Arch; Fedora and RHEL; openSUSE;
/// CentOS; FreeBSD's and macOS's place, which others follow.
const PLACES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Opens the first that there is.
pub fn open() -> Option<File> {
    PLACES.iter().find_map(|path| File::open(path).ok())
}
