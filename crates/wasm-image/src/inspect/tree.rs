//! The files of an image. Its layers are applied to each other as containerd does (OCI image specification, "Image
//! Layer Filesystem Changeset"; containerd's package `archive`).
//!
//! containerd unpacks each layer into a directory of its own, and overlayfs combines them. So a link of a lower layer
//! does not redirect an entry, and an entry cannot be a hard link to a file of a lower layer.
//!
//! For each file, the tree only keeps its layer and position. The bytes are read when they are needed.

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

/// Position of a file's bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// The path that was looked up.
    pub path: PathBuf,
    /// Index of the layer, counted from the lowest.
    layer: usize,
    /// Index of the entry in the layer.
    entry: usize,
    /// Its size in bytes.
    pub size: u64,
    /// Whether any user may execute it.
    pub is_executable: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Directory,
    File(File),
    Link(PathBuf),
    Other(&'static str),
}

/// What exists at a path, and the layer that put it there.
#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    layer: usize,
}

/// The tree of a root file system.
#[derive(Debug, Default)]
pub struct Tree {
    /// Nodes by absolute path. All parents of a node are directories.
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
            let Some((directory, name)) = self.parent(&path, layer) else { continue };
            match whiteout(&name) {
                Some(Whiteout::Directory) => self.remove(&directory, layer, false),
                Some(Whiteout::Name(name)) => self.remove(&directory.join(name), layer, true),
                Some(Whiteout::Nothing) => {}
                None => self.add(directory.join(name), &found, layer, entry)?,
            }
        }
        Ok(())
    }

    /// Returns the directory, without links, into which an entry of a layer is put, and the resulting path. Returns
    /// `None` for the root itself.
    fn parent(&self, path: &Path, layer: usize) -> Option<(PathBuf, PathBuf)> {
        let plain: PathBuf = plain(path);
        let (name, directory) = (plain.file_name()?, plain.parent()?);
        let own = |path: &Path| match self.nodes.get(path) {
            Some(node) if node.layer == layer => self.link(path),
            _ => Ok(None),
        };
        Some((rule::without_links(directory, own).ok()?, name.into()))
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
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Link(target()?),
            EntryType::Link => match self.linked(&target()?, layer) {
                Some(kind) => kind,
                None => bail!("{} is a hard link to what its layer does not have", path.display()),
            },
            EntryType::Fifo => Kind::Other("a fifo"),
            EntryType::Char | EntryType::Block => Kind::Other("a device"),
            _ => return Ok(()),
        };
        let both_folders = kind == Kind::Directory
            && self.nodes.get(&path).is_some_and(|node| node.kind == Kind::Directory);
        if !both_folders {
            self.remove(&path, usize::MAX, true);
        }
        for above in path.ancestors().skip(1) {
            let node = self.nodes.get(above);
            if node.is_none_or(|node| node.kind != Kind::Directory) {
                self.nodes.insert(above.to_owned(), Node { kind: Kind::Directory, layer });
            }
        }
        self.nodes.insert(path, Node { kind, layer });
        Ok(())
    }

    /// Returns what a hard link of a layer links to.
    fn linked(&self, target: &Path, layer: usize) -> Option<Kind> {
        let (directory, name) = self.parent(target, layer)?;
        let node = self.nodes.get(&directory.join(name)).filter(|node| node.layer == layer);
        node.map(|node| node.kind.clone())
    }

    /// Removes what layers below `layer` have below a path, and if `itself` is true also the path itself.
    fn remove(&mut self, path: &Path, layer: usize, itself: bool) {
        let below = self.nodes.range(path.to_owned()..).map(|(found, _)| found);
        let below = below.take_while(|found| found.starts_with(path));
        let is_gone = |found: &&PathBuf| {
            (itself || *found != path) && self.nodes.get(*found).is_some_and(|it| it.layer < layer)
        };
        let gone: Vec<PathBuf> = below.filter(is_gone).cloned().collect();
        // A directory stays if the layer itself has something in it.
        for path in gone.iter().rev() {
            let mut children = self.nodes.range(path.to_owned()..).skip(1).map(|(found, _)| found);
            if !children.next().is_some_and(|child| child.starts_with(path)) {
                self.nodes.remove(path);
            }
        }
    }

    /// Returns what exists at an absolute path of the container.
    pub fn look(&self, path: &Path) -> Found<File> {
        let Ok(real) = rule::without_links(path, |path| self.link(path)) else {
            return Found::Nothing;
        };
        let other = |found| Found::Other { path: path.to_owned(), found };
        match self.nodes.get(&real).map(|node| &node.kind) {
            Some(Kind::File(file)) => Found::File(File { path: path.to_owned(), ..file.clone() }),
            Some(Kind::Directory) => other("a directory"),
            Some(Kind::Other(found)) => other(found),
            Some(Kind::Link(_)) | None => Found::Nothing,
        }
    }

    /// Returns the beginning of a file.
    pub fn head(&self, file: &File) -> Result<Head> {
        Ok(Head { bytes: self.bytes(file, HEAD_BYTES as u64)?, size: file.size })
    }

    /// Returns the first bytes of a file.
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

/// Returns an absolute path below the root that consists of names only.
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

/// What a whiteout entry removes.
enum Whiteout {
    /// Everything in its directory.
    Directory,
    /// The path of that name.
    Name(PathBuf),
    /// Nothing, because the name belongs to another program.
    Nothing,
}

/// Returns what an entry removes, by its name ("Whiteouts"). Returns `None` if it is not a whiteout.
fn whiteout(name: &Path) -> Option<Whiteout> {
    let hidden = name.to_str()?.strip_prefix(".wh.")?;
    Some(match hidden {
        ".wh..opq" => Whiteout::Directory,
        // These names would be the directory itself or its parent, which no whiteout can name.
        "" | "." | ".." => Whiteout::Nothing,
        _ if hidden.starts_with(".wh.") => Whiteout::Nothing,
        hidden => Whiteout::Name(OsStr::new(hidden).into()),
    })
}

#[cfg(test)]
mod tests;
