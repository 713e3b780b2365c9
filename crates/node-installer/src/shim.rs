//! The shim's binary: the one to install, and one that exists already.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use nix::unistd::{AccessFlags, Uid, User, access};

use crate::errors::Error;
use crate::run;
use crate::tree::Tree;

/// File name by which containerd finds the shim.
pub const NAME: &str = "containerd-shim-wasmtime-v1";

/// Directories where the kwasm operator puts shims, and where k3s looks first.
const ELSEWHERE: [&str; 5] =
    ["/opt/kwasm/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];

/// SELinux label of a new binary if SELinux is in force, as for other runtimes (container-selinux).
pub const LABEL: &str = "system_u:object_r:container_runtime_exec_t:s0";

/// A binary to install.
#[derive(Debug)]
pub struct Shim {
    /// The whole file.
    pub bytes: Vec<u8>,
    path: PathBuf,
}

/// The identity that a binary reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// The shim of this project, in that version.
    Ours(String),
    /// Another program, with its own text.
    Others(String),
}

impl Shim {
    /// Reads a binary.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path).map_err(Error::file("read", path))?;
        Ok(Self { bytes, path: path.to_owned() })
    }

    /// Runs a copy in its final directory and returns its version. A binary that cannot be executed there is of no use.
    pub fn try_on(&self, copy: &Path) -> Result<String, Error> {
        let bad = |reason: String| Error::BadShim { path: self.path.clone(), reason };
        match run::output(copy, &["-v"]) {
            Err(reason) => Err(bad(format!("it cannot be executed on this node: {reason}"))),
            Ok(output) => match identity(&output) {
                Identity::Ours(version) => Ok(version),
                Identity::Others(words) => {
                    Err(bad(format!("it is not {NAME} of this project ({words})")))
                }
            },
        }
    }
}

/// Returns the identity that a binary reports, or `None` if it cannot be executed.
pub fn identify(path: &Path) -> Option<Identity> {
    run::output(path, &["-v"]).ok().map(|output| identity(&output))
}

/// Parses the output of `-v`. Our shim prints one line with name and version.
fn identity(output: &str) -> Identity {
    let words = output.split_whitespace().collect::<Vec<_>>().join(" ");
    let version = words.strip_prefix(NAME).and_then(|it| it.strip_prefix(' '));
    let is_number =
        |it: &&str| it.starts_with(|first: char| first.is_ascii_digit()) && !it.contains(' ');
    match version.filter(is_number) {
        Some(version) => Identity::Ours(version.to_owned()),
        None if words.is_empty() => Identity::Others("it reports no version".into()),
        None => Identity::Others(words),
    }
}

/// Returns the owner of a file: its user, and its package if a package manager knows it.
pub fn owner(tree: &Tree, path: &Path) -> String {
    let uid = fs::metadata(tree.at(path)).map(|it| it.uid()).unwrap_or_default();
    let user =
        User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or(uid.to_string(), |it| it.name);
    let file = path.display().to_string();
    let package = if tree.is_live() {
        let deb = run::output(Path::new("dpkg-query"), &["--search", &file]).ok();
        let deb = deb.and_then(|it| Some(it.split_once(':')?.0.to_owned()));
        deb.or_else(|| run::output(Path::new("rpm"), &["--query", "--file", &file]).ok())
    } else {
        None
    };
    match package.map(|it| it.trim().to_owned()).filter(|it| !it.is_empty()) {
        Some(package) => format!("of package {package}"),
        None => format!("of user {user}"),
    }
}

/// Returns shims with our name in other directories, with the text that they report. Our handler does not use them, but
/// `ctr` may.
pub fn others(tree: &Tree, ours: &Path) -> Vec<(PathBuf, String)> {
    let paths = ELSEWHERE.iter().map(|dir| Path::new(dir).join(NAME));
    let there = paths.filter(|it| it != ours && tree.exists(it));
    there
        .map(|path| {
            let words = match identify(&tree.at(&path)) {
                Some(Identity::Ours(version) | Identity::Others(version)) => version,
                None => "it cannot be executed".into(),
            };
            (path, words)
        })
        .collect()
}

/// Returns the first directory where a program can be installed and executed.
pub fn directory(tree: &Tree, candidates: &[PathBuf]) -> Result<PathBuf, Error> {
    let mut tried = Vec::new();
    for dir in candidates {
        match obstacle(&tree.at(dir)) {
            None => return Ok(dir.clone()),
            Some(obstacle) => tried.push(format!("{} {obstacle}", dir.display())),
        }
    }
    Err(Error::NoBinDir { tried: tried.join(", ") })
}

/// Returns why no program can be installed into a directory, or into its nearest existing parent.
fn obstacle(dir: &Path) -> Option<&'static str> {
    let there = dir.ancestors().find(|it| it.exists())?;
    if !there.is_dir() {
        return Some("is not a directory");
    }
    let flags = statvfs(there).map(|it| it.flags()).unwrap_or(FsFlags::empty());
    if flags.contains(FsFlags::ST_RDONLY) {
        return Some("is on a read-only file system");
    }
    if flags.contains(FsFlags::ST_NOEXEC) {
        return Some("is on a file system without executables (noexec)");
    }
    access(there, AccessFlags::W_OK).is_err().then_some("cannot be written to")
}
