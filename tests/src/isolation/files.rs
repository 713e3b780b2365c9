//! The files that a container's processes see.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::stat::{major, minor};

/// File systems of the kernel, which a guest has not.
const KERNELS: [&str; 5] = ["/proc", "/sys", "/dev/pts", "/dev/mqueue", "/dev/ptmx"];

/// How deep the tree is looked at.
const DEPTH: usize = 8;

/// What is in a process's root, by path: kind, mode and owner, and where a link or a device leads.
pub fn below(pid: u32) -> BTreeMap<String, String> {
    let (root, mut found) = (format!("/proc/{pid}/root"), BTreeMap::new());
    walk(&root, "", DEPTH, &mut found);
    found
}

fn walk(root: &str, at: &str, depth: usize, found: &mut BTreeMap<String, String>) {
    let here = format!("{root}{at}/");
    for entry in fs::read_dir(&here).into_iter().flatten().flatten() {
        let at = format!("{at}/{}", entry.file_name().to_string_lossy());
        if KERNELS.contains(&at.as_str()) {
            continue;
        }
        found.insert(at.clone(), describe(&entry.path()));
        if depth > 1 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(root, &at, depth - 1, found);
        }
    }
}

fn describe(path: &Path) -> String {
    let Ok(metadata) = fs::symlink_metadata(path) else { return "not to be seen".into() };
    let kind = metadata.file_type();
    let (number, size) = (metadata.rdev(), metadata.size());
    let what = match () {
        _ if kind.is_dir() => "directory".into(),
        _ if kind.is_symlink() => {
            format!("link {}", fs::read_link(path).unwrap_or_default().display())
        }
        _ if kind.is_char_device() => format!("device {}:{}", major(number), minor(number)),
        _ if kind.is_file() => format!("file of {size}"),
        () => "other".into(),
    };
    format!("{what} {:o} {}:{}", metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
}
