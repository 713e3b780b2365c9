//! Authorities whose certificates are accepted: the system's, or those of `SSL_CERT_FILE`, and those of `--ca-file`.

use std::path::PathBuf;

use anyhow::Result;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::errors::Error;

/// Advice for an authority that is not trusted.
pub const ADVICE: &str = "name its certificate with --ca-file FILE.pem, or in SSL_CERT_FILE";

/// Returns the additional authorities, each as DER.
///
/// # Errors
/// [`Error::NotFound`], and [`Error::Usage`] for a file without a certificate.
pub fn authorities(files: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    for file in files {
        let text = crate::read(file)?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
        let found = found.unwrap_or_default();
        if found.is_empty() {
            let file = file.display();
            let text =
                format!("cannot use --ca-file \"{file}\": it has no certificate in PEM form");
            return Err(Error::Usage(text).into());
        }
        all.extend(found.iter().map(|it| it.to_vec()));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_authorities_has_at_least_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.pem");
        let one = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
        std::fs::write(&file, one.repeat(2)).unwrap();
        let files = [file.clone()];
        assert_eq!(authorities(&files).unwrap(), [[0, 1, 2], [0, 1, 2]]);
        for text in ["", "hello", "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n"] {
            std::fs::write(&file, text).unwrap();
            let error = authorities(&files).unwrap_err();
            assert!(error.to_string().contains("no certificate in PEM form"), "{error}");
            assert_eq!(crate::errors::exit_code(&error), 2);
        }
        std::fs::remove_file(&file).unwrap();
        assert_eq!(crate::errors::exit_code(&authorities(&files).unwrap_err()), 3);
    }
}
