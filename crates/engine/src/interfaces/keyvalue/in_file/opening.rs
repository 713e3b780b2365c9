//! Opens the file of a store, or makes it under another name until it is a whole store.
//!
//! A process that is killed while it makes the file leaves it under that other name. The next process that opens the store
//! uses that file, or removes it if the store exists by then. A lock shows whether another process is still making it.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, RenameFlags, renameat2};
use nix::libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};
use nix::unistd::linkat;
use redb::Database;

use super::super::error::Error;
use super::{about, database};

/// Attempts to open or make a store that other processes make and remove at the same time.
const ATTEMPTS: u32 = 10;

/// Pause before the next attempt if several processes have kept each other from making the store.
const PAUSE: Duration = Duration::from_millis(10);

/// Opens the database in a file, which is made if it is not there.
///
/// # Errors
/// As of [`super::InFile::open`].
pub fn open(path: &Path) -> Result<Database, Error> {
    for _ in 0..ATTEMPTS {
        let opened = match open_file(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => create(path),
            opened => open_database(path, opened.map_err(about("open", path))?).map(Some),
        };
        match opened {
            Ok(Some(database)) => return Ok(database),
            Ok(None) => {}
            Err(Error::InUse(_)) if !path.exists() => sleep(PAUSE),
            Err(error) => return Err(error),
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

/// Name of a store while it is made, which no other file has: any file of that name is overwritten or removed.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".wasmtime-shim-unfinished");
    path.with_file_name(name)
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
    /// Its file system has no locks. `redb` does without them, too.
    Unsupported,
}

/// Locks a file that was opened by its name (flock(2), as `redb` does as well).
fn lock(file: &File, path: &Path) -> io::Result<Lock> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Ok(Lock::Busy),
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
            return Ok(Lock::Unsupported);
        }
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

#[cfg(test)]
mod tests {
    use super::super::InFile;
    use super::super::tests::{refusal, set};
    use super::*;

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
        let unfinished = unfinished(&path);
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
        let unfinished = unfinished(&path);
        let file = empty(&path, &unfinished).expect("is made").expect("is there");
        let made = database(&path, file).expect("is made");
        assert!(refusal(&path).contains("open in another process"), "{}", refusal(&path));
        remove_unfinished(&unfinished).expect("looked at");
        assert_eq!(names(directory.path()), [".store.wasmtime-shim-unfinished"]);
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
            assert_eq!(opened.iter().filter(|opened| opened.is_ok()).count(), 1);
            drop(opened);
            let mut store = InFile::open(path.clone()).expect("is opened");
            store.apply(set("a", "1")).expect("kept");
            assert_eq!(names(directory.path()), ["store"]);
        }
    }
}
