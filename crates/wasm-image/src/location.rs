//! The locations of images: operands of `push`, `pull`, `copy`, `convert` and `inspect`.

use std::path::{Path, PathBuf};
use std::{fmt, fs};

use oci_client::Reference;

use crate::errors::Error;
use crate::store::Layout;
use crate::store::archive::is_named_so;
use crate::store::output::is_stdout;

/// A location of an image.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    /// An image in a registry.
    Registry(Reference),
    /// A directory with an OCI image layout.
    Layout(PathBuf),
    /// A layout in a tar file, which may be compressed. `-` is standard output.
    Archive(PathBuf),
}

impl Location {
    /// Parses an operand. It is a path if it is `-`, is absolute, begins with a dot, has the ending of an archive, or
    /// names an existing layout. Otherwise it is a reference. The prefixes `docker://`, `oci:` and `oci-archive:`
    /// decide explicitly, as for `skopeo`.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn parse(text: &str) -> Result<Self, Error> {
        if let Some(name) = text.strip_prefix("docker://") {
            return reference(name).map(Location::Registry);
        }
        if let Some(path) = text.strip_prefix("oci-archive:") {
            return Ok(Location::Archive(path.into()));
        }
        if let Some(path) = text.strip_prefix("oci:") {
            return Ok(Location::Layout(path.into()));
        }
        let path = Path::new(text);
        let looks_like_path = text.starts_with(['/', '.']) || is_stdout(path) || is_named_so(path);
        match looks_like_path || Layout::is_one(path) {
            true => Ok(Self::of_path(path)),
            false => reference(text).map(Location::Registry),
        }
    }

    /// Returns the place of a path on disk. An existing file or directory decides first. Otherwise it is an archive if
    /// its name has the ending of one or it is standard output (`-`), and a layout if not.
    pub fn of_path(path: &Path) -> Self {
        let is_there = fs::metadata(path).map(|it| it.is_dir());
        let is_archive = is_there.map_or(is_named_so(path), |is_dir| !is_dir);
        match is_archive || is_stdout(path) {
            true => Location::Archive(path.into()),
            false => Location::Layout(path.into()),
        }
    }

    /// Returns whether it is standard output. Nothing else may be written there then.
    pub fn is_stdout(&self) -> bool {
        matches!(self, Location::Archive(path) if is_stdout(path))
    }
}

/// Parses an image's name as containerd does.
///
/// # Errors
/// [`Error::Usage`].
pub fn reference(text: &str) -> Result<Reference, Error> {
    text.parse().map_err(|_| {
        Error::Usage(format!("{text:?} is not an image reference such as registry.example/app:1"))
    })
}

impl std::str::FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Registry(reference) => f.write_str(&reference.whole()),
            Location::Layout(path) | Location::Archive(path) => write!(f, "{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_of_a_place_decides_whether_it_is_a_path_or_a_reference() {
        let archive = |path: &str| Some(Location::Archive(path.into()));
        let layout = |path: &str| Some(Location::Layout(path.into()));
        let registry = |name: &str| Some(Location::Registry(name.parse().unwrap()));
        for (text, expected) in [
            ("app.tar", archive("app.tar")),
            ("app.tgz", archive("app.tgz")),
            ("app.tar.gz", archive("app.tar.gz")),
            ("-", archive("-")),
            ("./app", layout("./app")),
            ("/no/such/app.tar", archive("/no/such/app.tar")),
            ("r.example/app:1", registry("r.example/app:1")),
            ("127.0.0.1:5000/app.tar:1", registry("127.0.0.1:5000/app.tar:1")),
            ("docker://r.example/app.tar", registry("r.example/app.tar:latest")),
            ("oci:app", layout("app")),
            ("oci-archive:app", archive("app")),
            ("r.example/App", None),
            ("", None),
        ] {
            assert_eq!(Location::parse(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_there_decides_what_a_path_is() {
        let directory = tempfile::tempdir().unwrap();
        let tar = directory.path().join("x.tar");
        assert_eq!(Location::of_path(&tar), Location::Archive(tar.clone()));
        std::fs::create_dir(&tar).unwrap();
        assert_eq!(Location::of_path(&tar), Location::Layout(tar));
    }
}
