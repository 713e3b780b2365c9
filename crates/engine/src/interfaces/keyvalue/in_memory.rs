//! A store in memory. It ends with the container's process, and counts in the guest's part of the container's memory
//! limit.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::error::Error;
use super::store::{Change, Keys, cost, page};
use crate::memory::Reserved;

/// All entries together, in bytes, as [`cost`] counts them. A larger store is better kept in a file.
const BYTES: u64 = 16 << 20;

/// The entries.
#[derive(Default)]
pub struct InMemory {
    entries: HashMap<String, Entry>,
    /// The keys, in the order in which they were added.
    order: BTreeMap<u64, String>,
    /// The place of the next key.
    next: u64,
    used: u64,
    reserved: Reserved,
}

struct Entry {
    place: u64,
    value: Vec<u8>,
}

impl InMemory {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        self.entries.get(key).map(|entry| entry.value.as_slice())
    }

    /// Makes the changes, up to the first that there is no room for.
    pub fn apply(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        changes.into_iter().try_for_each(|change| match change {
            Change::Set(key, value) => self.set(key, value),
            Change::Delete(key) => {
                self.delete(&key);
                Ok(())
            }
        })
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> Result<(), Error> {
        let old = self.entries.get(&key).map_or(0, |entry| cost(&key, entry.value.len()));
        let used = self.used - old + cost(&key, value.len());
        if used > BYTES {
            return Err(Error::Full(BYTES));
        }
        if !self.reserved.resize(used) {
            return Err(Error::NoMemory);
        }
        self.used = used;
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.value = value;
            return Ok(());
        }
        let place = self.next;
        self.next += 1;
        self.order.insert(place, key.clone());
        self.entries.insert(key, Entry { place, value });
        Ok(())
    }

    fn delete(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.order.remove(&entry.place);
            self.used -= cost(key, entry.value.len());
            self.reserved.resize(self.used);
        }
    }

    /// At most so many keys after a place.
    pub fn keys(&self, after: Option<u64>, most: usize) -> Keys {
        let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
        let found = self.order.range((begin, Bound::Unbounded)).take(most + 1);
        page(found.map(|(place, key)| (*place, key.clone())).collect(), most)
    }
}
