//! Why a Redis cannot be used.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

/// Why not. No text has anything of a reply but its code: replies may repeat keys and values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The look-up of its name failed.
    #[error("cannot look up {name}: {reason}")]
    LookUp {
        /// The name.
        name: String,
        /// The resolver's reason.
        reason: String,
    },
    /// What the node's file allows does not include it.
    #[error("the node does not allow the connection")]
    Denied,
    /// The file of the password cannot be read.
    #[error("cannot read the password {path}: {reason}", path = .path.display())]
    Password {
        /// The path.
        path: PathBuf,
        /// The kernel's reason.
        reason: String,
    },
    /// No connection was made.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// TLS was not agreed on.
    #[error("TLS: {0}")]
    Tls(String),
    /// It takes too long.
    #[error("no answer within 5 s")]
    Timeout,
    /// The connection ended before a reply.
    #[error("the connection broke off")]
    Lost,
    /// The connection ended, or the time, before the reply to a change.
    #[error("{0}; the change may have been made or not")]
    Unknown(Box<Failure>),
    /// The reply is none of Redis.
    #[error("it does not answer as Redis does")]
    NotRedis,
    /// The reply is an error.
    #[error("it refuses: {0}{explained}", explained = explained(.0))]
    Refused(String),
}

/// Code of a replica's refusal of a change.
const READ_ONLY: &str = "READONLY";

/// Errors whose codes alone do not say what to do. The codes are those of Redis and Valkey (`src/server.c`, `createSharedObjects`;
/// `src/acl.c`).
const EXPLAINED: [(&str, &str); 12] = [
    ("ASK", " (it is a node of a cluster, which is not provided)"),
    ("CROSSSLOT", " (it is a node of a cluster, which is not provided)"),
    ("DENIED", " (its protected mode takes no connections from other hosts)"),
    ("LOADING", " (it is reading its data)"),
    ("MISCONF", " (it cannot write its snapshots)"),
    ("MOVED", " (it is a node of a cluster, which is not provided)"),
    ("NOAUTH", " (it wants a password: annotation wasmtime.shim/keyvalue-password-file)"),
    ("NOPERM", " (its user may not do that)"),
    ("OOM", " (its memory is full)"),
    (READ_ONLY, " (it is a replica)"),
    ("WRONGPASS", " (the user or the password is wrong)"),
    ("WRONGTYPE", " (the key has no text, but a list, a set or the like)"),
];

/// Codes of errors about who asks.
const NO_ACCESS: [&str; 4] = ["DENIED", "NOAUTH", "NOPERM", "WRONGPASS"];

fn explained(code: &str) -> &'static str {
    EXPLAINED.iter().find(|(known, _)| *known == code).map_or("", |(_, text)| text)
}

impl Failure {
    /// Of a read or a write of an open connection.
    pub fn of_io(error: &io::Error) -> Failure {
        match error.kind() {
            ErrorKind::TimedOut => Failure::Timeout,
            // What rustls says of bytes that are not TLS.
            ErrorKind::InvalidData => Failure::Tls(error.to_string()),
            _ => Failure::Lost,
        }
    }

    /// Whether another connection to the same host may lead to a server that does not fail so: after a failover, a connection
    /// that is kept leads to what has become a replica.
    pub fn may_be_of_this_connection(&self) -> bool {
        matches!(self, Failure::Refused(code) if code == READ_ONLY)
    }

    /// Whether the guest may not use the store, as opposed to that it cannot.
    pub fn is_no_access(&self) -> bool {
        match self {
            Failure::Denied => true,
            Failure::Refused(code) => NO_ACCESS.contains(&code.as_str()),
            _ => false,
        }
    }
}
