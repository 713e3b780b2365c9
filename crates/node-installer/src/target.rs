//! The files of an installation, and how each differs from the present one.

use std::path::{Path, PathBuf};

use anyhow::Result;
use similar::TextDiff;

use crate::args::Install;
use crate::config::{self, Candidate, Handler};
use crate::environment;
use crate::errors::Error;
use crate::files::Attributes;
use crate::node::Node;
use crate::record::{Record, digest};
use crate::shim::{self, Identity, Shim};
use crate::tree::Tree;

/// Permissions of programs, and of configuration files.
const PROGRAM: u32 = 0o755;
const TEXT: u32 = 0o644;

/// A file to write.
#[derive(Debug)]
pub struct Target {
    /// Path on the node.
    pub path: PathBuf,
    /// The whole content.
    pub bytes: Vec<u8>,
    /// Permissions, if the file does not exist yet.
    pub mode: u32,
    /// Whether the whole file is ours.
    pub is_ours: bool,
}

/// Everything that an installation must change.
#[derive(Debug)]
pub struct Targets {
    /// Path of the shim.
    pub binary: PathBuf,
    /// Files to change. The shim comes first, because the configuration names it.
    pub files: Vec<Target>,
    /// Configuration that containerd must accept before.
    pub candidate: Option<Candidate>,
}

impl Targets {
    /// Plans the changes.
    pub fn of(
        node: &Node,
        options: &Install,
        shim: &Shim,
        record: Option<&Record>,
    ) -> Result<Self, Error> {
        let binary = binary(node, options, record)?;
        refuse_others(&node.tree, &binary, options.replace, record)?;
        let mut files = Vec::new();
        if node.tree.bytes(&binary)?.is_none_or(|there| there != shim.bytes) {
            let bytes = shim.bytes.clone();
            files.push(Target { path: binary.clone(), bytes, mode: PROGRAM, is_ours: true });
        }
        let path_is_type = !node.version.heeds_runtime_path();
        let handler = Handler { binary: binary.clone(), path_is_type, replace: options.replace };
        let plan = config::plan(&node.tree, &node.layout, &node.version, &handler)?;
        for edit in plan.edits {
            files.push(Target {
                path: edit.path,
                bytes: edit.text.into(),
                mode: TEXT,
                is_ours: edit.is_ours,
            });
        }
        files.extend(variables(node, options, record)?);
        Ok(Self { binary, files, candidate: plan.candidate })
    }

    /// Returns the changes in the format of `diff --unified`.
    pub fn diff(&self, tree: &Tree) -> Result<String, Error> {
        let mut text = String::new();
        for file in &self.files {
            let before = tree.bytes(&file.path)?;
            text += &file.diff(before.as_deref());
        }
        Ok(text)
    }
}

impl Target {
    fn diff(&self, before: Option<&[u8]>) -> String {
        let path = self.path.display();
        let old = before.map_or("/dev/null".to_owned(), |_| path.to_string());
        let texts =
            (std::str::from_utf8(before.unwrap_or_default()), std::str::from_utf8(&self.bytes));
        if self.mode == PROGRAM {
            return format!("--- {old}\n+++ {path}\n  (the shim, {} bytes)\n", self.bytes.len());
        }
        let (Ok(before), Ok(after)) = texts else { return format!("--- {old}\n+++ {path}\n") };
        TextDiff::from_lines(before, after)
            .unified_diff()
            .header(&old, &path.to_string())
            .to_string()
    }

    /// Returns the attributes of the new file: those of the file that it replaces, otherwise those of a new file.
    pub fn attributes(&self, tree: &Tree) -> Attributes {
        let selinux = tree.exists(Path::new("/sys/fs/selinux/enforce"));
        let label = (selinux && self.mode == PROGRAM).then(|| shim::LABEL.to_owned());
        match Attributes::of(&tree.at(&self.path)) {
            Ok(there) if self.mode == PROGRAM => {
                Attributes { label: there.label.or(label), ..Attributes::new(self.mode, None) }
            }
            Ok(there) => there,
            Err(_) => Attributes::new(self.mode, label),
        }
    }
}

/// Returns the path of the shim: where it is installed, or where it can be installed.
fn binary(node: &Node, options: &Install, record: Option<&Record>) -> Result<PathBuf, Error> {
    if let Some(dir) = &options.bin_dir {
        return Ok(shim::directory(&node.tree, std::slice::from_ref(dir))?.join(shim::NAME));
    }
    let is_shim = |path: &&PathBuf| path.file_name().is_some_and(|name| name == shim::NAME);
    let recorded = record.and_then(|it| it.changes.iter().map(|it| &it.path).find(is_shim));
    match recorded {
        Some(path) => Ok(path.clone()),
        None => Ok(shim::directory(&node.tree, &node.layout.bin_dirs)?.join(shim::NAME)),
    }
}

fn refuse_others(
    tree: &Tree,
    binary: &Path,
    replace: bool,
    record: Option<&Record>,
) -> Result<(), Error> {
    let Some(there) = tree.bytes(binary)? else { return Ok(()) };
    let found = digest(&there);
    let is_written = |it: &crate::record::Change| it.path == binary && it.after == found;
    if replace || record.is_some_and(|it| it.changes.iter().any(is_written)) {
        return Ok(());
    }
    let version = match shim::identify(&tree.at(binary)) {
        Some(Identity::Ours(_)) => return Ok(()),
        Some(Identity::Others(words)) => words,
        None => "it cannot be executed".into(),
    };
    Err(Error::ForeignShim { path: binary.to_owned(), version, owner: shim::owner(tree, binary) })
}

/// Returns the file with the variables. Variables of an earlier installation are removed from it.
fn variables(
    node: &Node,
    options: &Install,
    record: Option<&Record>,
) -> Result<Option<Target>, Error> {
    let plan = environment::plan(&node.tree, &node.layout, &options.variables)?;
    let Some((path, text, is_ours)) = plan else {
        return match options.variables.is_empty() {
            true => Ok(None),
            false => Err(Error::NoVariables { distribution: node.layout.distribution.to_string() }),
        };
    };
    let were_set = record.is_some_and(|it| it.changes.iter().any(|change| change.path == path));
    if options.variables.is_empty() && !were_set {
        return Ok(None);
    }
    let is_there = node.tree.text(&path)?.is_some_and(|found| found == text);
    Ok((!is_there).then(|| Target { path, bytes: text.into(), mode: TEXT, is_ours }))
}
