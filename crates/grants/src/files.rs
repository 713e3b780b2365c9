//! Directories that a guest may use.

use std::fmt;
use std::path::{Component, Path, PathBuf};

use provided::FILES;

use crate::text::as_text;

/// What may be done with files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Read them.
    Read,
    /// Read and change them.
    Write,
}

/// A directory with everything in it: `PATH=ro` or `PATH=rw`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileGrant {
    /// The directory in the container: absolute, without `.` and `..`.
    pub path: PathBuf,
    /// What may be done.
    pub access: Access,
}

as_text!(FileGrant, FILES);

impl Access {
    fn name(self) -> &'static str {
        match self {
            Access::Read => "ro",
            Access::Write => "rw",
        }
    }
}

impl FileGrant {
    fn parse(entry: &str) -> Option<FileGrant> {
        let (path, access) = entry.rsplit_once('=')?;
        let access = [Access::Read, Access::Write].into_iter().find(|it| it.name() == access)?;
        let is_plain = |part| matches!(part, Component::RootDir | Component::Normal(_));
        let is_valid = Path::new(path).is_absolute()
            && Path::new(path).components().all(is_plain)
            && path.split('/').all(|part| part != ".")
            && !path.contains('\0');
        // Without a slash at the end, and with no two together.
        let path = Path::new(path).components().collect();
        is_valid.then_some(FileGrant { path, access })
    }

    /// Whether everything that the other one grants is granted by this one. A path that climbs is within none.
    pub fn covers(&self, other: &FileGrant) -> bool {
        let climbs = other.path.components().any(|part| part == Component::ParentDir);
        !climbs && other.path.starts_with(&self.path) && other.access <= self.access
    }
}

impl fmt::Display for FileGrant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.path.display(), self.access.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> FileGrant {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_directory_is_written_as_it_is_read() {
        for text in ["/data=rw", "/etc/config=ro", "/=ro", "/a=b=rw"] {
            assert_eq!(file(text).to_string(), text);
        }
        assert_eq!(file("/data//x/=rw"), file("/data/x=rw"));
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        for text in ["", "/data", "data=rw", "/data=w", "/data/../etc=rw", "/./a=ro", "/a\0b=ro"] {
            let error = text.parse::<FileGrant>().expect_err(text).to_string();
            assert!(error.contains("allowed is PATH=ro or PATH=rw"), "{error}");
        }
    }

    #[test]
    fn a_directory_covers_what_is_below_it_and_no_more_access() {
        assert!(file("/data=rw").covers(&file("/data/x=ro")));
        assert!(!file("/data=ro").covers(&file("/data/x=rw")));
        assert!(!file("/data=rw").covers(&file("/database=ro")));
        assert!(file("/=ro").covers(&file("/x=ro")));
    }
}
