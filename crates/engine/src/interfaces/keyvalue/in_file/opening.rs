//! Opens the file of a store, or makes it under another name until it is a whole store.
//!
//! A process that is killed while it makes the file leaves it under that other name. The next process that opens the store
//! uses that file, or removes it if the store exists by then. A lock shows whether another process is still making it.

use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use redb::Database;

use super::super::error::Error;
use super::{about, database};
use crate::named_path::{Directory, NamedPath};

/// Flags of the file of a store that is being made: no link, and nothing to wait for.
const UNFINISHED: OFlag =
    OFlag::O_RDWR.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_NOFOLLOW);

/// Attempts to open or make a store that other processes make and remove at the same time.
const ATTEMPTS: u32 = 10;

/// Pause before the next attempt if several processes have kept each other from making the store.
const PAUSE: Duration = Duration::from_millis(10);

/// The file of a store, in its open directory.
struct Location<'a> {
    /// The path, for errors.
    path: &'a Path,
    directory: Directory,
    name: OsString,
}

/// Opens the database in a file, which is made if it is not there.
///
/// # Errors
/// As of [`super::InFile::open`].
pub fn open(named: &NamedPath) -> Result<Database, Error> {
    let path = named.as_path();
    let location = Location::new(named)?;
    for _ in 0..ATTEMPTS {
        let opened = match location.open_file() {
            Err(error) if error.kind() == ErrorKind::NotFound => create(&location),
            opened => open_database(&location, opened.map_err(about("open", path))?).map(Some),
        };
        match opened {
            Ok(Some(database)) => return Ok(database),
            Ok(None) => {}
            Err(Error::InUse(_)) if location.directory.status(location.name()).is_err() => {
                sleep(PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
    Err(Error::InUse(path.to_owned()))
}

impl Location<'_> {
    fn new(named: &NamedPath) -> Result<Location<'_>, Error> {
        let path = named.as_path();
        let action = |error: &io::Error| match error.kind() {
            ErrorKind::NotFound => "make",
            _ => "open",
        };
        let (directory, name) =
            named.parent().map_err(|error| about(action(&error), path)(error))?;
        Ok(Location { path, directory, name })
    }

    fn name(&self) -> &Path {
        Path::new(&self.name)
    }

    /// Opens a file that may be a fifo, without waiting for a writer.
    fn open_file(&self) -> io::Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        self.directory.own_file(self.name(), flags)
    }

    /// Name of a store while it is made, which no other file has: any file of that name is overwritten or removed.
    fn unfinished(&self) -> PathBuf {
        let mut name = OsString::from(".");
        name.push(&self.name);
        name.push(".wasmtime-shim-unfinished");
        name.into()
    }
}

fn open_database(location: &Location<'_>, file: File) -> Result<Database, Error> {
    check_kind(location.path, &file)?;
    // Beside a store there is an unfinished one if a process was killed while it made the same store as another one. A file that
    // cannot be removed does no harm.
    let _ = remove_unfinished(&location.directory, &location.unfinished());
    database(location.path, file)
}

fn check_kind(path: &Path, file: &File) -> Result<(), Error> {
    match file.metadata().map_err(about("open", path))?.is_file() {
        true => Ok(()),
        false => Err(Error::NoFile(path.to_owned())),
    }
}

/// Makes it under another name first: a file of the store's name is a whole store whenever the process is killed. None if
/// another process has made the store at the same time.
fn create(location: &Location<'_>) -> Result<Option<Database>, Error> {
    let Location { path, directory, .. } = location;
    let unfinished = location.unfinished();
    let Some(file) = empty(location, &unfinished)? else { return Ok(None) };
    let made = database(path, file);
    // Otherwise another process is making it under that name.
    let _removed = match made {
        Err(Error::InUse(_)) => None,
        _ => Some(Removed(directory, &unfinished)),
    };
    let made = made?;
    match directory.rename(&unfinished, location.name()) {
        // Another process has made the store, or has removed what it took for one that is not made any more.
        Err(Errno::EEXIST | Errno::ENOENT) => return Ok(None),
        renamed => renamed.map_err(|error| about("make", path)(error.into()))?,
    }
    directory.sync().map_err(about("make", path))?;
    Ok(Some(made))
}

/// An empty file of that name; a killed process may have left one that is not empty. None if it has another name by now.
///
/// # Errors
/// [`Error::InUse`] while another process makes the store.
fn empty(location: &Location<'_>, unfinished: &Path) -> Result<Option<File>, Error> {
    let Location { path, directory, .. } = location;
    let failed = || about("make", path);
    let file = directory.own_file(unfinished, UNFINISHED | OFlag::O_CREAT).map_err(failed())?;
    check_kind(&path.with_file_name(unfinished), &file)?;
    match lock(&file, directory, unfinished).map_err(failed())? {
        Lock::Busy => return Err(Error::InUse((*path).to_owned())),
        Lock::Renamed => return Ok(None),
        Lock::Unsupported => file.set_len(0).map_err(failed())?,
        Lock::Ours => {
            file.set_len(0).map_err(failed())?;
            // `redb` locks it in its own way, which must not find this lock. If another process is first, that one makes the store.
            file.unlock().map_err(failed())?;
        }
    }
    Ok(Some(file))
}

/// Removes a file of that name that a killed process has left.
fn remove_unfinished(directory: &Directory, name: &Path) -> io::Result<()> {
    let file = directory.own_file(name, UNFINISHED)?;
    match (file.metadata()?.is_file(), lock(&file, directory, name)?) {
        (true, Lock::Ours) => directory.remove(name),
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
    /// Its file system has no locks. `redb` does without them, too.
    Unsupported,
}

/// Locks a file that was opened by its name (flock(2), as `redb` does as well).
fn lock(file: &File, directory: &Directory, name: &Path) -> io::Result<Lock> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(Lock::Busy),
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
            return Ok(Lock::Unsupported);
        }
        locked => locked?,
    }
    let named = match directory.status(name) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Lock::Renamed),
        named => named?,
    };
    let is_same = named.st_ino == file.metadata()?.ino();
    Ok(if is_same { Lock::Ours } else { Lock::Renamed })
}

/// Name of a file that is removed, if it is still there.
struct Removed<'a>(&'a Directory, &'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let _ = self.0.remove(self.1);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::InFile;
    use super::super::tests::{refusal, set};
    use super::*;
    use crate::named_path::tests::anywhere;

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
        let named = anywhere(path.clone());
        let unfinished = path.with_file_name(Location::new(&named).expect("is there").unfinished());
        // Made, and beside a store that another process made.
        for _ in 0..2 {
            fs::write(&unfinished, "half of a database").expect("written");
            let mut store = InFile::open(anywhere(path.clone())).expect("is opened");
            assert_eq!(names(directory.path()), ["store"]);
            store.apply(set("a", "1")).expect("kept");
            drop(store);
            let mut again = InFile::open(anywhere(path.clone())).expect("is opened again");
            assert_eq!(again.get("a").expect("is read"), Some(b"1".to_vec()));
        }
    }

    #[test]
    fn a_store_that_another_process_is_making_is_left_to_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("store");
        let named = anywhere(path.clone());
        let location = Location::new(&named).expect("is there");
        let unfinished = location.unfinished();
        let file = empty(&location, &unfinished).expect("is made").expect("is there");
        let made = database(&path, file).expect("is made");
        assert!(refusal(&path).contains("open in another process"), "{}", refusal(&path));
        remove_unfinished(&location.directory, &unfinished).expect("looked at");
        assert_eq!(names(directory.path()), [".store.wasmtime-shim-unfinished"]);
        drop(made);
        remove_unfinished(&location.directory, &unfinished).expect("removed");
        assert!(names(directory.path()).is_empty());
    }

    #[test]
    fn of_processes_that_make_a_store_at_once_each_has_it_or_learns_that_it_is_in_use() {
        for _ in 0..20 {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("store");
            let opened: Vec<_> = std::thread::scope(|scope| {
                let open = || scope.spawn(|| InFile::open(anywhere(path.clone())));
                let threads = [open(), open(), open(), open()];
                threads.map(|thread| thread.join().expect("no panic")).into()
            });
            let errors = opened.iter().filter_map(|opened| opened.as_ref().err());
            for error in errors {
                assert!(matches!(error, Error::InUse(_)), "{error}");
            }
            assert_eq!(opened.iter().filter(|opened| opened.is_ok()).count(), 1);
            drop(opened);
            let mut store = InFile::open(anywhere(path.clone())).expect("is opened");
            store.apply(set("a", "1")).expect("kept");
            assert_eq!(names(directory.path()), ["store"]);
        }
    }
}
