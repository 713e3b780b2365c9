//! Roots whose files have other owners than on the disk, for containers in a user namespace. Instead of copying the
//! image, containerd asks for that by the options `uidmap=` and `gidmap=` of its overlay snapshotter (mount_setattr(2),
//! "ID-mapped mounts").

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::mount::{MsFlags, mount as mount_one};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::Mode;
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};

use super::layers::{LOWER_DIR, common_parent, lower_dirs};
use crate::isolate::users::Maps;
use crate::{Error, syscalls};

const NONE: Option<&str> = None;

/// Ids of the owners of a mount's files.
#[derive(Debug, PartialEq)]
pub struct Ids {
    users: Vec<LinuxIdMapping>,
    groups: Vec<LinuxIdMapping>,
}

impl Ids {
    /// Takes the ids out of a mount's options, if it has any.
    pub fn take(data: &mut Vec<String>) -> Result<Option<Ids>, Error> {
        let mut take = |name: &str| {
            let index = data.iter().position(|option| option.starts_with(name));
            index.map(|index| data.remove(index))
        };
        match (take("uidmap="), take("gidmap=")) {
            (None, None) => Ok(None),
            (Some(users), Some(groups)) => {
                Ok(Some(Ids { users: ranges(&users)?, groups: ranges(&groups)? }))
            }
            (Some(alone), None) | (None, Some(alone)) => {
                let reason = "uidmap= and gidmap= are allowed together only";
                Err(Error::IdMap { option: alone, reason })
            }
        }
    }

    fn namespace(&self) -> Result<OwnedFd, Error> {
        Ok(Maps { users: &self.users, groups: &self.groups }.namespace()?)
    }
}

/// Parses an option with ranges `CONTAINER:HOST:SIZE`, separated by commas.
fn ranges(option: &str) -> Result<Vec<LinuxIdMapping>, Error> {
    let reason = "allowed are ranges CONTAINER:HOST:SIZE with commas between them";
    let refused = || Error::IdMap { option: option.to_owned(), reason };
    let range = |text: &str| {
        let numbers: Vec<u32> = text.split(':').map_while(|it| it.parse().ok()).collect();
        let is_whole = numbers.len() == text.split(':').count();
        let [container, host, size] = numbers[..] else { return Err(refused()) };
        let range = LinuxIdMappingBuilder::default();
        let range = range.container_id(container).host_id(host).size(size).build();
        range.ok().filter(|_| is_whole).ok_or_else(refused)
    };
    let (_, ranges) = option.split_once('=').ok_or_else(refused)?;
    ranges.split(',').map(range).collect()
}

/// Maps the ids of what is mounted on `target`. A directory that belongs to the container on the disk already stays as it is:
/// containerd's overlay snapshotter makes one if an image has no layer with files, and asks for other ids all the same.
pub fn map(target: &Path, ids: &Ids) -> Result<(), Error> {
    let failed = || format!("map the ids of {}", target.display());
    let owner = fs::metadata(target).map_err(Error::io(failed()))?.uid();
    if is_mapped(owner, &ids.users) {
        return Ok(());
    }
    let namespace = ids.namespace()?;
    let tree = syscalls::open_tree(target, true).map_err(Error::system(failed()))?;
    set(&tree, &namespace, 0).map_err(Error::system(failed()))?;
    attach(&tree, target).map_err(Error::system(failed()))
}

/// Whether an id is one of the container's ids on the host, and not one that must be mapped to those.
fn is_mapped(id: u32, ranges: &[LinuxIdMapping]) -> bool {
    let is_in = |first: u32, size: u32| id.checked_sub(first).is_some_and(|offset| offset < size);
    ranges.iter().any(|range| is_in(range.host_id(), range.size()))
        && !ranges.iter().any(|range| is_in(range.container_id(), range.size()))
}

/// Mounts an overlay on `target` whose lower directories have those ids; its upper directory has them on the disk.
///
/// The layers with those ids must be attached somewhere while the kernel mounts the overlay. They are attached in a mount
/// namespace that ends afterwards, so that nothing is left even if a process is killed.
pub fn overlay(
    source: &str,
    flags: MsFlags,
    data: &[String],
    target: &Path,
    ids: &Ids,
) -> Result<(), Error> {
    let namespace = ids.namespace()?;
    let apart = || mount_apart(source, flags, data, target, &namespace);
    let mounted = thread::scope(|scope| scope.spawn(apart).join());
    let mounted = mounted.unwrap_or(Err(Error::Gone { process: "mounting" }))?;
    let failed = format!("attach the overlay to {}", target.display());
    attach(&mounted, target).map_err(Error::system(failed))
}

/// Mounts the overlay in another mount namespace, to which it moves its thread, and returns the detached mount.
fn mount_apart(
    source: &str,
    flags: MsFlags,
    data: &[String],
    target: &Path,
    namespace: &OwnedFd,
) -> Result<OwnedFd, Error> {
    let layers = lower_dirs(data).unwrap_or_default();
    // It must not be the root, which would be all files of the node.
    let parent = common_parent(&layers).filter(|parent| parent.parent().is_some());
    let reason = "it has no directory with all layers, of which the ids could be mapped";
    let parent = parent.ok_or_else(|| Error::IdMap { option: data.join(","), reason })?;
    let failed = || format!("map the ids of {}", parent.display());
    let tree = leave().and_then(|()| {
        let tree = syscalls::open_tree(&parent, true)?;
        set(&tree, namespace, libc::MOUNT_ATTR_RDONLY)?;
        attach(&tree, target).map(|()| tree)
    });
    let tree = tree.map_err(Error::system(failed()))?;
    let options = below(&tree, &parent, &layers, data);
    let options = Some(options.as_str());
    let mounted = mount_one(Some(source), target, Some("overlay"), flags, options);
    let mounted = mounted.and_then(|()| syscalls::open_tree(target, false));
    let action = || format!("mount overlay {} with other ids", target.display());
    mounted.map_err(Error::system(action()))
}

/// Moves this thread out of the node's mount namespace.
fn leave() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount_one(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
}

/// Options of the overlay, with the layers as they are in `tree`.
fn below(tree: &OwnedFd, parent: &Path, layers: &[PathBuf], data: &[String]) -> String {
    let layer = |layer: &PathBuf| {
        let rest = layer.strip_prefix(parent).unwrap_or(layer);
        format!("/proc/self/fd/{}/{}", tree.as_raw_fd(), rest.display())
    };
    let layers: Vec<String> = layers.iter().map(layer).collect();
    let others = data.iter().filter(|option| !option.starts_with(LOWER_DIR)).cloned();
    let options = others.chain([format!("{LOWER_DIR}{}", layers.join(":"))]);
    options.collect::<Vec<_>>().join(",")
}

fn set(tree: &OwnedFd, namespace: &OwnedFd, more: u64) -> nix::Result<()> {
    let attributes = syscalls::Attributes {
        attr_set: libc::MOUNT_ATTR_IDMAP | more,
        propagation: libc::MS_PRIVATE,
        userns_fd: namespace.as_raw_fd() as u64,
        ..syscalls::UNCHANGED
    };
    syscalls::set_attributes(tree.as_fd(), true, &attributes)
}

fn attach(tree: &OwnedFd, target: &Path) -> nix::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    syscalls::attach(tree.as_fd(), open(target, flags, Mode::empty())?.as_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(options: &[&str]) -> (Result<Option<Ids>, Error>, Vec<String>) {
        let mut data: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        (Ids::take(&mut data), data)
    }

    #[test]
    fn ids_are_taken_out_of_the_options() {
        let (ids, rest) = taken(&["index=off", "uidmap=0:1000:10,10:5000:1", "gidmap=0:7:1"]);
        let ids = ids.expect("read").expect("there");
        let numbers = |ranges: &[LinuxIdMapping]| -> Vec<_> {
            ranges.iter().map(|it| (it.container_id(), it.host_id(), it.size())).collect()
        };
        assert_eq!(numbers(&ids.users), [(0, 1000, 10), (10, 5000, 1)]);
        assert_eq!(numbers(&ids.groups), [(0, 7, 1)]);
        assert_eq!(rest, ["index=off"]);
        assert_eq!(taken(&["index=off"]).0.expect("read"), None);
    }

    #[test]
    fn what_is_the_containers_on_the_disk_is_not_mapped_again() {
        let ranges = ranges("uidmap=0:1000:10,10:5:1").expect("read");
        for (id, is_own) in
            [(0, false), (9, false), (1000, true), (1009, true), (1010, false), (5, false)]
        {
            assert_eq!(is_mapped(id, &ranges), is_own, "{id}");
        }
    }

    #[test]
    fn ids_that_cannot_be_read_are_refused_with_the_option() {
        for users in ["uidmap=0:1000", "uidmap=0:a:1", "uidmap=", "uidmap=0:1:2:3", "uidmap=-1:0:1"]
        {
            let refused = taken(&[users, "gidmap=0:0:1"]).0.expect_err("refused").to_string();
            assert!(
                refused.contains(users) && refused.contains("CONTAINER:HOST:SIZE"),
                "{refused}"
            );
        }
        let alone = taken(&["gidmap=0:0:1"]).0.expect_err("refused").to_string();
        assert!(alone.contains("together"), "{alone}");
    }
}
