//! The files of a node, below its root directory.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::errors::Error;

/// The files below a root directory. They are named by their paths on the node.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Makes the tree of files below `root`.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Returns whether this is the running system, whose programs can be run.
    pub fn is_live(&self) -> bool {
        self.root == Path::new("/")
    }

    /// Returns our path of a file on the node.
    pub fn at(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Returns whether anything has that name, including a broken link.
    pub fn exists(&self, path: &Path) -> bool {
        self.at(path).symlink_metadata().is_ok()
    }

    /// Returns the bytes of a file, or `None` if it does not exist.
    pub fn bytes(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        match fs::read(self.at(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(Error::file("read", path)(error)),
        }
    }

    /// Returns the text of a file, or `None` if it does not exist.
    pub fn text(&self, path: &Path) -> Result<Option<String>, Error> {
        let Some(bytes) = self.bytes(path)? else { return Ok(None) };
        let text = String::from_utf8(bytes);
        let broken =
            |_| Error::BrokenConfig { path: path.to_owned(), reason: "it is not UTF-8".into() };
        text.map(Some).map_err(broken)
    }

    /// Returns the files that match a pattern of containerd's `imports`, in containerd's order. Only the file name may
    /// have a star.
    pub fn matching(&self, pattern: &Path) -> Vec<PathBuf> {
        let (Some(dir), Some(name)) =
            (pattern.parent(), pattern.file_name().and_then(|it| it.to_str()))
        else {
            return Vec::new();
        };
        if !name.contains('*') {
            return vec![pattern.to_owned()];
        }
        let entries = fs::read_dir(self.at(dir)).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut found: Vec<_> =
            names.filter(|it| matches(name, it)).map(|it| dir.join(it)).collect();
        found.sort();
        found
    }
}

/// Returns whether a file name matches a pattern with stars.
pub fn matches(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(before) else { return false };
    (0..=rest.len()).filter(|&at| rest.is_char_boundary(at)).any(|at| matches(after, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_part_of_a_name() {
        assert!(matches("*.toml", "10-a.toml"));
        assert!(matches("*", ""));
        assert!(matches("a*b*c", "a-b-b-c"));
        assert!(!matches("*.toml", "a.toml.new"));
        assert!(!matches("a.toml", "b.toml"));
    }
}
