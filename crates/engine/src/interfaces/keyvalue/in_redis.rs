//! A store in a database of Redis or Valkey, which other clients may use as well.
//!
//! A process has one connection. It is made when a guest first opens the store, and closed while a server is idle. Calls take
//! turns. A call has one deadline, for its wait, a connection and its answers. It waits without a thread, so that a call whose
//! guest has ended is never made, and a slow server has one thread at a time. After a failure, calls fail with the same
//! reason for a moment instead of each waiting for its own.
//!
//! If a connection breaks off, what only reads is asked again over another one. A change is not: the server may have
//! made it, and a second `increment` would count twice.
//!
//! Read in this order: the operations here, `session` (the connection from call to call), `wire` (commands and replies),
//! `connecting`, `stream`, `socket`, `failure`.

mod connecting;
mod failure;
pub mod fuzzing;
mod session;
mod socket;
mod stream;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use plan::keyvalue::Redis;
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::error::Error;
use super::store::{
    ANSWER_BYTES, Change, Entry, KEY_BYTES, Keys, LISTED, VALUE_BYTES, Version, check, cost,
};
use crate::guard::Guard;
use crate::http::roots::Roots;
use crate::memory::Reserved;
use crate::named_path::NamedPath;
use connecting::Connector;
pub use failure::Failure;
use session::{Asked, Command, Session, Stopped};
use wire::{Unread, Wire};

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keys that one `SCAN` is asked for. It may return some more (Redis documentation, "SCAN", "The COUNT option").
const SCANNED: &[u8] = b"250";

/// `SCAN`s of one call while they find no key with the prefix.
const SCANS: u32 = 100;

/// The longest number in decimal digits, in bytes.
const NUMBER_BYTES: usize = 20;

/// What a missing value has in place of a digest.
const MISSING: Version = 0;

/// The store.
pub struct InRedis {
    connector: Arc<Connector>,
    prefix: String,
    patience: Duration,
    turns: Arc<Semaphore>,
    /// Whether the connection is closed after the call that uses it.
    is_idle: AtomicBool,
    /// Locked by the call whose turn it is, and by [`InRedis::release`], which does not wait.
    session: Mutex<Session>,
}

/// The right to make a call, which one at a time has.
pub struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl InRedis {
    /// One at that URL. Nothing is connected before a guest opens it.
    pub fn new(
        redis: Redis,
        password: Option<NamedPath>,
        guard: Guard,
        roots: Arc<Roots>,
    ) -> InRedis {
        let prefix = redis.prefix.clone();
        let connector = Arc::new(Connector { redis, password, guard, roots });
        InRedis {
            connector,
            prefix,
            patience: PATIENCE,
            turns: Arc::new(Semaphore::new(1)),
            is_idle: AtomicBool::new(false),
            session: Mutex::default(),
        }
    }

    /// Waits until a call may be made. Its deadline counts from here.
    ///
    /// # Errors
    /// [`Failure::Busy`] if earlier calls take too long.
    pub async fn turn(&self) -> Result<Turn, Error> {
        self.is_idle.store(false, Ordering::SeqCst);
        let deadline = Instant::now() + self.patience;
        let turn = timeout(self.patience, self.turns.clone().acquire_owned()).await;
        // The semaphore is never closed.
        let Ok(Ok(permit)) = turn else { return Err(self.error(Failure::Busy)) };
        self.lock().begin(deadline);
        Ok(Turn { _permit: permit })
    }

    /// Connects, if there is no connection.
    pub fn reach(&self) -> Result<(), Error> {
        self.ask(Command::Reads, |_| Ok(()))
    }

    /// Closes the connection: now, or after the call that uses it.
    pub fn release(&self) {
        self.is_idle.store(true, Ordering::SeqCst);
        self.close_if_idle();
    }

    /// Either this finds the lock free, or the call that has it comes here afterwards.
    fn close_if_idle(&self) {
        if self.is_idle.load(Ordering::SeqCst)
            && let Ok(mut session) = self.session.try_lock()
        {
            session.release();
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        let key = self.key(key)?;
        self.ask(Command::Reads, |wire| {
            wire.send(&[&[b"GET", &key]])?;
            Ok(wire.string(VALUE_BYTES)?)
        })
    }

    /// Whether there is such a key.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        let key = self.key(key)?;
        self.ask(Command::Reads, |wire| {
            wire.send(&[&[b"EXISTS", &key]])?;
            Ok(wire.integer()? > 0)
        })
    }

    /// The entries of these keys, as they were at one moment, in memory that is reserved for them before they are read.
    pub fn get_many(&self, keys: Vec<String>) -> Result<(Vec<Option<Entry>>, Reserved), Error> {
        if keys.is_empty() {
            return Ok((vec![], Reserved::default()));
        }
        // Each has its cost, whether it is there or not.
        let least = keys.iter().map(|key| cost(key, 0)).sum::<u64>();
        if least > ANSWER_BYTES {
            return Err(Error::LongAnswer);
        }
        let names = keys.iter().map(|key| self.key(key)).collect::<Result<Vec<_>, _>>()?;
        let mut command: Vec<&[u8]> = vec![b"MGET"];
        command.extend(names.iter().map(Vec::as_slice));
        let (values, reserved) = self.ask(Command::Reads, |wire| {
            wire.send(&[&command])?;
            values(wire, keys.len(), least)
        })?;
        let entry = |(key, value): (String, Option<Vec<u8>>)| value.map(|value| (key, value));
        Ok((keys.into_iter().zip(values).map(entry).collect(), reserved))
    }

    /// Makes the changes. Those of one kind that follow each other are made in one step.
    pub fn apply(&self, changes: &[Change]) -> Result<(), Error> {
        changes.iter().try_for_each(Change::check)?;
        let is_set = |change: &Change| matches!(change, Change::Set(..));
        for run in changes.chunk_by(|one, next| is_set(one) == is_set(next)) {
            let names = run.iter().map(|it| self.key(it.key())).collect::<Result<Vec<_>, _>>()?;
            // A user of Redis may be allowed one of `SET` and `MSET`.
            let verb: &[u8] = match (is_set(&run[0]), run.len()) {
                (true, 1) => b"SET",
                (true, _) => b"MSET",
                (false, _) => b"DEL",
            };
            let mut command = vec![verb];
            for (name, change) in names.iter().zip(run) {
                command.push(name);
                if let Change::Set(_, value) = change {
                    command.push(value);
                }
            }
            self.ask(Command::Changes, |wire| {
                wire.send(&[&command])?;
                match is_set(&run[0]) {
                    true => wire.done()?,
                    false => wire.integer().map(drop)?,
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Some keys, after a cursor of an earlier call. A key may be there twice (Redis documentation, "SCAN", "Scan guarantees").
    pub fn keys(&self, after: Option<u64>) -> Result<Keys, Error> {
        let pattern = format!("{}*", self.prefix);
        let mut cursor = after.unwrap_or(0);
        self.ask(Command::Reads, |wire| {
            let mut keys = Vec::new();
            for _ in 0..SCANS {
                let from = cursor.to_string();
                let command: [&[u8]; 6] =
                    [b"SCAN", from.as_bytes(), b"MATCH", pattern.as_bytes(), b"COUNT", SCANNED];
                wire.send(&[&command])?;
                cursor = scanned(wire, &self.prefix, &mut keys)?;
                if cursor == 0 || !keys.is_empty() {
                    break;
                }
            }
            Ok((keys, Some(cursor).filter(|cursor| *cursor != 0)))
        })
    }

    /// Adds to the number that a key has, or to 0. Redis has numbers of 64 bits with a sign.
    pub fn increment<N: Into<i128> + TryFrom<i128>>(
        &self,
        key: &str,
        delta: N,
    ) -> Result<N, Error> {
        let key = self.key(key)?;
        let delta = i64::try_from(delta.into()).map_err(|_| Error::Overflow)?.to_string();
        let sum = self.ask(Command::Changes, |wire| {
            wire.send(&[&[b"INCRBY", &key, delta.as_bytes()]])?;
            match wire.integer() {
                Err(Unread::Refusal(refusal)) if refusal.says("overflow") => {
                    Err(Stopped::Refused(Error::Overflow))
                }
                Err(Unread::Refusal(refusal)) if refusal.says("not an integer") => {
                    Err(Stopped::Refused(Error::NoNumber))
                }
                sum => Ok(sum?),
            }
        })?;
        N::try_from(i128::from(sum)).map_err(|_| Error::Overflow)
    }

    /// The value of a key with its digest.
    pub fn current(&self, key: &str) -> Result<(Option<Vec<u8>>, Version), Error> {
        let value = self.get(key)?;
        let version = digest(value.as_deref());
        Ok((value, version))
    }

    /// Gives a key a value if it has the one with that digest. Returns whether it had.
    ///
    /// `WATCH` makes the transaction fail if another client changes the key after it was read here.
    pub fn swap(&self, key: &str, version: Version, value: &[u8]) -> Result<bool, Error> {
        let key = self.key(key)?;
        self.ask(Command::Changes, |wire| {
            // Whatever fails from here on, a connection that still watches a key is not kept: `EXEC` of another swap would fail.
            wire.watches(true);
            wire.send(&[&[b"WATCH", &key], &[b"GET", &key]])?;
            wire.done()?;
            let is_unchanged = digest(wire.string(VALUE_BYTES)?.as_deref()) == version;
            let was_done = if is_unchanged {
                wire.send(&[&[b"MULTI"], &[b"SET", &key, value], &[b"EXEC"]])?;
                wire.done()?;
                wire.done()?;
                wire.transaction()?
            } else {
                wire.send(&[&[b"UNWATCH"]])?;
                wire.done()?;
                false
            };
            wire.watches(false);
            Ok(was_done)
        })
    }

    /// The key in the database.
    fn key(&self, key: &str) -> Result<Vec<u8>, Error> {
        check(key)?;
        Ok([self.prefix.as_bytes(), key.as_bytes()].concat())
    }

    fn lock(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something over the connection, in the turn of the call.
    fn ask<T>(
        &self,
        command: Command,
        work: impl FnMut(&mut Wire) -> Asked<T>,
    ) -> Result<T, Error> {
        let done = self.lock().ask(&self.connector, command, work);
        self.close_if_idle();
        done.map_err(|stopped| match stopped {
            Stopped::Refused(error) => error,
            Stopped::Unread(unread) => self.error(unread.into()),
        })
    }

    fn error(&self, failure: Failure) -> Error {
        Error::Redis { url: self.connector.redis.to_string(), failure }
    }
}

/// Reads the values of so many keys.
fn values(wire: &mut Wire, keys: usize, least: u64) -> Asked<(Vec<Option<Vec<u8>>>, Reserved)> {
    if wire.array()? != keys {
        return Err(Stopped::Unread(Unread::Failure(Failure::NotRedis)));
    }
    let (mut bytes, mut reserved) = (least, Reserved::default());
    let mut values = Vec::with_capacity(keys);
    for _ in 0..keys {
        let Some(length) = wire.element()? else {
            values.push(None);
            continue;
        };
        bytes = bytes.saturating_add(length as u64);
        if bytes > ANSWER_BYTES {
            return Err(Stopped::Refused(Error::LongAnswer));
        }
        if !reserved.resize(bytes) {
            return Err(Stopped::Refused(Error::NoRoom));
        }
        values.push(Some(wire.bytes(length, VALUE_BYTES)?));
    }
    wire.end_array();
    Ok((values, reserved))
}

/// Reads the reply to a `SCAN`: the next cursor, and keys, which are added without their prefix. What cannot be a key of the
/// interface, because another client made it, is left out.
fn scanned(wire: &mut Wire, prefix: &str, keys: &mut Vec<String>) -> Asked<u64> {
    let not_redis = || Stopped::Unread(Unread::Failure(Failure::NotRedis));
    if wire.array()? != 2 {
        return Err(not_redis());
    }
    let length = wire.element()?.filter(|length| *length <= NUMBER_BYTES);
    let length = length.ok_or_else(not_redis)?;
    let cursor = String::from_utf8(wire.bytes(length, NUMBER_BYTES)?).map_err(|_| not_redis())?;
    let cursor = cursor.parse().map_err(|_| not_redis())?;
    let listed = wire.inner_array()?;
    if listed > LISTED {
        return Err(not_redis());
    }
    for _ in 0..listed {
        let length = wire.element()?.ok_or_else(not_redis)?;
        let most = prefix.len() + KEY_BYTES;
        if length > most {
            wire.skip(length)?;
            continue;
        }
        let key = String::from_utf8(wire.bytes(length, most)?);
        keys.extend(key.ok().and_then(|key| Some(key.strip_prefix(prefix)?.to_owned())));
    }
    wire.end_array();
    Ok(cursor)
}

/// By which a value is recognised: half of its SHA-256.
fn digest(value: Option<&[u8]>) -> Version {
    let Some(value) = value else { return MISSING };
    let digest = Sha256::digest(value);
    digest.iter().take(size_of::<Version>()).fold(0, |all, byte| all << 8 | Version::from(*byte))
}
