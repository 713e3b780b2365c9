//! Temporary directories and files. Each is removed when it is dropped. If the program is interrupted, all are removed,
//! whatever the thread that uses them is doing.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fs, mem, thread};

use tempfile::{NamedTempFile, TempDir};

use crate::progress;

/// All temporary paths of this process.
static LIST: List = List(Mutex::new(Listed { paths: BTreeSet::new(), is_closed: false }));

/// Number of attempts to remove a directory into which a thread still writes when the list is closed.
const ATTEMPTS: u32 = 20;

/// Wait between these attempts.
const WAIT: Duration = Duration::from_millis(10);

/// A temporary directory.
#[derive(Debug)]
pub struct Directory {
    // This is removed before its entry is taken off the list.
    directory: TempDir,
    _entry: Entry,
}

impl Directory {
    /// Makes an empty directory in the usual place.
    pub fn new() -> io::Result<Self> {
        let (directory, entry) = LIST.add(tempfile::tempdir, TempDir::path)?;
        Ok(Self { directory, _entry: entry })
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// A temporary file that is being written.
#[derive(Debug)]
pub struct File {
    file: NamedTempFile,
    entry: Entry,
}

impl File {
    /// Makes a file with `make`, and lists it.
    pub fn new(make: impl FnOnce() -> io::Result<NamedTempFile>) -> io::Result<Self> {
        let (file, entry) = LIST.add(make, NamedTempFile::path)?;
        Ok(Self { file, entry })
    }

    /// Moves the file to `place` in one step. It is not temporary any more.
    pub fn put(self, place: &Path) -> io::Result<()> {
        self.file.persist(place)?;
        // If this came first, the file would stay if the program were interrupted in between.
        drop(self.entry);
        Ok(())
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Removes all temporary paths. Afterwards, no new ones can be made.
pub fn clear() {
    LIST.clear();
}

/// The paths to remove when the program is interrupted.
#[derive(Debug)]
struct List(Mutex<Listed>);

#[derive(Debug)]
struct Listed {
    paths: BTreeSet<PathBuf>,
    is_closed: bool,
}

impl List {
    /// Makes something and lists it in one step.
    fn add<T>(
        &'static self,
        make: impl FnOnce() -> io::Result<T>,
        path: impl Fn(&T) -> &Path,
    ) -> io::Result<(T, Entry)> {
        let mut listed = self.lock();
        if listed.is_closed {
            return Err(io::Error::other("the program is ending"));
        }
        let made = make()?;
        let path = path(&made).to_owned();
        listed.paths.insert(path.clone());
        Ok((made, Entry { list: self, path }))
    }

    fn clear(&self) {
        let mut listed = self.lock();
        listed.is_closed = true;
        let paths = mem::take(&mut listed.paths);
        drop(listed);
        for path in paths {
            if let Err(error) = remove(&path) {
                progress::note(&format!("cannot remove {}: {error}", path.display()));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Listed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a path on the list until it is dropped.
#[derive(Debug)]
struct Entry {
    list: &'static List,
    path: PathBuf,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.list.lock().paths.remove(&self.path);
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let mut attempts = 1;
    loop {
        let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        match removed {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(_) if attempts < ATTEMPTS => thread::sleep(WAIT),
            other => return other,
        }
        attempts += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> &'static List {
        Box::leak(Box::new(List(Mutex::new(Listed { paths: BTreeSet::new(), is_closed: false }))))
    }

    #[test]
    fn all_that_is_listed_is_removed_and_nothing_is_made_after() {
        let list = list();
        let (directory, _one) = list.add(tempfile::tempdir, TempDir::path).unwrap();
        let (file, _two) = list.add(NamedTempFile::new, NamedTempFile::path).unwrap();
        fs::write(directory.path().join("blob"), "1").unwrap();
        list.clear();
        assert!(!directory.path().exists() && !file.path().exists());
        assert!(list.add(tempfile::tempdir, TempDir::path).is_err());
    }

    #[test]
    fn what_was_dropped_is_not_listed() {
        let list = list();
        drop(list.add(tempfile::tempdir, TempDir::path).unwrap());
        assert!(list.lock().paths.is_empty());
    }

    #[test]
    fn a_file_that_has_its_place_stays() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("image.tar");
        let file = File::new(|| NamedTempFile::new_in(directory.path())).unwrap();
        file.put(&place).unwrap();
        assert!(place.exists());
    }
}
