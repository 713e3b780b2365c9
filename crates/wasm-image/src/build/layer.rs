//! Packs a root file system as one tar layer. The same files give the same bytes.
//!
//! Entries are sorted, belong to root, and have the time of the epoch. Of the permissions, only "executable", "runs as
//! its owner" and a directory's sticky bit are kept, because the rest depends on the umask of the machine that builds.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tar::{Builder, EntryType, Header};

use crate::args::FileCopy;
use crate::errors::unreadable;

/// The content of the layer, by path in the image.
type Tree = BTreeMap<PathBuf, Entry>;

#[derive(Debug, PartialEq)]
enum Entry {
    Directory { mode: u32 },
    File { source: PathBuf, mode: u32 },
    Link { target: PathBuf },
}

/// Returns a tar layer with all of `rootfs` and the `files`. The `files` replace those of `rootfs`.
pub fn pack(rootfs: Option<&Path>, files: &[FileCopy]) -> Result<Vec<u8>> {
    tar(&tree(rootfs, files)?)
}

/// Returns the files of that layer: their paths in the image, without the leading slash, and their paths on this
/// machine.
pub fn files(rootfs: Option<&Path>, files: &[FileCopy]) -> Result<Vec<(PathBuf, PathBuf)>> {
    let file = |(path, entry)| match entry {
        Entry::File { source, .. } => Some((path, source)),
        Entry::Directory { .. } | Entry::Link { .. } => None,
    };
    Ok(tree(rootfs, files)?.into_iter().filter_map(file).collect())
}

fn tree(rootfs: Option<&Path>, files: &[FileCopy]) -> Result<Tree> {
    let mut tree = Tree::new();
    if let Some(rootfs) = rootfs {
        walk(rootfs, Path::new(""), &mut tree)?;
    }
    for copy in files {
        copy_in(copy, &mut tree)?;
    }
    Ok(tree)
}

/// Adds the content of `root/below` to the tree.
fn walk(root: &Path, below: &Path, tree: &mut Tree) -> Result<()> {
    let directory = root.join(below);
    let cannot_read = |error| unreadable(&directory, error);
    for entry in fs::read_dir(&directory).map_err(cannot_read)? {
        let path = below.join(entry.map_err(cannot_read)?.file_name());
        let found = look_at(&root.join(&path))?;
        let is_folder = matches!(found, Entry::Directory { .. });
        tree.insert(path.clone(), found);
        if is_folder {
            walk(root, &path, tree)?;
        }
    }
    Ok(())
}

/// Adds one file and its parent directories.
fn copy_in(copy: &FileCopy, tree: &mut Tree) -> Result<()> {
    let source = fs::canonicalize(&copy.source).map_err(|error| unreadable(&copy.source, error))?;
    let found = look_at(&source)?;
    if !matches!(found, Entry::File { .. }) {
        bail!("{} is not a file: use --rootfs for a directory", copy.source.display());
    }
    for parent in copy.destination.ancestors().skip(1).filter(|it| *it != Path::new("")) {
        let directory = tree.entry(parent.into()).or_insert(Entry::Directory { mode: 0o755 });
        if !matches!(directory, Entry::Directory { .. }) {
            bail!(
                "/{} cannot lie in /{}, which is not a directory",
                copy.destination.display(),
                parent.display()
            );
        }
    }
    tree.insert(copy.destination.clone(), found);
    Ok(())
}

/// Returns what exists at a path, without following a link.
fn look_at(path: &Path) -> Result<Entry> {
    let cannot_read = |error| unreadable(path, error);
    let meta = fs::symlink_metadata(path).map_err(cannot_read)?;
    let mode = meta.permissions().mode();
    if meta.is_symlink() {
        Ok(Entry::Link { target: fs::read_link(path).map_err(cannot_read)? })
    } else if meta.is_dir() {
        Ok(Entry::Directory { mode: if mode & 0o1000 == 0 { 0o755 } else { 0o1777 } })
    } else if meta.is_file() {
        let mode = if mode & 0o100 == 0 { 0o644 } else { 0o755 | mode & 0o4000 };
        Ok(Entry::File { source: path.into(), mode })
    } else {
        bail!("{} is neither a file nor a directory nor a symbolic link", path.display())
    }
}

fn tar(tree: &Tree) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for (path, entry) in tree {
        append(&mut tar, path, entry)
            .with_context(|| format!("cannot add /{} to the layer", path.display()))?;
    }
    Ok(tar.into_inner()?)
}

fn append(tar: &mut Builder<Vec<u8>>, path: &Path, entry: &Entry) -> Result<()> {
    match entry {
        Entry::Directory { mode } => {
            let mut header = header(EntryType::Directory, *mode, 0);
            tar.append_data(&mut header, path, std::io::empty())?;
        }
        Entry::File { source, mode } => {
            let bytes = crate::read(source)?;
            let mut header = header(EntryType::Regular, *mode, bytes.len());
            tar.append_data(&mut header, path, bytes.as_slice())?;
        }
        Entry::Link { target } => {
            let mut header = header(EntryType::Symlink, 0o777, 0);
            tar.append_link(&mut header, path, target)?;
        }
    }
    Ok(())
}

fn header(kind: EntryType, mode: u32, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size as u64);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// Returns path, kind and mode of each entry.
    fn listed(layer: &[u8]) -> Vec<(String, EntryType, u32)> {
        let describe = |entry: std::io::Result<tar::Entry<&[u8]>>| {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.mtime().unwrap(), header.uid().unwrap()), (0, 0));
            let path = entry.path().unwrap().display().to_string();
            (path, header.entry_type(), header.mode().unwrap())
        };
        tar::Archive::new(layer).entries().unwrap().map(describe).collect()
    }

    #[test]
    fn a_rootfs_keeps_links_sticky_folders_executables_and_setuid() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        fs::create_dir(at("bin")).unwrap();
        fs::create_dir(at("tmp")).unwrap();
        fs::set_permissions(at("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::write(at("bin/tool"), "x").unwrap();
        fs::set_permissions(at("bin/tool"), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(at("bin/su"), "x").unwrap();
        fs::set_permissions(at("bin/su"), fs::Permissions::from_mode(0o4700)).unwrap();
        symlink("tool", at("bin/sh")).unwrap();
        let expected = [
            ("bin".to_owned(), EntryType::Directory, 0o755),
            ("bin/sh".to_owned(), EntryType::Symlink, 0o777),
            ("bin/su".to_owned(), EntryType::Regular, 0o4755),
            ("bin/tool".to_owned(), EntryType::Regular, 0o755),
            ("tmp".to_owned(), EntryType::Directory, 0o1777),
        ];
        assert_eq!(listed(&pack(Some(dir.path()), &[]).unwrap()), expected);
    }

    #[test]
    fn a_file_brings_its_folders() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("app.wasm");
        fs::write(&source, "x").unwrap();
        let copy = FileCopy { source, destination: "a/b/app.wasm".into() };
        let paths: Vec<_> =
            listed(&pack(None, &[copy]).unwrap()).into_iter().map(|it| it.0).collect();
        assert_eq!(paths, ["a", "a/b", "a/b/app.wasm"]);
    }

    #[test]
    fn a_folder_is_not_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let copy = FileCopy { source: dir.path().into(), destination: "app".into() };
        let error = pack(None, &[copy]).unwrap_err();
        assert!(error.to_string().contains("use --rootfs"), "{error}");
    }

    #[test]
    fn a_file_cannot_lie_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("x");
        fs::write(&source, "x").unwrap();
        let copies =
            ["a", "a/b"].map(|to| FileCopy { source: source.clone(), destination: to.into() });
        let error = pack(None, &copies).unwrap_err();
        assert!(error.to_string().contains("not a directory"), "{error}");
    }
}
