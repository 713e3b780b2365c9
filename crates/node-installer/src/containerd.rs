//! The node's containerd: its version, and whether it accepts a configuration.

use std::fs;
use std::path::{Path, PathBuf};

use toml_edit::{DocumentMut, value};

use crate::config::{self, Candidate, HANDLER};
use crate::distribution::Layout;
use crate::errors::Error;
use crate::files::unfinished;
use crate::run;
use crate::tree::Tree;
use crate::version::Version;

/// The program of containerd.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// Finds the program: the one in `named`, otherwise the distribution's, otherwise the one that is running.
    pub fn find(tree: &Tree, layout: &Layout, named: Option<&Path>) -> Result<Self, Error> {
        if let Some(path) = named {
            return Ok(Self { path: path.to_owned() });
        }
        let there = layout.programs.iter().find(|path| tree.exists(path));
        let there = there.cloned().or_else(|| if tree.is_live() { running() } else { None });
        let looked = || {
            layout.programs.iter().map(|it| it.display().to_string()).collect::<Vec<_>>().join(", ")
        };
        there.map(|path| Self { path }).ok_or_else(|| Error::NoContainerd { looked: looked() })
    }

    /// Returns the version.
    pub fn version(&self) -> Result<Version, Error> {
        let line = run::output(&self.path, &["--version"]);
        let version = line.ok().and_then(|line| Version::of_output(&line));
        version.ok_or_else(|| Error::NoContainerd { looked: self.path.display().to_string() })
    }

    /// Has containerd read the new configuration. Fails if the handler would be missing or another one would be lost.
    pub fn check(&self, candidate: &Candidate) -> Result<(), Error> {
        let refuse = |reason: String| Error::NotAccepted { program: self.path.clone(), reason };
        let dir = candidate
            .path
            .parent()
            .filter(|it| it.is_dir())
            .map_or(std::env::temp_dir(), Path::to_owned);
        let file = unfinished(&dir.join("config-to-check.toml"));
        let import = unfinished(&dir.join("import-to-check.toml"));
        let _tidy = Tidy([file.clone(), import.clone()]);
        if let Some(text) = &candidate.import {
            fs::write(&import, text).map_err(Error::file("write", &import))?;
        }
        let text = with_import(candidate, &import).map_err(|error| refuse(error.to_string()))?;
        fs::write(&file, text).map_err(Error::file("write", &file))?;
        let after = self.runtimes(&file).map_err(refuse)?;
        let has = |wanted: &str| after.iter().any(|(name, _)| name == wanted);
        if !has(HANDLER) {
            return Err(refuse(format!("it would not have the handler {HANDLER:?}")));
        }
        let before = match candidate.path.exists() {
            true => self.runtimes(&candidate.path).map_err(refuse)?,
            false => Vec::new(),
        };
        match before.iter().find(|(name, _)| !has(name)) {
            Some((lost, _)) => Err(refuse(format!("it would lose the handler {lost:?}"))),
            None => Ok(()),
        }
    }

    /// Returns the handlers in a configuration with all its imports.
    fn runtimes(&self, config: &Path) -> Result<Vec<(String, String)>, String> {
        let args = ["--config".as_ref(), config.as_os_str(), "config".as_ref(), "dump".as_ref()];
        let text = run::output(&self.path, &args)?;
        config::runtimes(&text).map_err(|error| error.to_string())
    }
}

/// Deletes the files of a check when dropped.
struct Tidy([PathBuf; 2]);

impl Drop for Tidy {
    fn drop(&mut self) {
        for path in &self.0 {
            // The second file does not always exist.
            let _ = fs::remove_file(path);
        }
    }
}

fn with_import(candidate: &Candidate, import: &Path) -> Result<String, toml_edit::TomlError> {
    if candidate.import.is_none() {
        return Ok(candidate.text.clone());
    }
    let mut document: DocumentMut = candidate.text.parse()?;
    let imports = document.entry("imports").or_insert(value(toml_edit::Array::new()));
    if let Some(imports) = imports.as_array_mut() {
        imports.push(import.display().to_string());
    }
    Ok(document.to_string())
}

/// Returns the program of a running containerd, which is found by its name.
fn running() -> Option<PathBuf> {
    let processes = fs::read_dir("/proc").ok()?.flatten().map(|it| it.path());
    let is_it = |it: &PathBuf| {
        fs::read_to_string(it.join("comm")).is_ok_and(|name| name.trim() == "containerd")
    };
    processes.filter(is_it).find_map(|it| fs::read_link(it.join("exe")).ok())
}
