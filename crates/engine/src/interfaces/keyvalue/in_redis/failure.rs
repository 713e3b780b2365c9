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
    /// Earlier calls take too long.
    #[error("no turn within 5 s, because earlier calls wait for their answers")]
    Busy,
    /// The connection ended before a reply.
    #[error("the connection broke off")]
    Lost,
    /// There was no proper reply to a change.
    #[error("{0}; the change may have been made or not")]
    Unknown(Box<Failure>),
    /// The reply is none of Redis.
    #[error("it does not answer as Redis does")]
    NotRedis,
    /// The reply is an error.
    #[error("it refuses: {0}{explained}", explained = explained(.0))]
    Refused(String),
    /// The reply is an error whose code says nothing.
    #[error("it refuses: {0}")]
    Phrase(&'static str),
    /// It has no database of that number.
    #[error("it refuses: it has no database {0}")]
    Database(u32),
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

/// Beginnings of errors whose code is `ERR`, and what they mean. Only these texts are shown, because an error may repeat keys
/// (`src/server.c`, `src/networking.c`, `src/acl.c`, `src/db.c`; those of older versions as well).
const PHRASES: [(&str, &str); 6] = [
    ("AUTH <password> called without", NO_PASSWORD),
    ("Client sent AUTH, but no password is set", NO_PASSWORD),
    ("max number of clients", "it has as many clients as it may have (maxclients)"),
    ("SELECT is not allowed in cluster", "it is a node of a cluster, which is not provided"),
    ("unknown command", "it does not know the command: it is too old, or the command was renamed"),
    ("wrong number of arguments for 'auth'", "it is older than version 6, which has no users"),
];

const NO_PASSWORD: &str =
    "it has no password, but annotation wasmtime.shim/keyvalue-password-file names one";

/// Beginnings of errors about the number of a database.
pub const NO_DATABASE: [&str; 2] = ["DB index is out of range", "invalid DB index"];

/// Codes of errors about who asks.
const NO_ACCESS: [&str; 4] = ["DENIED", "NOAUTH", "NOPERM", "WRONGPASS"];

fn explained(code: &str) -> &'static str {
    EXPLAINED.iter().find(|(known, _)| *known == code).map_or("", |(_, text)| text)
}

impl Failure {
    /// Of an error reply. The code is the first word (Redis serialization protocol specification, "Simple errors"). What does
    /// not look like one is not shown.
    pub fn of_reply(text: &str) -> Failure {
        let (code, rest) = text.split_once(' ').unwrap_or((text, ""));
        let is_code =
            (1..=32).contains(&code.len()) && code.bytes().all(|it| it.is_ascii_uppercase());
        let known = PHRASES.iter().find(|(start, _)| code == "ERR" && rest.starts_with(start));
        match known {
            Some((_, phrase)) => Failure::Phrase(phrase),
            None => Failure::Refused(if is_code { code } else { "ERR" }.to_owned()),
        }
    }

    /// Whether it is a whole answer, so that it is known whether a change was made.
    pub fn is_answer(&self) -> bool {
        matches!(self, Failure::Refused(_) | Failure::Phrase(_) | Failure::Database(_))
    }

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
