//! A store in a file, which is a database of `redb`. redb writes a change beside what it replaces, syncs it to the
//! disk, and only then makes it valid. So after a kill or a power cut, every acknowledged change is there, and no
//! other.
//!
//! The file is in a volume, and others may have written to it. So every error of `redb` becomes an error of the
//! interface. `opening` makes the file, so that it is a whole store or does not exist.

mod opening;

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use super::error::Error;
use super::store::{Change, Keys, cost, page};
use crate::named_path::NamedPath;
use opening::open;

/// All entries together, in bytes, as [`cost`] counts them. The file may be some times as large.
const BYTES: u64 = 64 << 20;

/// Pages of the file that are kept in memory, in bytes: of the runtime's part of the container's limit.
const CACHED: usize = 1 << 20;

/// The place and the value of each key.
const ENTRIES: TableDefinition<'static, &str, (u64, &[u8])> = TableDefinition::new("entries");

/// The keys, in the order in which they were added.
const ORDER: TableDefinition<'static, u64, &str> = TableDefinition::new("order");

/// [`USED`] and [`NEXT`].
const NUMBERS: TableDefinition<'static, &str, u64> = TableDefinition::new("numbers");

/// What all entries count for, in bytes.
const USED: &str = "used";

/// The place of the next key.
const NEXT: &str = "next";

/// The file, and what it is opened as; after an error it is opened anew.
pub struct InFile {
    path: NamedPath,
    database: Option<Database>,
}

impl InFile {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// If it cannot be opened, is open elsewhere, or is no store.
    pub fn open(path: NamedPath) -> Result<InFile, Error> {
        let database = Some(open(&path)?);
        Ok(InFile { path, database })
    }

    /// The value of a key.
    pub fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.with("read", |database| {
            let entries = database.begin_read()?.open_table(ENTRIES)?;
            Ok(entries.get(key)?.map(|entry| entry.value().1.to_vec()))
        })
    }

    /// Whether there is such a key.
    pub fn exists(&mut self, key: &str) -> Result<bool, Error> {
        self.with("read", |database| {
            Ok(database.begin_read()?.open_table(ENTRIES)?.get(key)?.is_some())
        })
    }

    /// At most so many keys after a place.
    pub fn keys(&mut self, after: Option<u64>, most: usize) -> Result<Keys, Error> {
        self.with("read", |database| {
            let order = database.begin_read()?.open_table(ORDER)?;
            let begin = after.map_or(Bound::Unbounded, Bound::Excluded);
            let mut found = Vec::new();
            for entry in order.range::<u64>((begin, Bound::Unbounded))?.take(most + 1) {
                let (place, key) = entry?;
                found.push((place.value(), key.value().to_owned()));
            }
            Ok(page(found, most))
        })
    }

    /// Makes all the changes, or none.
    pub fn apply(&mut self, changes: Vec<Change>) -> Result<(), Error> {
        self.with("write", |database| write(database, &changes))?
    }

    fn with<T>(
        &mut self,
        action: &'static str,
        work: impl FnOnce(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        let done = guarded(self.path.as_path(), action, || {
            let done = work(&database)?;
            Ok((done, database))
        })?;
        self.database = Some(done.1);
        Ok(done.0)
    }
}

/// Changes the entries in one transaction, unless they would be too many.
fn write(database: &Database, changes: &[Change]) -> Result<Result<(), Error>, redb::Error> {
    let writing = database.begin_write()?;
    {
        let mut entries = writing.open_table(ENTRIES)?;
        let mut order = writing.open_table(ORDER)?;
        let mut numbers = writing.open_table(NUMBERS)?;
        let number = |it: Option<redb::AccessGuard<'_, u64>>| it.map_or(0, |it| it.value());
        let mut used = number(numbers.get(USED)?);
        let mut next = number(numbers.get(NEXT)?);
        for change in changes {
            let key = change.key();
            let old = entries.get(key)?.map(|entry| (entry.value().0, entry.value().1.len()));
            used = used.saturating_sub(old.map_or(0, |(_, value)| cost(key, value)));
            match (change, old) {
                (Change::Set(_, value), old) => {
                    used = used.saturating_add(cost(key, value.len()));
                    if used > BYTES {
                        return Ok(Err(Error::Full(BYTES)));
                    }
                    let place = old.map_or(next, |(place, _)| place);
                    if old.is_none() {
                        order.insert(place, key)?;
                        next = next.saturating_add(1);
                    }
                    entries.insert(key, (place, value.as_slice()))?;
                }
                (Change::Delete(_), Some((place, _))) => {
                    entries.remove(key)?;
                    order.remove(place)?;
                }
                (Change::Delete(_), None) => {}
            }
        }
        numbers.insert(USED, used)?;
        numbers.insert(NEXT, next)?;
    }
    writing.commit()?;
    Ok(Ok(()))
}

/// Opens a database with its tables in a file, which becomes one if it is empty.
fn database(path: &Path, file: File) -> Result<Database, Error> {
    guarded(path, "open", || {
        let database =
            Builder::new().set_cache_size(CACHED).create_with_backend(FileBackend::new(file)?)?;
        // Written last, with the others.
        match database.begin_read()?.open_table(NUMBERS) {
            Err(TableError::TableDoesNotExist(_)) => {}
            opened => return opened.map(|_| database).map_err(redb::Error::from),
        }
        let writing = database.begin_write()?;
        writing.open_table(ENTRIES)?;
        writing.open_table(ORDER)?;
        writing.open_table(NUMBERS)?;
        writing.commit()?;
        Ok(database)
    })
}

/// Has `redb` do something; a panic is an error as well.
fn guarded<T>(
    path: &Path,
    action: &'static str,
    work: impl FnOnce() -> Result<T, redb::Error>,
) -> Result<T, Error> {
    let damaged = |reason| Error::Damaged { path: path.to_owned(), reason };
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(redb::Error::DatabaseAlreadyOpen | redb::Error::LockProtocolMismatch)) => {
            Err(Error::InUse(path.to_owned()))
        }
        Ok(Err(redb::Error::Io(error))) if error.kind() != ErrorKind::InvalidData => {
            Err(about(action, path)(error))
        }
        Ok(Err(error)) => Err(damaged(error.to_string())),
        Err(_) => Err(damaged("it cannot be understood".to_owned())),
    }
}

fn about(action: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::named_path::tests::{anywhere, within};

    pub fn set(key: &str, value: &str) -> Vec<Change> {
        vec![Change::Set(key.to_owned(), value.as_bytes().to_vec())]
    }

    pub fn refusal(path: &Path) -> String {
        InFile::open(anywhere(path.to_owned())).map(drop).expect_err("is no store").to_string()
    }

    #[test]
    fn what_was_set_is_there_when_the_file_is_opened_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store");
        let mut store = InFile::open(anywhere(path.clone())).expect("is made");
        store.apply(set("a", "1")).expect("kept");
        // As after a kill: what is in the file at this moment, and nothing that is written at the end.
        let copy = directory.path().join("copy");
        fs::copy(&path, &copy).expect("copied");
        assert!(refusal(&path).contains("open in another process"), "{}", refusal(&path));
        drop(store);
        for path in [path, copy] {
            let mut again = InFile::open(anywhere(path)).expect("is opened");
            assert_eq!(again.get("a").expect("is read"), Some(b"1".to_vec()));
        }
        let names = fs::read_dir(directory.path()).expect("is listed").count();
        assert_eq!(names, 2, "nothing else is left");
    }

    #[test]
    fn what_is_no_store_is_refused_with_its_path_and_left_as_it_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store");
        fs::write(&path, "something else").expect("written");
        let text = refusal(&path);
        assert!(text.contains("/store is no store, or damaged"), "{text}");
        assert_eq!(fs::read(&path).expect("is read"), b"something else");

        let missing = directory.path().join("missing/store");
        let text = refusal(&missing);
        assert!(
            text.starts_with("cannot make the store ") && text.contains("No such file"),
            "{text}"
        );

        let fifo = directory.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).expect("made");
        assert!(refusal(&fifo).contains("is no regular file"), "{}", refusal(&fifo));
        assert!(refusal(directory.path()).contains("Is a directory"));
    }

    #[test]
    fn no_link_leads_to_a_store_if_only_some_directories_are_granted() {
        let volume = tempfile::tempdir().expect("a directory");
        let at = |name: &str| volume.path().join(name);
        fs::create_dir(at("outside")).expect("made");
        fs::create_dir(at("data")).expect("made");
        std::os::unix::fs::symlink("../outside", at("data/linked")).expect("linked");
        std::os::unix::fs::symlink("../outside/store", at("data/store")).expect("linked");
        for path in ["data/linked/store", "data/store"] {
            let refused = InFile::open(within(at(path))).map(drop).expect_err(path).to_string();
            assert!(refused.contains("a link leads to it"), "{refused}");
        }
        assert_eq!(fs::read_dir(at("outside")).expect("is listed").count(), 0);
        let mut own = InFile::open(within(at("data/own"))).expect("is made");
        own.apply(set("a", "1")).expect("kept");
        drop(own);
        let mut again = InFile::open(within(at("data/own"))).expect("is opened");
        assert_eq!(again.get("a").expect("is read"), Some(b"1".to_vec()));
    }

    #[test]
    fn a_damaged_file_is_an_error_and_never_another_value() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store");
        let mut store = InFile::open(anywhere(path.clone())).expect("is made");
        for number in 0..200 {
            store.apply(set(&format!("key {number}"), "the value")).expect("kept");
        }
        drop(store);
        let whole = fs::read(&path).expect("is read");
        let (mut errors, step) = (0, whole.len() / 150);
        for place in (0..whole.len()).step_by(step) {
            let mut damaged = whole.clone();
            let end = whole.len().min(place + 64);
            damaged[place..end].fill(0xa5);
            fs::write(&path, &damaged).expect("written");
            let read = InFile::open(anywhere(path.clone())).and_then(|mut store| {
                store.apply(set("more", "1"))?;
                store.get("key 7")
            });
            match read {
                Err(_) => errors += 1,
                Ok(value) => assert!(value.is_none_or(|it| it.len() < 64), "at {place}"),
            }
            fs::write(&path, &whole[..place]).expect("written");
            let _ = InFile::open(anywhere(path.clone())).and_then(|mut store| store.get("key 7"));
        }
        assert!(errors > 0);
    }
}
