//! Errors that a script may want to distinguish, each with an exit code.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// An error with an exit code of its own. Its text is one sentence that names the fault and the place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is well-formed but its meaning is invalid.
    #[error("{0}")]
    Usage(String),
    /// Something does not exist.
    #[error("{place} has no {what}")]
    NotFound {
        /// The repository, archive or directory.
        place: String,
        /// What does not exist.
        what: String,
    },
    /// The registry answered HTTP 401 or 403.
    #[error("{registry} does not let {who} {what} (HTTP {status}){detail}: {advice}")]
    Denied {
        /// Host and port.
        registry: String,
        /// Owner of the credentials that were sent, as text.
        who: String,
        /// The action that was attempted.
        what: String,
        /// Status of the answer.
        status: u16,
        /// Message of the registry in brackets, or nothing.
        detail: String,
        /// What to do.
        advice: String,
    },
    /// Credentials are configured but cannot be read.
    #[error("{0}")]
    Credentials(String),
    /// The shim cannot run the image.
    #[error("{image} cannot run on wasmtime-shim {}: {reason}", env!("CARGO_PKG_VERSION"))]
    CannotRun {
        /// The image or file.
        image: String,
        /// The reason, such as a missing import.
        reason: String,
    },
    /// A node would not create some containers.
    #[error("the node refuses {refused} of {all} containers")]
    NotAdmitted {
        /// Number of containers that it would not create.
        refused: usize,
        /// Number of containers.
        all: usize,
    },
    /// The registry may succeed later: it answered 429 or 5xx, or a connection was refused or cut.
    #[error("{registry} cannot be used to {what}: {reason}{attempts}")]
    Unavailable {
        /// Host and port.
        registry: String,
        /// The action that was attempted.
        what: String,
        /// The answer, or the fault of the connection.
        reason: String,
        /// The wait that the registry asked for (HTTP `Retry-After`).
        wait: Option<Duration>,
        /// Number of attempts as text. Empty while there are more.
        attempts: String,
    },
    /// The registry gave any other answer without success.
    #[error("{registry} refuses to {what}: {reason}")]
    Refused {
        /// Host and port.
        registry: String,
        /// The action that was attempted.
        what: String,
        /// The answer's status and message.
        reason: String,
    },
    /// The answer is none that a registry gives (OCI distribution specification). It may be from a proxy, a portal or a
    /// web server.
    #[error("cannot {what}: {registry} does not answer as a registry does: {reason}")]
    NoRegistry {
        /// Host and port.
        registry: String,
        /// The action that was attempted.
        what: String,
        /// The answer, and what was expected.
        reason: String,
    },
    /// TLS with the server fails.
    #[error("cannot {what}: there is no TLS with {registry}: {reason}")]
    Tls {
        /// Host and port.
        registry: String,
        /// The action that was attempted.
        what: String,
        /// The reason, and what to do.
        reason: String,
    },
    /// The registry redirects away from HTTPS.
    #[error("cannot {what}: {registry} leads to {url}, where nothing is encrypted")]
    Unencrypted {
        /// Host and port.
        registry: String,
        /// The action that was attempted.
        what: String,
        /// Scheme, host and port of the other server.
        url: String,
    },
    /// Content does not match its digest.
    #[error("{place} has other content for {expected}: its digest is {found}")]
    Digest {
        /// The repository, archive or directory.
        place: String,
        /// The expected digest.
        expected: String,
        /// Digest of the bytes that were found.
        found: String,
    },
    /// Content has another length than stated.
    #[error("{place} has {found} for {digest}, which is stated to have {stated} bytes")]
    Size {
        /// The repository, archive or directory.
        place: String,
        /// Digest of the content.
        digest: String,
        /// Length in the manifest.
        stated: u64,
        /// What was found instead, as text.
        found: String,
    },
    /// Something is larger than a limit.
    #[error("{what} has {size} bytes; allowed is at most {limit}")]
    TooLarge {
        /// The content and its place.
        what: String,
        /// Size in bytes, at least.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

impl Error {
    /// Returns the exit code, as `--help` lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::NotFound { .. } => 3,
            Error::Denied { .. } | Error::Credentials(_) => 4,
            Error::CannotRun { .. } => 5,
            Error::Unavailable { .. } => 6,
            Error::NotAdmitted { .. } => 7,
            Error::Refused { .. }
            | Error::NoRegistry { .. }
            | Error::Tls { .. }
            | Error::Unencrypted { .. }
            | Error::Digest { .. }
            | Error::Size { .. }
            | Error::TooLarge { .. } => 1,
        }
    }

    /// Returns whether the same request may succeed a little later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Error::Unavailable { .. })
    }

    /// Returns the wait that the registry asked for.
    pub fn asked_wait(&self) -> Option<Duration> {
        match self {
            Error::Unavailable { wait, .. } => *wait,
            _ => None,
        }
    }

    /// Adds the number of attempts to the error.
    pub fn after(mut self, count: u32) -> Self {
        if let Error::Unavailable { attempts, .. } = &mut self {
            *attempts = match count {
                1 => String::new(),
                count => format!(" (tried {count} times)"),
            };
        }
        self
    }
}

/// Returns the exit code of any error: that of the first error in its chain that has one.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|it| it.downcast_ref::<Error>()).map_or(1, Error::exit_code)
}

/// Returns the error for a file or directory that cannot be read: [`Error::NotFound`] if it does not exist.
pub fn unreadable(path: &Path, error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            let what = format!("file or directory {}", path.display());
            Error::NotFound { place: "this machine".into(), what }.into()
        }
        _ => anyhow::Error::new(error).context(format!("cannot read {}", path.display())),
    }
}

/// Fails if `what` is larger than a limit.
pub fn within(limit: u64, what: impl FnOnce() -> String, size: u64) -> Result<(), Error> {
    match size > limit {
        true => Err(Error::TooLarge { what: what(), size, limit }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_exit_code_is_found_below_what_was_said_about_it() {
        let found = Error::NotFound { place: "r.example/app".into(), what: "tag 1".into() };
        let error = Err::<(), _>(found).context("cannot copy").context("in the morning");
        assert_eq!(exit_code(&error.unwrap_err()), 3);
        assert_eq!(exit_code(&anyhow::anyhow!("else")), 1);
    }
}
