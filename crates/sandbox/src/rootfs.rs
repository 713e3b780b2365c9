//! Root of a container: mounts the snapshot that containerd passes for it, and unmounts it.

use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount as mount_one, umount2};
use nix::unistd::{SysconfVar, sysconf};

use crate::Error;

mod id_mapped;
mod layers;

use id_mapped::Ids;
use layers::shorten;

/// A mount, as in containerd's `types.Mount`.
#[derive(Debug, Clone)]
pub struct Mount {
    /// File system type: `overlay`, `bind`, …
    pub kind: String,
    /// Source: a device, a path, or the name of a file system.
    pub source: String,
    /// Options as in fstab(5): names of flags, and options of the file system.
    pub options: Vec<String>,
}

/// Options that are flags of mount(2), and whether they set or clear the flag.
const FLAGS: [(&str, MsFlags, bool); 22] = [
    ("ro", MsFlags::MS_RDONLY, true),
    ("rw", MsFlags::MS_RDONLY, false),
    ("bind", MsFlags::MS_BIND, true),
    ("rbind", MsFlags::MS_BIND.union(MsFlags::MS_REC), true),
    ("nosuid", MsFlags::MS_NOSUID, true),
    ("suid", MsFlags::MS_NOSUID, false),
    ("nodev", MsFlags::MS_NODEV, true),
    ("dev", MsFlags::MS_NODEV, false),
    ("noexec", MsFlags::MS_NOEXEC, true),
    ("exec", MsFlags::MS_NOEXEC, false),
    ("atime", MsFlags::MS_NOATIME, false),
    ("noatime", MsFlags::MS_NOATIME, true),
    ("relatime", MsFlags::MS_RELATIME, true),
    ("norelatime", MsFlags::MS_RELATIME, false),
    ("strictatime", MsFlags::MS_STRICTATIME, true),
    ("nostrictatime", MsFlags::MS_STRICTATIME, false),
    ("diratime", MsFlags::MS_NODIRATIME, false),
    ("nodiratime", MsFlags::MS_NODIRATIME, true),
    ("sync", MsFlags::MS_SYNCHRONOUS, true),
    ("async", MsFlags::MS_SYNCHRONOUS, false),
    ("dirsync", MsFlags::MS_DIRSYNC, true),
    ("defaults", MsFlags::empty(), true),
];

/// Options that only containerd's own mount code supports.
const UNSUPPORTED: [&str; 2] = ["loop", "X-containerd."];

/// Mounts `mounts` in order on `target`, which is made if it is missing. If one fails, none stays.
pub fn mount(mounts: &[Mount], target: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(target).map_err(Error::io(format!("create {}", target.display())))?;
    for each in mounts {
        if let Err(error) = mount_on(each, target) {
            let _ = unmount(target);
            return Err(error);
        }
    }
    Ok(())
}

/// Allows device nodes to be opened on what [`mount`] has mounted, unless the options forbid it.
pub fn allow_devices(mounts: &[Mount], target: &Path) -> Result<(), Error> {
    let Some(last) = mounts.last() else { return Ok(()) };
    let (flags, _) = split(&last.options);
    // MS_BIND changes this mount only, and not its file system, which may be mounted elsewhere as well.
    let again = flags.difference(MsFlags::MS_REC) | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    mount_one(None::<&str>, target, None::<&str>, again, None::<&str>)
        .map_err(Error::system(format!("allow devices on {}", target.display())))
}

/// Unmounts everything that is mounted on `target`. It is no error if nothing is mounted, or if there is no such directory.
pub fn unmount(target: &Path) -> Result<(), Error> {
    loop {
        match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(nix::Error::EINVAL | nix::Error::ENOENT) => return Ok(()),
            Err(source) => {
                return Err(Error::system(format!("unmount {}", target.display()))(source));
            }
        }
    }
}

fn mount_on(mount: &Mount, target: &Path) -> Result<(), Error> {
    let (mut flags, mut data) = split(&mount.options);
    let special = |option: &&String| UNSUPPORTED.iter().any(|name| option.starts_with(name));
    if let Some(option) = data.iter().find(special) {
        return Err(Error::MountOption(option.clone()));
    }
    // Device nodes of an image must not be opened while the shim reads its files, nor by a guest. For a Linux program they are
    // allowed later (`allow_devices`), because the OCI runtime decides which devices it may open.
    flags |= MsFlags::MS_NODEV;
    let ids = Ids::take(&mut data)?;
    if let Some(ids) = ids.as_ref().filter(|_| mount.kind == "overlay") {
        return id_mapped::overlay(&mount.source, flags, &data, target, ids);
    }
    let mut parent = None;
    if data.iter().map(|option| option.len() + 1).sum::<usize>() >= page_size() {
        parent = shorten(&mut data)?;
    }
    let action = || format!("mount {} {} on {}", mount.kind, mount.source, target.display());
    let text = data.join(",");
    let data = (!text.is_empty()).then_some(text.as_str());
    let bind = flags.contains(MsFlags::MS_BIND);
    mount_one(Some(mount.source.as_str()), target, Some(mount.kind.as_str()), flags, data)
        .map_err(Error::system(action()))?;
    drop(parent);
    // A bind mount only gets its other flags by a remount (mount(2), "Creating a bind mount").
    if bind {
        let again = flags.difference(MsFlags::MS_REC) | MsFlags::MS_REMOUNT;
        mount_one(None::<&str>, target, None::<&str>, again, None::<&str>)
            .map_err(Error::system(format!("{} with its options", action())))?;
    }
    ids.map_or(Ok(()), |ids| id_mapped::map(target, &ids))
}

fn split(options: &[String]) -> (MsFlags, Vec<String>) {
    let mut flags = MsFlags::empty();
    let mut data = Vec::new();
    for option in options {
        match FLAGS.iter().find(|(name, ..)| name == option) {
            Some((_, flag, true)) => flags |= *flag,
            Some((_, flag, false)) => flags &= !*flag,
            None => data.push(option.clone()),
        }
    }
    (flags, data)
}

fn page_size() -> usize {
    sysconf(SysconfVar::PAGE_SIZE)
        .ok()
        .flatten()
        .and_then(|size| size.try_into().ok())
        .unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_separated_from_the_options_of_the_file_system() {
        let options = ["rw", "rbind", "ro", "lowerdir=/a:/b"].map(str::to_owned);
        let (flags, data) = split(&options);
        assert_eq!(flags, MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY);
        assert_eq!(data, ["lowerdir=/a:/b"]);
    }

    #[test]
    fn a_directory_with_nothing_mounted_is_unmounted() {
        let directory = tempfile::tempdir().expect("temporary directory");
        assert!(unmount(directory.path()).is_ok());
        assert!(unmount(&directory.path().join("missing")).is_ok());
    }
}
