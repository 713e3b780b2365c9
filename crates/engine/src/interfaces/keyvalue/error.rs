//! Errors of a store.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use super::in_redis::Failure;
use super::store::{ANSWER_BYTES, KEY_BYTES, VALUE_BYTES};
use crate::interfaces::types::StoreError;
use crate::memory::SETTINGS;

/// Why not. No text has a key or a value in it: they may be secret, and errors end in logs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no store {0:?}; allowed is \"default\" or an empty name")]
    NoSuchStore(String),
    #[error("cannot {action} the store {path}: {source}", path = .path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error("the store {path} is open in another process; only one can have it open", path = .0.display())]
    InUse(PathBuf),
    #[error("the store {path} is no regular file", path = .0.display())]
    NoFile(PathBuf),
    #[error("the file {path} is no store, or damaged: {reason}", path = .path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("cannot use the store {url}: {failure}")]
    Redis { url: String, failure: Failure },
    #[error("the key has {0} bytes, and at most {KEY_BYTES} are allowed")]
    LongKey(usize),
    #[error("the value has {0} bytes, and at most {VALUE_BYTES} are allowed")]
    LongValue(usize),
    #[error("the store is full: it may have {} MiB, its keys and what it takes to keep them included", .0 >> 20)]
    Full(u64),
    #[error("the limit of memory leaves no room for more in the store ({SETTINGS})")]
    NoMemory,
    #[error("the entries have more than {} MiB together; ask for fewer keys at a time", ANSWER_BYTES >> 20)]
    LongAnswer,
    #[error("the limit of memory leaves no room for so many values at a time ({SETTINGS})")]
    NoRoom,
    #[error("the value is no whole number in decimal digits")]
    NoNumber,
    #[error("the sum is not within the range of the result")]
    Overflow,
    #[error("the cursor is not one that list-keys returned")]
    Cursor,
}

impl Error {
    /// What is the same in all errors that differ only in what the guest or another client chose.
    pub fn kind(&self) -> String {
        match self {
            Error::NoSuchStore(_) => "NoSuchStore".to_owned(),
            Error::LongKey(_) => "LongKey".to_owned(),
            Error::LongValue(_) => "LongValue".to_owned(),
            other => other.to_string(),
        }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> StoreError {
        match error {
            Error::NoSuchStore(_) => StoreError::NoSuchStore,
            Error::Redis { ref failure, .. } if failure.is_no_access() => StoreError::AccessDenied,
            Error::Io { ref source, .. } if source.kind() == ErrorKind::PermissionDenied => {
                StoreError::AccessDenied
            }
            other => StoreError::Other(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_a_guest_can_make_many_of_are_of_one_kind() {
        assert_eq!(Error::LongValue(2_000_000).kind(), Error::LongValue(3_000_000).kind());
        assert_eq!(Error::LongKey(2000).kind(), Error::LongKey(3000).kind());
        assert_eq!(Error::NoSuchStore("a".into()).kind(), Error::NoSuchStore("b".into()).kind());
        let of = |failure| Error::Redis { url: "redis://cache:6379/0".into(), failure }.kind();
        assert_ne!(of(Failure::Denied), of(Failure::Timeout));
    }
}
