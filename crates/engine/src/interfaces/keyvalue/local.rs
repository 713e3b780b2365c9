//! A store that this process alone changes, in memory or in a file.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::Error;
use super::in_file::InFile;
use super::in_memory::InMemory;
use super::store::{ANSWER_BYTES, Change, Entry, Keys, LISTED, Version, check, cost};
use crate::memory::Reserved;
use crate::named_path::NamedPath;

/// The store. Calls of several threads wait for each other.
pub struct Local {
    is_in_memory: bool,
    inner: Mutex<Inner>,
}

struct Inner {
    kept: Kept,
    watched: HashMap<String, Watched>,
}

/// Where the entries are.
enum Kept {
    Memory(InMemory),
    File(InFile),
}

/// A key that is being compared: this process alone changes the store, so it knows of each change.
#[derive(Default)]
struct Watched {
    handles: usize,
    version: u64,
}

impl Local {
    /// An empty one in memory.
    pub fn in_memory() -> Local {
        Local::of(Kept::Memory(InMemory::default()), true)
    }

    /// The one in that file, which is made if it is not there.
    ///
    /// # Errors
    /// For a file that cannot be opened or is no store.
    pub fn in_file(path: NamedPath) -> Result<Local, Error> {
        Ok(Local::of(Kept::File(InFile::open(path)?), false))
    }

    fn of(kept: Kept, is_in_memory: bool) -> Local {
        Local { is_in_memory, inner: Mutex::new(Inner { kept, watched: HashMap::new() }) }
    }

    /// Whether no call waits for a disk.
    pub fn is_in_memory(&self) -> bool {
        self.is_in_memory
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.lock().kept.get(key)
    }

    /// Whether there is such a key.
    pub fn exists(&self, key: &str) -> Result<bool, Error> {
        self.lock().kept.exists(key)
    }

    /// The entries of these keys, in memory that is reserved for them.
    ///
    /// # Errors
    /// [`Error::LongAnswer`] and [`Error::NoRoom`] for more than may be returned at a time.
    pub fn get_many(&self, keys: Vec<String>) -> Result<(Vec<Option<Entry>>, Reserved), Error> {
        let mut inner = self.lock();
        let (mut bytes, mut reserved) = (0, Reserved::default());
        let entry = |key: String| {
            let value = inner.kept.get(&key)?;
            bytes += cost(&key, value.as_ref().map_or(0, Vec::len));
            if bytes > ANSWER_BYTES {
                return Err(Error::LongAnswer);
            }
            if !reserved.resize(bytes) {
                return Err(Error::NoRoom);
            }
            Ok(value.map(|value| (key, value)))
        };
        let entries = keys.into_iter().map(entry).collect::<Result<_, _>>()?;
        Ok((entries, reserved))
    }

    /// Makes these changes, and keeps them before it returns.
    pub fn apply(&self, changes: Vec<Change>) -> Result<(), Error> {
        self.lock().apply(changes)
    }

    /// Some keys, in the order in which they were added; those after a cursor.
    pub fn keys(&self, after: Option<u64>) -> Result<Keys, Error> {
        self.lock().kept.keys(after, LISTED)
    }

    /// Adds to the number that a key has, or to 0. It is kept in decimal digits, as Redis keeps it.
    ///
    /// # Errors
    /// [`Error::Overflow`] for a sum that is no `N`.
    pub fn increment<N: Into<i128> + TryFrom<i128>>(
        &self,
        key: &str,
        delta: N,
    ) -> Result<N, Error> {
        let mut inner = self.lock();
        let number = match inner.kept.get(key)? {
            None => 0,
            Some(value) => {
                let text = std::str::from_utf8(&value).map_err(|_| Error::NoNumber)?;
                text.parse::<i128>().map_err(|_| Error::NoNumber)?
            }
        };
        let sum = number.checked_add(delta.into()).ok_or(Error::Overflow)?;
        let returned = N::try_from(sum).map_err(|_| Error::Overflow)?;
        inner.apply(vec![Change::Set(key.to_owned(), sum.to_string().into_bytes())])?;
        Ok(returned)
    }

    /// Counts the changes of a key from now on, until [`Local::unwatch`].
    pub fn watch(&self, key: &str) -> Result<u64, Error> {
        check(key)?;
        let mut inner = self.lock();
        let watched = inner.watched.entry(key.to_owned()).or_default();
        watched.handles += 1;
        Ok(watched.version)
    }

    /// Ends what [`Local::watch`] began.
    pub fn unwatch(&self, key: &str) {
        let mut inner = self.lock();
        if let Some(watched) = inner.watched.get_mut(key) {
            watched.handles -= 1;
            if watched.handles == 0 {
                inner.watched.remove(key);
            }
        }
    }

    /// Gives a watched key a value, unless it was changed since that version. Returns whether it has.
    pub fn swap(&self, key: &str, version: Version, value: Vec<u8>) -> Result<bool, Error> {
        let mut inner = self.lock();
        let is_unchanged =
            inner.watched.get(key).is_some_and(|it| Version::from(it.version) == version);
        if is_unchanged {
            inner.apply(vec![Change::Set(key.to_owned(), value)])?;
        }
        Ok(is_unchanged)
    }
}

impl Inner {
    fn apply(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        changes.iter().try_for_each(Change::check)?;
        // If this fails, some of it may be done.
        for change in &changes {
            if let Some(watched) = self.watched.get_mut(change.key()) {
                watched.version += 1;
            }
        }
        match &mut self.kept {
            Kept::Memory(memory) => memory.apply(changes),
            Kept::File(file) => file.apply(changes),
        }
    }
}

impl Kept {
    fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        match self {
            Kept::Memory(memory) => Ok(memory.get(key).map(<[u8]>::to_vec)),
            Kept::File(file) => file.get(key),
        }
    }

    fn exists(&mut self, key: &str) -> Result<bool, Error> {
        match self {
            Kept::Memory(memory) => Ok(memory.get(key).is_some()),
            Kept::File(file) => file.exists(key),
        }
    }

    fn keys(&mut self, after: Option<u64>, most: usize) -> Result<Keys, Error> {
        match self {
            Kept::Memory(memory) => Ok(memory.keys(after, most)),
            Kept::File(file) => file.keys(after, most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::store::{KEY_BYTES, VALUE_BYTES};
    use super::*;
    use crate::named_path::tests::anywhere;

    /// One of each kind, with what keeps the directory of the one in a file.
    fn stores() -> (tempfile::TempDir, [Local; 2]) {
        let directory = tempfile::tempdir().expect("a directory");
        let in_file = Local::in_file(anywhere(directory.path().join("store"))).expect("a store");
        (directory, [Local::in_memory(), in_file])
    }

    fn set(key: &str, value: &[u8]) -> Change {
        Change::Set(key.to_owned(), value.to_vec())
    }

    #[test]
    fn a_store_has_what_was_set_last_until_it_is_deleted() {
        let (_directory, stores) = stores();
        for store in stores {
            assert_eq!(store.get("a").expect("is read"), None);
            store.apply(vec![set("a", b"1"), set("", b""), set("b", b"\xff")]).expect("kept");
            store.apply(vec![set("a", b"2"), Change::Delete("b".into())]).expect("kept");
            store.apply(vec![Change::Delete("missing".into())]).expect("nothing to do");
            assert_eq!(store.get("a").expect("is read"), Some(b"2".to_vec()));
            assert_eq!(store.get("").expect("is read"), Some(vec![]));
            assert!(!store.exists("b").expect("is read") && store.exists("a").expect("is read"));
            let (many, _) =
                store.get_many(vec!["b".into(), "a".into(), "a".into()]).expect("are read");
            let found = Some(("a".to_owned(), b"2".to_vec()));
            assert_eq!(many, [None, found.clone(), found]);
        }
    }

    #[test]
    fn what_is_too_long_is_refused_and_changes_nothing() {
        let (_directory, stores) = stores();
        let (key, value) = ("k".repeat(KEY_BYTES), vec![1; VALUE_BYTES]);
        for store in stores {
            store.apply(vec![set(&key, &value)]).expect("kept");
            let long = store.apply(vec![set("b", b"1"), set(&(key.clone() + "k"), b"")]);
            assert!(matches!(long, Err(Error::LongKey(1025))), "{long:?}");
            let long = store.apply(vec![set("b", b"1"), set("a", &vec![1; VALUE_BYTES + 1])]);
            assert!(matches!(long, Err(Error::LongValue(1_048_577))), "{long:?}");
            assert!(!store.exists("b").expect("is read"));
            assert_eq!(store.get_many(vec![key.clone(); 3]).expect("are read").0.len(), 3);
            for keys in [vec![key.clone(); 4], vec!["missing".into(); 30_000]] {
                let many = store.get_many(keys).map(|(entries, _)| entries.len());
                assert!(matches!(many, Err(Error::LongAnswer)), "{many:?}");
            }
        }
    }

    #[test]
    fn a_full_store_refuses_more_and_takes_it_when_something_was_deleted() {
        let (_directory, stores) = stores();
        for (store, mebibytes) in stores.into_iter().zip([16, 64]) {
            let value = vec![1; VALUE_BYTES];
            let fill = |number: i32| store.apply(vec![set(&number.to_string(), &value)]);
            for number in 0..mebibytes - 1 {
                fill(number).expect("kept");
            }
            let text = fill(-1).expect_err("is full").to_string();
            assert!(text.contains(&format!("{mebibytes} MiB")), "{text}");
            assert!(!store.exists("-1").expect("is read"));
            store.apply(vec![set("0", b""), set("-1", &vec![1; VALUE_BYTES])]).expect("kept");
            // What is there can be set anew, and deleted.
            fill(1).expect("kept");
            fill(0).expect_err("is full");
            store.apply(vec![Change::Delete("1".into())]).expect("deleted");
            fill(0).expect("kept");
        }
    }

    #[test]
    fn keys_are_listed_page_by_page_each_once_even_while_they_are_deleted() {
        let (_directory, stores) = stores();
        for store in stores {
            assert_eq!(store.keys(None).expect("are listed"), (vec![], None));
            let all = (0..2500).map(|number| set(&format!("{number:04}"), b"1")).collect();
            store.apply(all).expect("kept");
            let (mut cursor, mut pages) = (None, vec![]);
            loop {
                let (keys, next) = store.keys(cursor).expect("are listed");
                let delete = keys.iter().cloned().map(Change::Delete).collect();
                store.apply(delete).expect("deleted");
                pages.push(keys);
                let Some(next) = next else { break };
                cursor = Some(next);
            }
            assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 1000, 500]);
            assert!(pages.concat().is_sorted());
            assert_eq!(store.keys(Some(u64::MAX)).expect("are listed"), (vec![], None));
        }
    }

    #[test]
    fn a_number_is_counted_up_unless_it_does_not_fit() {
        let (_directory, stores) = stores();
        for store in stores {
            let add = |key: &str, delta: u64| store.increment(key, delta);
            assert_eq!(add("n", 5).expect("adds"), 5);
            assert_eq!(add("n", u64::MAX - 5).expect("adds"), u64::MAX);
            assert!(matches!(add("n", 1), Err(Error::Overflow)));
            assert_eq!(store.get("n").expect("is read"), Some(b"18446744073709551615".to_vec()));
            assert!(matches!(store.increment("n", 0_i64), Err(Error::Overflow)));
        }
    }

    #[test]
    fn a_number_below_zero_is_counted_up_as_a_signed_one_alone() {
        let (_directory, stores) = stores();
        for store in stores {
            assert_eq!(store.increment("n", i64::MIN).expect("adds"), i64::MIN);
            assert!(matches!(store.increment("n", -1_i64), Err(Error::Overflow)));
            assert!(matches!(store.increment("n", 0_u64), Err(Error::Overflow)));
        }
    }

    #[test]
    fn what_is_no_number_is_not_counted_up() {
        let (_directory, stores) = stores();
        for store in stores {
            let add = |key: &str, delta: u64| store.increment(key, delta);
            store.apply(vec![set("text", b"five"), set("binary", b"\xff")]).expect("kept");
            assert!(matches!(add("text", 1), Err(Error::NoNumber)));
            assert!(matches!(add("binary", 1), Err(Error::NoNumber)));
        }
    }

    #[test]
    fn a_swap_fails_if_its_key_was_changed_even_back_to_the_same_value() {
        let (_directory, stores) = stores();
        for store in stores {
            store.apply(vec![set("a", b"1")]).expect("kept");
            let version = Version::from(store.watch("a").expect("watched"));
            store.apply(vec![set("other", b"2")]).expect("kept");
            assert!(store.swap("a", version, b"2".to_vec()).expect("swaps"));
            assert!(!store.swap("a", version, b"3".to_vec()).expect("has changed"));

            let version = Version::from(store.watch("a").expect("watched"));
            store.apply(vec![Change::Delete("a".into()), set("a", b"2")]).expect("kept");
            assert!(!store.swap("a", version, b"3".to_vec()).expect("has changed"));
            assert_eq!(store.get("a").expect("is read"), Some(b"2".to_vec()));
            store.unwatch("a");
            store.unwatch("a");
            assert!(store.lock().watched.is_empty());
        }
    }
}
