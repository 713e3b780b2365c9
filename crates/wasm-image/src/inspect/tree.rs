//! The files of an image: its layers on each other, as containerd applies them (OCI image specification, "Image Layer
//! Filesystem Changeset"; containerd's package `archive`).
//!
//! Of a file, only where it is in which layer is kept; its bytes are read when they are asked for.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rule::{Found, HEAD_BYTES, Head};
use tar::EntryType;

use super::layers::Layer;
use crate::errors::within;
use crate::limits;

/// Where a file's bytes are.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// The path that was looked at.
    pub path: PathBuf,
    /// Which layer, counted from below.
    layer: usize,
    /// Which of its entries.
    entry: usize,
    /// Its size in bytes.
    pub size: u64,
    /// Whether anybody may execute it.
    pub is_executable: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Folder,
    File(File),
    Link(PathBuf),
    Other(&'static str),
}

/// What is at a path, and which layer put it there.
#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    layer: usize,
}

/// The tree of a root file system.
#[derive(Debug, Default)]
pub struct Tree {
    /// By absolute path; all but the last name of each are folders.
    nodes: BTreeMap<PathBuf, Node>,
    layers: Vec<Layer>,
}

impl Tree {
    /// Applies layers, the lowest first.
    pub fn of(layers: Vec<Layer>) -> Result<Self> {
        let mut tree = Self { layers, ..Self::default() };
        let mut left = limits::UNPACKED_BYTES;
        let mut count = 0;
        for layer in 0..tree.layers.len() {
            let opened = tree.layers[layer].open(left)?;
            let title = opened.title.clone();
            let cannot_read = || format!("cannot read {title}");
            left =
                opened.read(|tar| tree.apply(tar, layer, &mut count).with_context(cannot_read))?;
        }
        Ok(tree)
    }

    fn apply(&mut self, tar: &mut dyn Read, layer: usize, count: &mut usize) -> Result<()> {
        for (entry, found) in tar::Archive::new(tar).entries()?.enumerate() {
            *count += 1;
            within(limits::ENTRIES as u64, || "its list of entries".into(), *count as u64)?;
            let found = found?;
            let path = found.path()?.into_owned();
            let Some((folder, name)) = self.parent(&path) else { continue };
            match whiteout(&name) {
                Some(Whiteout::Folder) => self.remove(&folder, layer, false),
                Some(Whiteout::Name(name)) => self.remove(&folder.join(name), layer, true),
                Some(Whiteout::Nothing) => {}
                None => self.add(folder.join(name), &found, layer, entry)?,
            }
        }
        Ok(())
    }

    /// The folder that an entry is put into, without links, and its name there; none for the root itself.
    fn parent(&mut self, path: &Path) -> Option<(PathBuf, PathBuf)> {
        let plain: PathBuf = plain(path);
        let (name, folder) = (plain.file_name()?, plain.parent()?);
        let folder = rule::without_links(folder, |path| self.link(path)).ok()?;
        Some((folder, name.into()))
    }

    fn link(&self, path: &Path) -> Result<Option<PathBuf>, std::convert::Infallible> {
        Ok(match self.nodes.get(path).map(|node| &node.kind) {
            Some(Kind::Link(target)) => Some(target.clone()),
            _ => None,
        })
    }

    fn add(
        &mut self,
        path: PathBuf,
        entry: &tar::Entry<'_, impl Read>,
        layer: usize,
        count: usize,
    ) -> Result<()> {
        let header = entry.header();
        let is_executable = header.mode()? & 0o111 != 0;
        let place = path.clone();
        let file = File { path: place, layer, entry: count, size: entry.size(), is_executable };
        let target = || entry.link_name().map(|it| it.unwrap_or_default().into_owned());
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File(file),
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => Kind::Link(target()?),
            EntryType::Link => match self.linked(&target()?) {
                Some(kind) => kind,
                None => bail!("/{} is a hard link to what is not there", plain(&path).display()),
            },
            EntryType::Fifo => Kind::Other("a fifo"),
            EntryType::Char | EntryType::Block => Kind::Other("a device"),
            _ => return Ok(()),
        };
        let both_folders = kind == Kind::Folder
            && self.nodes.get(&path).is_some_and(|node| node.kind == Kind::Folder);
        if !both_folders {
            self.remove(&path, usize::MAX, true);
        }
        for above in path.ancestors().skip(1) {
            let node = self.nodes.get(above);
            if node.is_none_or(|node| node.kind != Kind::Folder) {
                self.nodes.insert(above.to_owned(), Node { kind: Kind::Folder, layer });
            }
        }
        self.nodes.insert(path, Node { kind, layer });
        Ok(())
    }

    /// What a hard link is one of.
    fn linked(&mut self, target: &Path) -> Option<Kind> {
        let (folder, name) = self.parent(target)?;
        self.nodes.get(&folder.join(name)).map(|node| node.kind.clone())
    }

    /// Takes away what layers below `layer` have below a path, and at it.
    fn remove(&mut self, path: &Path, layer: usize, itself: bool) {
        let below = self.nodes.range(path.to_owned()..).map(|(found, _)| found);
        let below = below.take_while(|found| found.starts_with(path));
        let is_gone = |found: &&PathBuf| {
            (itself || *found != path) && self.nodes.get(*found).is_some_and(|it| it.layer < layer)
        };
        let gone: Vec<PathBuf> = below.filter(is_gone).cloned().collect();
        // What the layer itself has in a folder keeps the folder.
        for path in gone.iter().rev() {
            let mut children = self.nodes.range(path.to_owned()..).skip(1).map(|(found, _)| found);
            if !children.next().is_some_and(|child| child.starts_with(path)) {
                self.nodes.remove(path);
            }
        }
    }

    /// What is at an absolute path of the container.
    pub fn look(&self, path: &Path) -> Found<File> {
        let Ok(real) = rule::without_links(path, |path| self.link(path)) else {
            return Found::Nothing;
        };
        let other = |found| Found::Other { path: path.to_owned(), found };
        match self.nodes.get(&real).map(|node| &node.kind) {
            Some(Kind::File(file)) => Found::File(File { path: path.to_owned(), ..file.clone() }),
            Some(Kind::Folder) => other("a directory"),
            Some(Kind::Other(found)) => other(found),
            Some(Kind::Link(_)) | None => Found::Nothing,
        }
    }

    /// How a file begins.
    pub fn head(&self, file: &File) -> Result<Head> {
        Ok(Head { bytes: self.bytes(file, HEAD_BYTES as u64)?, size: file.size })
    }

    /// The first bytes of a file.
    pub fn bytes(&self, file: &File, limit: u64) -> Result<Vec<u8>> {
        let opened = self.layers[file.layer].open(limits::UNPACKED_BYTES)?;
        let mut bytes = Vec::new();
        opened.read(|tar| {
            let mut archive = tar::Archive::new(tar);
            let found = archive.entries()?.nth(file.entry).context("the layer has changed")?;
            found?.take(limit).read_to_end(&mut bytes)?;
            Ok(())
        })?;
        Ok(bytes)
    }
}

/// A path below the root, absolute and with nothing but names.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            std::path::Component::Normal(name) => plain.push(name),
            std::path::Component::ParentDir => drop(plain.pop()),
            _ => {}
        }
    }
    plain
}

/// What an entry takes away.
enum Whiteout {
    /// All that is in its folder.
    Folder,
    /// What is of that name.
    Name(PathBuf),
    /// Nothing: it is another program's own.
    Nothing,
}

/// Whether an entry takes something away, by its name ("Whiteouts").
fn whiteout(name: &Path) -> Option<Whiteout> {
    let hidden = name.to_str()?.strip_prefix(".wh.")?;
    Some(match hidden {
        ".wh..opq" => Whiteout::Folder,
        // These would be the folder itself or the one around it, which no whiteout can name.
        "" | "." | ".." => Whiteout::Nothing,
        _ if hidden.starts_with(".wh.") => Whiteout::Nothing,
        hidden => Whiteout::Name(OsStr::new(hidden).into()),
    })
}

#[cfg(test)]
mod tests;
