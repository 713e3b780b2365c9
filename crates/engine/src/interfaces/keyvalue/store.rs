//! What all kinds of store have in common: bounds, and the operations of the interface.

use super::error::Error;
use super::in_redis::{InRedis, Turn};
use super::local::Local;
use crate::memory::Reserved;
use crate::named_path::NamedPath;

/// The longest key, in bytes: that of a path, with room.
pub const KEY_BYTES: usize = 1 << 10;

/// The longest value, in bytes: that of NATS' stores, and far more than rows and sessions need.
pub const VALUE_BYTES: usize = 1 << 20;

/// What an entry takes beside its key and value, in bytes.
const ENTRY_BYTES: u64 = 160;

/// Of all entries that one call returns, in bytes, as [`cost`] counts them. The host has them beside the guest until the call
/// returns, so they count in the guest's part of the container's memory limit for so long; and no call may take much of that.
pub const ANSWER_BYTES: u64 = 4 << 20;

/// Arguments that are short, in bytes.
const SHORT: u64 = 16 << 10;

/// Keys that one call lists. With the longest keys they have 1 MiB.
pub const LISTED: usize = 1000;

/// A key and its value.
pub type Entry = (String, Vec<u8>);

/// A change of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Its key has this value from now on.
    Set(String, Vec<u8>),
    /// There is none of this key from now on.
    Delete(String),
}

/// Keys in the order in which they were added, and with what to go on if there are more.
pub type Keys = (Vec<String>, Option<u64>);

/// What a swap compares: in Redis a digest of the value, otherwise the number of changes.
pub type Version = u128;

/// A store of keys and values.
pub enum Store {
    /// This process alone changes it.
    Local(Local),
    /// Other clients change it as well.
    Redis(InRedis),
}

impl Store {
    /// An empty one in memory.
    pub fn in_memory() -> Store {
        Store::Local(Local::in_memory())
    }

    /// The one in that file, which is made if it is not there.
    ///
    /// # Errors
    /// For a file that cannot be opened or is no store.
    pub fn in_file(path: NamedPath) -> Result<Store, Error> {
        Ok(Store::Local(Local::in_file(path)?))
    }

    /// Whether no call waits for a disk or a server.
    pub fn is_in_memory(&self) -> bool {
        matches!(self, Store::Local(local) if local.is_in_memory())
    }

    /// Whether calls wait for a server.
    pub fn is_remote(&self) -> bool {
        matches!(self, Store::Redis(_))
    }

    /// Waits until it can be asked. The call must end before what this returns is dropped.
    ///
    /// # Errors
    /// If earlier calls take too long.
    pub async fn turn(&self) -> Result<Option<Turn>, Error> {
        match self {
            Store::Local(_) => Ok(None),
            Store::Redis(redis) => redis.turn().await.map(Some),
        }
    }

    /// Makes sure that it can be used, as far as that is known without asking it something.
    pub fn reach(&self) -> Result<(), Error> {
        match self {
            Store::Local(_) => Ok(()),
            Store::Redis(redis) => redis.reach(),
        }
    }

    /// Gives back what an idle store does not need.
    pub fn release(&self) {
        if let Store::Redis(redis) = self {
            redis.release();
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Store::Local(local) => local.get(key),
            Store::Redis(redis) => redis.get(key),
        }
    }

    /// Whether there is such a key.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        match self {
            Store::Local(local) => local.exists(key),
            Store::Redis(redis) => redis.exists(key),
        }
    }

    /// The entries of these keys, in memory that is reserved for them.
    ///
    /// # Errors
    /// [`Error::LongAnswer`] and [`Error::NoRoom`] for more than may be returned at a time.
    pub fn get_many(&self, keys: Vec<String>) -> Result<(Vec<Option<Entry>>, Reserved), Error> {
        match self {
            Store::Local(local) => local.get_many(keys),
            Store::Redis(redis) => redis.get_many(keys),
        }
    }

    /// Makes these changes, and keeps them before it returns.
    pub fn apply(&self, changes: Vec<Change>) -> Result<(), Error> {
        match self {
            Store::Local(local) => local.apply(changes),
            Store::Redis(redis) => redis.apply(&changes),
        }
    }

    /// Some keys; those after a cursor.
    pub fn keys(&self, after: Option<u64>) -> Result<Keys, Error> {
        match self {
            Store::Local(local) => local.keys(after),
            Store::Redis(redis) => redis.keys(after),
        }
    }

    /// Adds to the number that a key has, or to 0, which is kept in decimal digits.
    ///
    /// # Errors
    /// [`Error::Overflow`] for a sum that is no `N`.
    pub fn increment<N: Into<i128> + TryFrom<i128>>(
        &self,
        key: &str,
        delta: N,
    ) -> Result<N, Error> {
        match self {
            Store::Local(local) => local.increment(key, delta),
            Store::Redis(redis) => redis.increment(key, delta),
        }
    }

    /// What a key has now, for a later [`Store::swap`]. It is watched until [`Store::unwatch`].
    pub fn watch(&self, key: &str) -> Result<Version, Error> {
        match self {
            Store::Local(local) => Ok(local.watch(key)?.into()),
            Store::Redis(redis) => Ok(redis.current(key)?.1),
        }
    }

    /// Ends what [`Store::watch`] began.
    pub fn unwatch(&self, key: &str) {
        if let Store::Local(local) = self {
            local.unwatch(key);
        }
    }

    /// The value of a watched key, and the version with which a swap compares from now on.
    pub fn current(
        &self,
        key: &str,
        version: Version,
    ) -> Result<(Option<Vec<u8>>, Version), Error> {
        match self {
            Store::Local(local) => Ok((local.get(key)?, version)),
            Store::Redis(redis) => redis.current(key),
        }
    }

    /// Gives a watched key a value, unless it was changed since that version. Returns whether it has.
    pub fn swap(&self, key: &str, version: Version, value: Vec<u8>) -> Result<bool, Error> {
        match self {
            Store::Local(local) => local.swap(key, version, value),
            Store::Redis(redis) => redis.swap(key, version, &value),
        }
    }
}

impl Change {
    /// Of which entry.
    pub fn key(&self) -> &str {
        match self {
            Change::Set(key, _) | Change::Delete(key) => key,
        }
    }

    /// What it counts for.
    pub fn cost(&self) -> u64 {
        match self {
            Change::Set(key, value) => cost(key, value.len()),
            Change::Delete(key) => cost(key, 0),
        }
    }

    /// Checks its lengths.
    pub fn check(&self) -> Result<(), Error> {
        check(self.key())?;
        match self {
            Change::Set(_, value) if value.len() > VALUE_BYTES => {
                Err(Error::LongValue(value.len()))
            }
            _ => Ok(()),
        }
    }
}

/// Checks the length of a key.
pub fn check(key: &str) -> Result<(), Error> {
    if key.len() > KEY_BYTES { Err(Error::LongKey(key.len())) } else { Ok(()) }
}

/// What the arguments of a call count for while it waits for a disk or a server, in bytes: all but short ones, which a guest
/// must be able to pass when it has used up its memory.
pub fn waiting(bytes: u64) -> u64 {
    if bytes <= SHORT { 0 } else { bytes }
}

/// What an entry counts for, in bytes: its key is there twice.
pub fn cost(key: &str, value: usize) -> u64 {
    2 * key.len() as u64 + value as u64 + ENTRY_BYTES
}

/// At most so many keys of those that come one after the other, and the place of the last, if there are more.
pub fn page(found: Vec<(u64, String)>, most: usize) -> Keys {
    let next = match found.len() > most {
        true => found[..most].last().map(|(place, _)| *place),
        false => None,
    };
    (found.into_iter().take(most).map(|(_, key)| key).collect(), next)
}
