//! What can go wrong in ways that a script may want to tell apart, and the exit code of each.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// An error with an exit code of its own. Its text is one sentence that names what and where.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for something that cannot be, which only its meaning tells.
    #[error("{0}")]
    Usage(String),
    /// A name that leads nowhere.
    #[error("{place} has no {what}")]
    NotFound {
        /// The repository, archive or folder.
        place: String,
        /// What was asked for.
        what: String,
    },
    /// HTTP 401 and 403.
    #[error("{registry} does not let {who} {what} (HTTP {status}){detail}: {advice}")]
    Denied {
        /// Host and port.
        registry: String,
        /// Whose credentials were sent, in words.
        who: String,
        /// What was attempted.
        what: String,
        /// The answer.
        status: u16,
        /// What the registry said about it, in brackets or nothing.
        detail: String,
        /// What to do.
        advice: String,
    },
    /// Credentials that are configured and cannot be had.
    #[error("{0}")]
    Credentials(String),
    /// The shim cannot run the image.
    #[error("{image} cannot run on wasmtime-shim {}: {reason}", env!("CARGO_PKG_VERSION"))]
    CannotRun {
        /// Which image or file.
        image: String,
        /// Why, such as an import that is missing.
        reason: String,
    },
    /// A registry that may answer better later: 429, 5xx, a connection that is refused or cut.
    #[error("{registry} cannot be used to {what}: {reason}{attempts}")]
    Unavailable {
        /// Host and port.
        registry: String,
        /// What was attempted.
        what: String,
        /// The answer, or what became of the connection.
        reason: String,
        /// What the registry asked to wait (HTTP `Retry-After`).
        wait: Option<Duration>,
        /// How often it was tried, in words; empty while it still is.
        attempts: String,
    },
    /// Any other answer that is no success.
    #[error("{registry} refuses to {what}: {reason}")]
    Refused {
        /// Host and port.
        registry: String,
        /// What was attempted.
        what: String,
        /// The answer's status and message.
        reason: String,
    },
    /// An answer that no registry gives (OCI distribution specification): that of a proxy, a portal or a web server.
    #[error("cannot {what}: {registry} does not answer as a registry does: {reason}")]
    NoRegistry {
        /// Host and port.
        registry: String,
        /// What was attempted.
        what: String,
        /// The answer, and what was expected.
        reason: String,
    },
    /// A server with which there can be no TLS.
    #[error("cannot {what}: there is no TLS with {registry}: {reason}")]
    Tls {
        /// Host and port.
        registry: String,
        /// What was attempted.
        what: String,
        /// Why, and what to do.
        reason: String,
    },
    /// A registry that leads away from HTTPS.
    #[error("cannot {what}: {registry} leads to {url}, where nothing is encrypted")]
    Unencrypted {
        /// Host and port.
        registry: String,
        /// What was attempted.
        what: String,
        /// Scheme, host and port of the other place.
        url: String,
    },
    /// Content that is not what its digest says.
    #[error("{place} has other content for {expected}: its digest is {found}")]
    Digest {
        /// The repository, archive or folder.
        place: String,
        /// The digest that names it.
        expected: String,
        /// That of the bytes that are there.
        found: String,
    },
    /// Content of another length than stated.
    #[error("{place} has {found} for {digest}, which is stated to have {stated} bytes")]
    Size {
        /// The repository, archive or folder.
        place: String,
        /// Which content.
        digest: String,
        /// Its length by the manifest.
        stated: u64,
        /// What there is instead, in words.
        found: String,
    },
    /// More than a limit.
    #[error("{what} has {size} bytes, and {limit} are allowed")]
    TooLarge {
        /// What, and where.
        what: String,
        /// Its size in bytes, at least.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
}

impl Error {
    /// The exit code, as `--help` lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::NotFound { .. } => 3,
            Error::Denied { .. } | Error::Credentials(_) => 4,
            Error::CannotRun { .. } => 5,
            Error::Unavailable { .. } => 6,
            Error::Refused { .. }
            | Error::NoRegistry { .. }
            | Error::Tls { .. }
            | Error::Unencrypted { .. }
            | Error::Digest { .. }
            | Error::Size { .. }
            | Error::TooLarge { .. } => 1,
        }
    }

    /// Whether the same request may succeed a little later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Error::Unavailable { .. })
    }

    /// What the registry asked to wait.
    pub fn asked_wait(&self) -> Option<Duration> {
        match self {
            Error::Unavailable { wait, .. } => *wait,
            _ => None,
        }
    }

    /// The same error, told after so many attempts.
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

/// The exit code of any error: that of the first in its chain that has one of its own.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|it| it.downcast_ref::<Error>()).map_or(1, Error::exit_code)
}

/// The error of a file or folder that cannot be read: [`Error::NotFound`] where there is none.
pub fn unreadable(path: &Path, error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            let what = format!("file or folder {}", path.display());
            Error::NotFound { place: "this machine".into(), what }.into()
        }
        _ => anyhow::Error::new(error).context(format!("cannot read {}", path.display())),
    }
}

/// Fails when `what` is larger than a limit.
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
