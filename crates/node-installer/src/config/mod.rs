//! Turns containerd's present configuration into the new one, as text.
//!
//! - [`block`]: the part of a file that the installer adds;
//! - [`document`]: one file, and the handler in it;
//! - [`rancher`]: the templates and drop-ins of k3s and RKE2;
//! - this file: decides which files have to change. Nothing here writes.

mod block;
mod document;
mod rancher;

use std::path::{Path, PathBuf};

use toml_edit::DocumentMut;

use crate::distribution::{HandlerLocation, Layout};
use crate::errors::Error;
use crate::tree::Tree;
use crate::version::Version;
use document::{Document, Schema};

pub use document::HANDLER;

/// Name of our drop-in. containerd reads it after those of distributions, which begin with 0, and before 99-….
const DROP_IN: &str = "10-wasmtime-shim.toml";

/// k0s' directory of drop-ins, and its own file.
const K0S_DROP_INS: &str = "/etc/k0s/containerd.d";
const K0S_CONFIG: &str = "/etc/k0s/containerd.toml";
const K0S_MANAGED: &str = "k0s_managed=true";

/// The handler that containerd should have.
#[derive(Debug, Clone)]
pub struct Handler {
    /// Path of the shim.
    pub binary: PathBuf,
    /// Whether the path is written as the type, which containerd 1.6 needs.
    pub path_is_type: bool,
    /// Whether a handler of another shim may be replaced.
    pub replace: bool,
}

/// A file and its new text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// Path of the file.
    pub path: PathBuf,
    /// The whole new text.
    pub text: String,
    /// Whether the whole file is ours.
    pub is_ours: bool,
}

/// A configuration that containerd must accept before anything is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The file that containerd reads.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// A file that it also imports.
    pub import: Option<String>,
}

/// The changes for the handler, and the configuration that containerd would then read, if that is known.
#[derive(Debug, Default)]
pub struct Plan {
    /// Files to change. Empty if nothing has to change.
    pub edits: Vec<Edit>,
    /// The configuration that containerd would read.
    pub candidate: Option<Candidate>,
}

/// Decides which files must change so that containerd has the handler.
pub fn plan(
    tree: &Tree,
    layout: &Layout,
    version: &Version,
    handler: &Handler,
) -> Result<Plan, Error> {
    match &layout.location {
        HandlerLocation::File(path) => of_file(tree, path, version, handler),
        HandlerLocation::Rancher(dir) => rancher::plan(tree, dir, version, handler),
        HandlerLocation::K0s => of_k0s(tree, version, handler),
    }
}

/// Returns a text without the part that the installer added.
pub fn without_our_part(text: &str) -> String {
    block::without(text)
}

/// Returns a text without the handler, if `before` had none. This is for files that somebody has changed after the
/// installer did.
pub fn without_handler(path: &Path, text: &str, before: Option<&str>) -> Result<String, Error> {
    if block::is_in(text) {
        return Ok(block::without(text));
    }
    let is_template = path.extension().is_some_and(|it| it == "tmpl");
    let was_there = match before {
        Some(before) if !is_template => Document::parse(path, before)?.handler().is_some(),
        _ => false,
    };
    if is_template || was_there {
        Ok(text.to_owned())
    } else {
        Document::parse(path, text)?.without_handler()
    }
}

fn of_file(tree: &Tree, path: &Path, version: &Version, handler: &Handler) -> Result<Plan, Error> {
    let found = tree.text(path)?;
    let is_ours = found.is_none();
    let text = found.unwrap_or_else(|| format!("version = {}\n", version.config_version()));
    let main = Document::parse(path, &text)?;
    main.check()?;
    if version.merges_imports()
        && main.handler().is_none()
        && let Some(dir) = main.drop_in_dir()
    {
        let text = main.schema()?.drop_in(handler);
        return drop_in(tree, &dir.join(DROP_IN), text, Some(&main));
    }
    let imported = imports(tree, &main)?;
    // If imports replace sections, only the last file with the section counts.
    let last = match version.merges_imports() {
        true => None,
        false => imported.iter().rfind(|it| it.has_section()),
    };
    let document = last.unwrap_or(&main);
    let text = document.with_handler(handler, version.keeps_default_runtimes())?;
    let candidate = last.is_none().then(|| main.candidate(text.clone(), None));
    let is_there = !is_ours && text == document.text();
    let edit = Edit { path: document.path().to_owned(), text, is_ours };
    Ok(Plan { edits: if is_there { Vec::new() } else { vec![edit] }, candidate })
}

/// Plans a drop-in beside the file that imports it.
fn drop_in(tree: &Tree, path: &Path, text: String, main: Option<&Document>) -> Result<Plan, Error> {
    let is_there = tree.text(path)?.is_some_and(|found| found == text);
    let candidate = main.map(|main| main.candidate(main.text().to_owned(), Some(text.clone())));
    let edit = Edit { path: path.to_owned(), text, is_ours: true };
    Ok(Plan { edits: if is_there { Vec::new() } else { vec![edit] }, candidate })
}

/// k0s merges drop-ins into the plugin's section by itself. It writes its file anew at each start, unless the line that
/// says so was removed.
fn of_k0s(tree: &Tree, version: &Version, handler: &Handler) -> Result<Plan, Error> {
    let config = Path::new(K0S_CONFIG);
    let Some(text) = tree.text(config)? else {
        let schema = Schema { version: version.config_version() };
        return drop_in(
            tree,
            &Path::new(K0S_DROP_INS).join(DROP_IN),
            schema.drop_in(handler),
            None,
        );
    };
    if !text.contains(K0S_MANAGED) {
        return of_file(tree, config, version, handler);
    }
    let main = Document::parse(config, &text)?;
    let text = main.schema()?.drop_in(handler);
    // k0s merges the drop-in with a file that it generates, so containerd cannot check the result beforehand.
    drop_in(tree, &Path::new(K0S_DROP_INS).join(DROP_IN), text, None)
}

/// Returns the files that a configuration imports, without our own, in containerd's order.
fn imports(tree: &Tree, main: &Document) -> Result<Vec<Document>, Error> {
    let mut found = Vec::new();
    for path in main.imports().iter().flat_map(|pattern| tree.matching(pattern)) {
        let Some(text) = tree.text(&path)? else { continue };
        if path.file_name().is_none_or(|name| name != DROP_IN) {
            found.push(Document::parse(&path, &text)?);
        }
    }
    Ok(found)
}

/// Returns the runtimes with their types, from a configuration that containerd has completed.
pub fn runtimes(text: &str) -> Result<Vec<(String, String)>, toml_edit::TomlError> {
    let document: DocumentMut = text.parse()?;
    Ok(document::PLUGINS.iter().flat_map(|plugin| document::runtimes(&document, plugin)).collect())
}
