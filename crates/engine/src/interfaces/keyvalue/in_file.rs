//! A store in a file, which is a database of `redb`. redb writes a change beside what it replaces, syncs it to the
//! disk, and only then makes it valid. So after a kill or a power cut, every acknowledged change is there, and no
//! other.
//!
//! The file is in a volume, and others may have written to it. So every error of `redb` becomes an error of the
//! interface.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, RenameFlags, renameat2};
use nix::libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};
use nix::unistd::linkat;
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use super::error::Error;
use super::store::{Change, Keys, cost, page};

/// All entries together, in bytes, as [`cost`] counts them. The file may be some times as large.
const BYTES: u64 = 64 << 20;

/// Pages of the file that are kept in memory, in bytes: of the runtime's part of the container's limit.
const CACHED: usize = 1 << 20;

/// Attempts to open or make a store that other processes make and remove at the same time.
const ATTEMPTS: u32 = 3;

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
    path: PathBuf,
    database: Option<Database>,
}

impl InFile {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// If it cannot be opened, is open elsewhere, or is no store.
    pub fn open(path: PathBuf) -> Result<InFile, Error> {
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
        let done = guarded(&self.path, action, || {
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

fn open(path: &Path) -> Result<Database, Error> {
    for _ in 0..ATTEMPTS {
        let opened = match open_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => create(path)?,
            opened => Some(open_database(path, opened.map_err(about("open", path))?)?),
        };
        if let Some(database) = opened {
            return Ok(database);
        }
    }
    Err(Error::InUse(path.to_owned()))
}

/// Opens a file that may be a fifo, without waiting for a writer.
fn open_file(path: &Path) -> io::Result<File> {
    let flags = O_NONBLOCK | O_NOCTTY;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)
}

fn open_database(path: &Path, file: File) -> Result<Database, Error> {
    check_kind(path, &file)?;
    // Beside a store there is an unfinished one if a process was killed while it made the same store as another one. A file that
    // cannot be removed does no harm.
    let _ = remove_unfinished(&unfinished(path));
    database(path, file)
}

fn check_kind(path: &Path, file: &File) -> Result<(), Error> {
    match file.metadata().map_err(about("open", path))?.is_file() {
        true => Ok(()),
        false => Err(Error::NoFile(path.to_owned())),
    }
}

/// The name of a store while it is made.
fn unfinished(path: &Path) -> PathBuf {
    path.with_added_extension("unfinished")
}

/// Makes it under another name first: a file of the store's name is a whole store whenever the process is killed. None if
/// another process has made the store at the same time.
fn create(path: &Path) -> Result<Option<Database>, Error> {
    let unfinished = unfinished(path);
    let Some(file) = empty(path, &unfinished)? else { return Ok(None) };
    let made = database(path, file);
    // Otherwise another process is making it under that name.
    let _removed = match made {
        Err(Error::InUse(_)) => None,
        _ => Some(Removed(&unfinished)),
    };
    let made = made?;
    match rename(&unfinished, path) {
        // Another process has made the store, or has removed what it took for one that is not made any more.
        Err(Errno::EEXIST | Errno::ENOENT) => return Ok(None),
        renamed => renamed.map_err(|error| about("make", path)(error.into()))?,
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(about("make", path))?;
    Ok(Some(made))
}

/// An empty file of that name; a killed process may have left one that is not empty. None if it has another name by now.
///
/// # Errors
/// [`Error::InUse`] while another process makes the store.
fn empty(path: &Path, unfinished: &Path) -> Result<Option<File>, Error> {
    let failed = || about("make", path);
    let flags = O_NONBLOCK | O_NOCTTY | O_NOFOLLOW;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags);
    let file = options.open(unfinished).map_err(failed())?;
    check_kind(unfinished, &file)?;
    match lock(&file, unfinished).map_err(failed())? {
        Lock::Busy => return Err(Error::InUse(path.to_owned())),
        Lock::Renamed => return Ok(None),
        Lock::Ours => file.set_len(0).map_err(failed())?,
    }
    // `redb` locks it in its own way, which must not find this lock. If another process is first, that one makes the store.
    file.unlock().map_err(failed())?;
    Ok(Some(file))
}

/// Removes a file of that name that a killed process has left.
fn remove_unfinished(path: &Path) -> io::Result<()> {
    let flags = O_NONBLOCK | O_NOCTTY | O_NOFOLLOW;
    let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
    match (file.metadata()?.is_file(), lock(&file, path)?) {
        (true, Lock::Ours) => fs::remove_file(path),
        _ => Ok(()),
    }
}

/// What came of locking a file.
enum Lock {
    Ours,
    /// Another process has it open as a database.
    Busy,
    /// It is locked, but is not of its name any more.
    Renamed,
}

/// Locks a file that was opened by its name (flock(2), as `redb` does as well).
fn lock(file: &File, path: &Path) -> io::Result<Lock> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(Lock::Busy),
        locked => locked?,
    }
    let named = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Lock::Renamed),
        named => named?,
    };
    let is_same = named.ino() == file.metadata()?.ino();
    Ok(if is_same { Lock::Ours } else { Lock::Renamed })
}

/// Never in place of another file: a file system that cannot rename so gives it a second name, and the first goes later.
fn rename(from: &Path, to: &Path) -> nix::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Err(Errno::EINVAL | Errno::ENOSYS) => {
            linkat(AT_FDCWD, from, AT_FDCWD, to, AtFlags::empty())
        }
        renamed => renamed,
    }
}

/// Name of a file that is removed, if it is still there.
struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
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
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    fn set(key: &str, value: &str) -> Vec<Change> {
        vec![Change::Set(key.to_owned(), value.as_bytes().to_vec())]
    }

    fn refusal(path: &Path) -> String {
        InFile::open(path.to_owned()).map(drop).expect_err("is no store").to_string()
    }

    #[test]
    fn what_was_set_is_there_when_the_file_is_opened_again() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store");
        let mut store = InFile::open(path.clone()).expect("is made");
        store.apply(set("a", "1")).expect("kept");
        // As after a kill: what is in the file at this moment, and nothing that is written at the end.
        let copy = directory.path().join("copy");
        fs::copy(&path, &copy).expect("copied");
        assert!(refusal(&path).contains("open in another process"), "{}", refusal(&path));
        drop(store);
        for path in [path, copy] {
            let mut again = InFile::open(path).expect("is opened");
            assert_eq!(again.get("a").expect("is read"), Some(b"1".to_vec()));
        }
        let names = fs::read_dir(directory.path()).expect("is listed").count();
        assert_eq!(names, 2, "nothing else is left");
    }

    /// The names in a directory, sorted.
    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("is listed");
        let name = |entry: io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        let mut names: Vec<_> = entries.map(|it| name(it).to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_store_that_was_killed_while_it_was_made_is_made_again_and_nothing_is_left_of_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store");
        let unfinished = directory.path().join("store.unfinished");
        // Made, and beside a store that another process made.
        for _ in 0..2 {
            fs::write(&unfinished, "half of a database").expect("written");
            let mut store = InFile::open(path.clone()).expect("is opened");
            assert_eq!(names(directory.path()), ["store"]);
            store.apply(set("a", "1")).expect("kept");
            drop(store);
            let mut again = InFile::open(path.clone()).expect("is opened again");
            assert_eq!(again.get("a").expect("is read"), Some(b"1".to_vec()));
        }
    }

    #[test]
    fn a_store_that_another_process_is_making_is_left_to_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store");
        let unfinished = directory.path().join("store.unfinished");
        let file = empty(&path, &unfinished).expect("is made").expect("is there");
        let made = database(&path, file).expect("is made");
        assert!(refusal(&path).contains("open in another process"), "{}", refusal(&path));
        remove_unfinished(&unfinished).expect("looked at");
        assert_eq!(names(directory.path()), ["store.unfinished"]);
        drop(made);
        remove_unfinished(&unfinished).expect("removed");
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn of_processes_that_make_a_store_at_once_each_has_it_or_learns_that_it_is_in_use() {
        for _ in 0..20 {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("store");
            let opened: Vec<_> = std::thread::scope(|scope| {
                let open = || scope.spawn(|| InFile::open(path.clone()));
                let threads = [open(), open(), open(), open()];
                threads.map(|thread| thread.join().expect("no panic")).into()
            });
            let errors = opened.iter().filter_map(|opened| opened.as_ref().err());
            for error in errors {
                assert!(matches!(error, Error::InUse(_)), "{error}");
            }
            assert!(opened.iter().filter(|opened| opened.is_ok()).count() <= 1);
            drop(opened);
            let mut store = InFile::open(path.clone()).expect("is opened");
            store.apply(set("a", "1")).expect("kept");
            assert_eq!(names(directory.path()), ["store"]);
        }
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
    fn a_damaged_file_is_an_error_and_never_another_value() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store");
        let mut store = InFile::open(path.clone()).expect("is made");
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
            let read = InFile::open(path.clone()).and_then(|mut store| {
                store.apply(set("more", "1"))?;
                store.get("key 7")
            });
            match read {
                Err(_) => errors += 1,
                Ok(value) => assert!(value.is_none_or(|it| it.len() < 64), "at {place}"),
            }
            fs::write(&path, &whole[..place]).expect("written");
            let _ = InFile::open(path.clone()).and_then(|mut store| store.get("key 7"));
        }
        assert!(errors > 0);
    }
}
