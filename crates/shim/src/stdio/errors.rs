//! Errors of opening a process's stdio.

use std::path::{Path, PathBuf};

/// Stdio that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A fifo or file.
    #[error("open {what} at {path}: {source}", path = .path.display())]
    Open {
        /// `stdin`, `stdout` or `stderr`.
        what: &'static str,
        /// As containerd gave it.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A logging URI of another kind.
    #[error(
        "{what} is {uri:?}; allowed are a fifo's path, file:///path, and of stdout binary:///path?key=value"
    )]
    Scheme {
        /// `stdin`, `stdout` or `stderr`.
        what: &'static str,
        /// As containerd gave it.
        uri: String,
    },
}

/// For `map_err`.
pub fn failed(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Open { what, path: path.clone(), source }
}
