//! The node's containerd: its version, what it thinks of a configuration, and what it serves.

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

/// containerd's program.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
}

impl Program {
    /// The one that is named, or else the distribution's, or else the one that runs.
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

    /// Its version.
    pub fn version(&self) -> Result<Version, Error> {
        let line = run::output(&self.path, &["--version"]);
        let version = line.ok().and_then(|line| Version::of_output(&line));
        version.ok_or_else(|| Error::NoContainerd { looked: self.path.display().to_string() })
    }

    /// Has it read what it would read, and makes sure that it would have the handler and lose none.
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

    /// The handlers in a configuration with all that it imports.
    fn runtimes(&self, config: &Path) -> Result<Vec<(String, String)>, String> {
        let args = ["--config".as_ref(), config.as_os_str(), "config".as_ref(), "dump".as_ref()];
        let text = run::output(&self.path, &args)?;
        config::runtimes(&text).map_err(|error| error.to_string())
    }
}

/// Deletes files that nothing but a check needs.
struct Tidy([PathBuf; 2]);

impl Drop for Tidy {
    fn drop(&mut self) {
        for path in &self.0 {
            // The second is not always there.
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

/// The program of a containerd that runs, by its name.
fn running() -> Option<PathBuf> {
    let processes = fs::read_dir("/proc").ok()?.flatten().map(|it| it.path());
    let is_it = |it: &PathBuf| {
        fs::read_to_string(it.join("comm")).is_ok_and(|name| name.trim() == "containerd")
    };
    processes.filter(is_it).find_map(|it| fs::read_link(it.join("exe")).ok())
}
