//! Errors of opening a process's stdio.

use std::path::{Path, PathBuf};

/// Error of stdio that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A fifo or file cannot be opened.
    #[error("open {what} at {path}: {source}", path = .path.display())]
    Open {
        /// `stdin`, `stdout` or `stderr`.
        what: &'static str,
        /// Path, from containerd.
        path: PathBuf,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A logging URI is of another kind.
    #[error(
        "{what} is {uri:?}; allowed are a fifo's path, file:///path, and of stdout binary:///path?key=value"
    )]
    Scheme {
        /// `stdin`, `stdout` or `stderr`.
        what: &'static str,
        /// URI, from containerd.
        uri: String,
    },
}

/// Error of opening `path`, for `map_err`.
pub fn failed(what: &'static str, path: &Path) -> impl Fn(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Open { what, path: path.clone(), source }
}
