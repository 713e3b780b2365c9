//! Makes a certificate that its own authority has signed, with `openssl`.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::command;

/// Makes the files in a directory: the authority is `ca.pem`, the certificate `cert.pem`, its key `key.pem`. `names`
/// are the names in the certificate in openssl's form: `DNS:localhost,IP:127.0.0.1`.
pub fn make(folder: &Path, names: &str) -> Result<()> {
    let place = folder.display();
    let openssl = |line: &str| command::must(&format!("openssl {line}"));
    let subject = "-subj /CN=authority";
    openssl(&format!(
        "req -x509 -newkey rsa:2048 -nodes -days 1 {subject} -keyout {place}/ca.key -out {place}/ca.pem"
    ))?;
    openssl(&format!(
        "req -newkey rsa:2048 -nodes -subj /CN=server -keyout {place}/key.pem -out {place}/request"
    ))?;
    fs::write(folder.join("names"), format!("subjectAltName={names}\n"))?;
    openssl(&format!(
        "x509 -req -in {place}/request -CA {place}/ca.pem -CAkey {place}/ca.key -CAcreateserial -days 1 \
         -extfile {place}/names -out {place}/cert.pem"
    ))?;
    Ok(())
}
