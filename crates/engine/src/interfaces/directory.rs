//! A directory of values, as kubelet mounts a ConfigMap or a Secret: a file for each key.
//!
//! ```text
//! /etc/config/greeting -> ..data/greeting
//! /etc/config/..data   -> ..2026_11_29_20_15_00.123
//! ```
//!
//! If the ConfigMap changes, kubelet writes another such directory, makes `..data` lead to it in one step, and removes
//! the previous directory. So each call first resolves `..data` and then reads in that directory, so that all values
//! that it returns are of one version.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::types::ConfigError;
use crate::named_path::{self, NamedPath, read_at_most};

/// The link that kubelet changes (Kubernetes, `pkg/volume/util/atomic_writer.go`).
const CURRENT: &str = "..data";

/// A key's length (Kubernetes API, ConfigMap, `data`), in bytes.
const KEY_BYTES: usize = 253;

/// What a key can be, for errors.
const KEY: &str = "up to 253 letters, digits, '-', '_' and '.', and not \"..\" at the beginning";

/// A value's length: a whole ConfigMap has at most 1 MiB.
const VALUE_BYTES: u64 = 1 << 20;

/// Of all values together, with their keys: a projected volume has several ConfigMaps.
const ALL_BYTES: usize = 8 << 20;

/// Attempts to read one version, if it is removed during the read. kubelet does that once a minute at most; others may do it at any
/// rate, and must not keep a guest here.
const ATTEMPTS: u32 = 16;

/// A directory with a file for each key.
#[derive(Debug)]
pub struct Directory {
    path: NamedPath,
}

/// The directory with the files of one version, which is open, so that it cannot be replaced while it is read.
struct Version {
    directory: named_path::Directory,
    path: PathBuf,
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("{0:?} is no key; a key is {KEY}")]
    NoKey(String),
    #[error("cannot read {path}: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is no regular file", path = .0.display())]
    NoFile(PathBuf),
    #[error("the value of {0:?} is not UTF-8")]
    NoText(String),
    #[error("the value of {0:?} is longer than 1 MiB")]
    TooLong(String),
    #[error("the values are longer than 8 MiB together")]
    TooMany,
}

impl From<Unread> for ConfigError {
    fn from(unread: Unread) -> ConfigError {
        match unread {
            Unread::Io { .. } => ConfigError::Io(unread.to_string()),
            _ => ConfigError::Upstream(unread.to_string()),
        }
    }
}

impl Directory {
    /// One in the container's file tree.
    pub fn new(path: NamedPath) -> Directory {
        Directory { path }
    }

    /// The value of a key, as it is now.
    ///
    /// # Errors
    /// For what is no key, and for a value that is not UTF-8, too long, or cannot be read.
    pub fn get(&self, key: &str) -> Result<Option<String>, ConfigError> {
        if !is_key(key) {
            return Err(Unread::NoKey(key.chars().take(KEY_BYTES).collect()).into());
        }
        Ok(self.in_one_version(|version| version.value(key), Option::is_none)?)
    }

    /// All keys with their values, sorted. Names that are no keys, and directories, are left out.
    ///
    /// # Errors
    /// As of [`Directory::get`].
    pub fn all(&self) -> Result<Vec<(String, String)>, ConfigError> {
        let read = |version: &Version| {
            let mut all = Vec::new();
            let mut bytes = 0;
            for name in version.directory.names().map_err(about(&version.path))? {
                let Some(key) = name.to_str().filter(|name| is_key(name)) else { continue };
                let found = match version.value(key) {
                    Err(Unread::NoFile(_)) => None,
                    found => found?,
                };
                let Some(found) = found else { continue };
                bytes += key.len() + found.len();
                if bytes > ALL_BYTES {
                    return Err(Unread::TooMany);
                }
                all.push((key.to_owned(), found));
            }
            all.sort();
            Ok(all)
        };
        // While kubelet removes a version, its files go first: some may be missing.
        Ok(self.in_one_version(read, |_| true)?)
    }

    /// Reads in one version; again, if the directory was changed during the read and the result is doubtful for that.
    fn in_one_version<T>(
        &self,
        read: impl Fn(&Version) -> Result<T, Unread>,
        is_doubtful: impl Fn(&T) -> bool,
    ) -> Result<T, Unread> {
        let mut attempt = 1;
        loop {
            let (directory, version) = self.current()?;
            let found = self.open(&directory, &version).and_then(|version| read(&version));
            let may_be_torn = found.as_ref().map_or(true, &is_doubtful);
            if !may_be_torn || attempt == ATTEMPTS || self.current()?.1 == version {
                return found;
            }
            attempt += 1;
        }
    }

    /// This directory, and the one with the files of the version that is current, as a path from it.
    fn current(&self) -> Result<(named_path::Directory, PathBuf), Unread> {
        let directory = self.path.directory().map_err(about(self.path.as_path()))?;
        let version = directory.link(Path::new(CURRENT)).unwrap_or(".".into());
        Ok((directory, version))
    }

    fn open(&self, directory: &named_path::Directory, version: &Path) -> Result<Version, Unread> {
        let path = self.path.as_path().join(version);
        Ok(Version { directory: directory.directory(version).map_err(about(&path))?, path })
    }
}

impl Version {
    fn value(&self, key: &str) -> Result<Option<String>, Unread> {
        let path = self.path.join(key);
        let file = match self.directory.readable_file(Path::new(key)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(about(&path))?,
        };
        if !file.metadata().map_err(about(&path))?.is_file() {
            return Err(Unread::NoFile(path));
        }
        let bytes = read_at_most(&file, VALUE_BYTES).map_err(about(&path))?;
        let bytes = bytes.ok_or_else(|| Unread::TooLong(key.to_owned()))?;
        String::from_utf8(bytes).map(Some).map_err(|_| Unread::NoText(key.to_owned()))
    }
}

/// Whether a name is a key (Kubernetes, `IsConfigMapKey`).
fn is_key(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=KEY_BYTES).contains(&name.len())
        && name.bytes().all(is_allowed)
        && name != "."
        && !name.starts_with("..")
}

fn about(path: &Path) -> impl Fn(io::Error) -> Unread {
    move |source| Unread::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::named_path::tests::{anywhere, within};

    fn values() -> (tempfile::TempDir, Directory) {
        let directory = tempfile::tempdir().expect("a directory");
        let values = Directory::new(anywhere(directory.path().to_owned()));
        (directory, values)
    }

    fn reason<T: std::fmt::Debug>(read: Result<T, ConfigError>) -> String {
        match read.expect_err("there is no value") {
            ConfigError::Upstream(reason) => format!("upstream: {reason}"),
            ConfigError::Io(reason) => format!("io: {reason}"),
        }
    }

    /// As kubelet does it.
    fn publish(directory: &Path, version: &str, values: &[(&str, &str)]) {
        let made = directory.join(version);
        fs::create_dir(&made).expect("made");
        for (key, value) in values {
            fs::write(made.join(key), value).expect("written");
            let _ = symlink(format!("{CURRENT}/{key}"), directory.join(key));
        }
        let link = directory.join("..data_tmp");
        symlink(version, &link).expect("linked");
        fs::rename(link, directory.join(CURRENT)).expect("renamed");
    }

    #[test]
    fn values_are_those_of_the_version_that_kubelet_published_last() {
        let (directory, values) = values();
        publish(directory.path(), "..one", &[("greeting", "hello"), ("old", "1")]);
        assert_eq!(values.get("greeting"), Ok(Some("hello".into())));
        publish(directory.path(), "..two", &[("greeting", "good day")]);
        fs::remove_dir_all(directory.path().join("..one")).expect("removed");
        assert_eq!(values.get("greeting"), Ok(Some("good day".into())));
        // The link is there until kubelet removes it, but what it leads to is not.
        assert_eq!(values.get("old"), Ok(None));
        assert_eq!(values.all(), Ok(vec![("greeting".into(), "good day".into())]));
    }

    #[test]
    fn the_links_of_kubelet_are_followed_and_no_other_if_only_some_directories_are_granted() {
        let (directory, everywhere) = values();
        let granted = Directory::new(within(directory.path().to_owned()));
        publish(directory.path(), "..one", &[("greeting", "hello")]);
        assert_eq!(granted.get("greeting"), Ok(Some("hello".into())));
        assert_eq!(granted.all(), everywhere.all());
        // What a guest can do that may write there.
        let outside = tempfile::tempdir().expect("a directory");
        fs::write(outside.path().join("secret"), "1").expect("written");
        let climbs = format!("../{}", outside.path().file_name().expect("a name").display());
        for target in [climbs.as_str(), &outside.path().display().to_string()] {
            fs::remove_file(directory.path().join(CURRENT)).expect("removed");
            symlink(target, directory.path().join(CURRENT)).expect("linked");
            assert_eq!(everywhere.get("secret"), Ok(Some("1".into())));
            assert!(reason(granted.get("secret")).contains("a link leads to it"));
            assert!(granted.all().is_err());
        }
    }

    #[test]
    fn what_is_read_while_kubelet_changes_it_is_of_one_version() {
        let (directory, values) = values();
        publish(directory.path(), "..0", &[("a", "0"), ("b", "0")]);
        let path = directory.path().to_owned();
        let publisher = std::thread::spawn(move || {
            for number in 1..200 {
                std::thread::sleep(std::time::Duration::from_millis(1));
                let text = number.to_string();
                publish(&path, &format!("..{number}"), &[("a", &text), ("b", &text)]);
                fs::remove_dir_all(path.join(format!("..{}", number - 1))).expect("removed");
            }
        });
        let mut read = 0;
        while !publisher.is_finished() || read == 0 {
            let all = values.all().expect("can be read");
            assert_eq!(all.len(), 2, "{all:?}");
            assert_eq!(all[0].1, all[1].1);
            assert!(values.get("a").expect("can be read").is_some());
            read += 1;
        }
        publisher.join().expect("published");
    }

    #[test]
    fn what_is_no_key_is_refused_and_no_file_is_read_for_it() {
        let (directory, values) = values();
        fs::create_dir(directory.path().join("below")).expect("made");
        fs::write(directory.path().join("below/file"), "secret").expect("written");
        let long = "x".repeat(254);
        for key in [
            "",
            ".",
            "..",
            "..data",
            "../etc/passwd",
            "below/file",
            "/etc/passwd",
            "a b",
            "a\0b",
            &long,
        ] {
            let text = reason(values.get(key));
            assert!(text.starts_with("upstream: ") && text.contains("is no key"), "{text}");
        }
        assert!(reason(values.get("below")).contains("is no regular file"));
        assert_eq!(values.all(), Ok(vec![]));
    }

    #[test]
    fn a_value_that_cannot_be_passed_is_the_interface_s_own_error() {
        let (directory, values) = values();
        let file = |name: &str| directory.path().join(name);
        fs::write(file("binary"), b"\xff\xfe").expect("written");
        assert_eq!(reason(values.get("binary")), "upstream: the value of \"binary\" is not UTF-8");
        assert!(reason(values.all()).contains("\"binary\" is not UTF-8"));
        fs::remove_file(file("binary")).expect("removed");

        fs::write(file("long"), vec![b'x'; VALUE_BYTES as usize]).expect("written");
        assert_eq!(values.get("long").expect("is read").map(|it| it.len()), Some(1 << 20));
        fs::write(file("long"), vec![b'x'; VALUE_BYTES as usize + 1]).expect("written");
        assert!(reason(values.get("long")).contains("longer than 1 MiB"));

        for number in 0..9 {
            fs::write(file("long"), "").expect("written");
            fs::write(file(&format!("n{number}")), vec![b'x'; 1 << 20]).expect("written");
        }
        assert!(reason(values.all()).contains("longer than 8 MiB together"));
    }

    #[test]
    fn a_fifo_keeps_nobody_waiting_and_a_missing_directory_is_named() {
        let (directory, values) = values();
        mkfifo(&directory.path().join("pipe"), Mode::S_IRWXU).expect("made");
        assert!(reason(values.get("pipe")).contains("is no regular file"));
        assert_eq!(values.all(), Ok(vec![]));

        let missing = Directory::new(anywhere(directory.path().join("missing")));
        for text in [reason(missing.get("key")), reason(missing.all())] {
            assert!(
                text.starts_with("io: cannot read ") && text.contains("/missing: No such file"),
                "{text}"
            );
        }
    }
}
