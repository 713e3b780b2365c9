//! Finds the installed versions of containerd: the distribution's, and one built by this project.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command;

/// An installed containerd.
#[derive(Debug, Clone)]
pub struct Containerd {
    /// Path of the daemon.
    pub program: PathBuf,
    /// Path of the client of the same version.
    pub ctr: PathBuf,
    /// Version, such as `1.6.20~ds1` or `2.4.2`.
    pub version: String,
    /// Major version, 1 or 2. It determines the configuration.
    pub major: u32,
    /// Additional runtime handlers, by the name in `io.containerd.NAME.v1`.
    pub handlers: Vec<String>,
    /// Additional environment variables for it and its shims.
    pub environment: Vec<(String, String)>,
}

/// Variable with a containerd 2.x to use instead of the one that `scripts` puts into `target/go/containerd`.
const OVERRIDE: &str = "CONTAINERD2";

/// Variable with the major versions to test with, such as `2` or `1 2`. Each of them must exist.
const WANTED: &str = "WASMTIME_SHIM_TEST_CONTAINERD";

impl Containerd {
    /// Returns one of each existing major version, the oldest first.
    pub fn available() -> Result<Vec<Self>> {
        let mut found: Vec<Self> = Vec::new();
        for program in candidates() {
            let Some(containerd) = Self::at(&program)? else { continue };
            if found.iter().all(|other| other.major != containerd.major) {
                found.push(containerd);
            }
        }
        found.sort_by_key(|containerd| containerd.major);
        if let Ok(wanted) = env::var(WANTED) {
            found = pick(&wanted, &found)?;
        }
        if found.is_empty() {
            bail!("no containerd in PATH, in target/go/containerd or where {OVERRIDE} points");
        }
        Ok(found)
    }

    /// Returns those of [`Containerd::available`] and those in `target/go/containerd-*`, one of each minor version, the
    /// oldest first.
    pub fn of_all_releases() -> Result<Vec<Self>> {
        let mut found: BTreeMap<(u32, u32), Self> = BTreeMap::new();
        for further in fs::read_dir(repository().join("target/go"))? {
            let folder = further?.path();
            let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with("containerd-")
                && let Some(containerd) = Self::at(&folder.join("containerd"))?
            {
                found.insert(containerd.release(), containerd);
            }
        }
        for containerd in Self::available()? {
            found.insert(containerd.release(), containerd);
        }
        Ok(found.into_values().collect())
    }

    /// Returns its major and minor version.
    fn release(&self) -> (u32, u32) {
        let minor = self.version.split('.').nth(1).and_then(|it| it.parse().ok());
        (self.major, minor.unwrap_or_default())
    }

    /// Returns whether that major version is requested explicitly.
    pub fn is_wanted(major: u32) -> bool {
        env::var(WANTED).is_ok_and(|wanted| wanted.split(' ').any(|it| it.parse() == Ok(major)))
    }

    /// Returns the containerd at that path, if there is one that runs.
    fn at(program: &Path) -> Result<Option<Self>> {
        if !program.is_file() {
            return Ok(None);
        }
        // "containerd github.com/containerd/containerd/v2 v2.4.2 revision"
        let line = command::run(program, ["--version"])?.success()?.stdout;
        let word = line.split_whitespace().nth(2).context("containerd --version: no version")?;
        let version = word.trim_start_matches('v').trim_end_matches("+unknown").to_owned();
        let major = version.split('.').next().and_then(|major| major.parse().ok());
        Ok(Some(Self {
            major: major.with_context(|| format!("containerd --version: {line}"))?,
            ctr: program.with_file_name("ctr"),
            program: program.to_owned(),
            version,
            handlers: Vec::new(),
            environment: Vec::new(),
        }))
    }
}

fn candidates() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let installed = env::split_paths(&path).map(|folder| folder.join("containerd"));
    let named = env::var_os(OVERRIDE).map(PathBuf::from);
    let built = repository().join("target/go/containerd/containerd");
    named.into_iter().chain([built]).chain(installed).collect()
}

/// Returns the directory of the workspace.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is a member of a workspace")
}

/// Returns the directory with the files of the image `linux`.
pub fn linux_rootfs() -> PathBuf {
    repository().join("target/images/linux-rootfs")
}

/// Returns the path of `wasm-image`, as it was built for the tests.
pub fn wasm_image() -> PathBuf {
    repository().join("target/release/wasm-image")
}

fn pick(wanted: &str, found: &[Containerd]) -> Result<Vec<Containerd>> {
    let one = |major: &str| {
        let is_it = |containerd: &&Containerd| containerd.major.to_string() == major;
        found.iter().find(is_it).cloned().with_context(|| {
            format!("{WANTED}={wanted:?}, but there is no containerd {major}.x here")
        })
    };
    wanted.split_whitespace().map(one).collect()
}
