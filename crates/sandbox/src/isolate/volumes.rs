//! Volumes: the mounts of a spec (OCI runtime spec, "Mounts").
//!
//! The process that makes the container opens them, because it may read any path of the host. It opens detached copies of
//! mounts, each with its own attributes and propagation. If the kernel has no detached mounts (before 5.12), the path itself is
//! mounted later (`mounts`).

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use oci_spec::runtime::{LinuxIdMapping, Mount};

use super::errors::{Failed, Step};
use super::options::{Options, Word};
use super::table;
use super::users::Maps;
use crate::syscalls;

/// A mount in the container.
#[derive(Debug)]
pub struct Volume {
    /// Path in the container.
    pub at: PathBuf,
    /// Path on the host, or name of a file system.
    pub from: PathBuf,
    /// Kind of mount.
    pub what: What,
    /// Its options.
    pub options: Options,
    users: Vec<LinuxIdMapping>,
    groups: Vec<LinuxIdMapping>,
}

/// Kind of mount.
#[derive(Debug)]
pub enum What {
    /// A directory or file of the host.
    Path {
        /// Detached copy of its mount, if the kernel has those.
        tree: Option<OwnedFd>,
        /// Whether it is a directory.
        is_directory: bool,
    },
    /// A file system of that type.
    FileSystem(String),
}

impl Volume {
    /// Opens a mount of the spec. `of_root` is the propagation type that it has before its own options.
    pub fn open(mount: &Mount, label: Option<&str>, of_root: MsFlags) -> Result<Volume, Failed> {
        let at = mount.destination().clone();
        let from = mount.source().clone().unwrap_or_else(|| "none".into());
        let failed = || Step::Mount(at.clone(), from.clone());
        let kind = mount.typ().as_deref().unwrap_or_default();
        let options = Options::parse(mount.options().as_deref().unwrap_or_default());
        let mut volume = Volume {
            what: What::FileSystem(kind.to_owned()),
            users: mount.uid_mappings().clone().unwrap_or_default(),
            groups: mount.gid_mappings().clone().unwrap_or_default(),
            at: at.clone(),
            from: from.clone(),
            options,
        };
        if kind == "bind" || volume.options.is_bind() {
            volume.what = volume.tree(of_root).map_err(Failed::at(failed()))?;
        } else if let Some(label) = label {
            volume.options.data.push(format!("context=\"{label}\""));
        }
        if volume.options.has(Word::CopyUp) && kind != "tmpfs" {
            return Err(Failed::new(failed(), "its option tmpcopyup takes a tmpfs"));
        }
        if volume.has_ids() && !matches!(volume.what, What::Path { tree: Some(_), .. }) {
            let reason = "its ids cannot be mapped: this takes a path, and Linux 5.12";
            return Err(Failed::new(failed(), reason));
        }
        Ok(volume)
    }

    fn tree(&self, of_root: MsFlags) -> std::io::Result<What> {
        let is_directory = fs::metadata(&self.from)?.is_dir();
        if !table::has_mounts_by_descriptor() {
            return Ok(What::Path { tree: None, is_directory });
        }
        let tree = syscalls::open_tree(&self.from, self.options.is_recursive())?;
        for (recursive, attributes) in self.options.attributes(of_root) {
            syscalls::set_attributes(tree.as_fd(), recursive, &attributes)?;
        }
        Ok(What::Path { tree: Some(tree), is_directory })
    }

    /// Whether its files get other owners than on the disk.
    fn has_ids(&self) -> bool {
        !self.users.is_empty() || !self.groups.is_empty()
    }

    /// Maps the owners of its files, if the spec says so. `container` is the container's own user namespace, with its ids.
    pub fn map_ids(&self, container: Option<(Maps<'_>, &OwnedFd)>) -> Result<(), Failed> {
        let What::Path { tree: Some(tree), .. } = &self.what else { return Ok(()) };
        if !self.has_ids() {
            return Ok(());
        }
        let wanted = Maps { users: &self.users, groups: &self.groups };
        let own = container.filter(|(maps, _)| *maps == wanted);
        let made = if own.is_none() { Some(wanted.namespace()?) } else { None };
        let Some(namespace) = own.map(|(_, namespace)| namespace).or(made.as_ref()) else {
            return Ok(());
        };
        let attributes = syscalls::Attributes {
            attr_set: libc::MOUNT_ATTR_IDMAP,
            userns_fd: namespace.as_raw_fd() as u64,
            ..syscalls::UNCHANGED
        };
        let recursive = self.options.has(Word::IdMapRecursive);
        let mapped = syscalls::set_attributes(tree.as_fd(), recursive, &attributes);
        mapped.map_err(Failed::at(Step::Mount(self.at.clone(), self.from.clone())))
    }

    /// Whether later mounts of the host below it appear in the container. Those are not `nodev`.
    pub fn receives_mounts(&self) -> bool {
        self.options.propagation().0.intersects(MsFlags::MS_SLAVE | MsFlags::MS_SHARED)
    }

    /// Whether it is `/dev`, as a file system of the container's own.
    pub fn is_dev(&self) -> bool {
        self.at == Path::new("/dev") && matches!(self.what, What::FileSystem(_))
    }

    /// Flags of mount(2). They include `nodev`, except for `/dev`, in which this runtime makes the device nodes.
    pub fn flags(&self) -> MsFlags {
        let flags = self.options.flags();
        if self.is_dev() { flags } else { flags | MsFlags::MS_NODEV }
    }

    /// Whether it becomes read-only only after files are written to it.
    pub fn is_read_only_later(&self) -> bool {
        let is_written = self.is_dev() || self.options.has(Word::CopyUp);
        is_written && self.options.flags().contains(MsFlags::MS_RDONLY)
    }
}
