//! Mounts of the isolated process, made by that process: its root, the volumes in it, and the change of root.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{chdir, chroot, fchdir, pivot_root};

use super::errors::{Failed, Step};
use super::options::Word;
use super::targets::Root;
use super::volumes::{Volume, What};
use super::{copy_up, table};
use crate::syscalls;

const NONE: Option<&str> = None;

/// A mount becomes read-only.
const READ_ONLY: syscalls::Attributes =
    syscalls::Attributes { attr_set: libc::MOUNT_ATTR_RDONLY, ..syscalls::UNCHANGED };

/// The root of a container, before it is one.
#[derive(Debug)]
pub struct RootTree {
    /// Path on the host.
    pub path: PathBuf,
    /// Detached copy of its mount, if the kernel has those.
    pub tree: Option<OwnedFd>,
    /// Whether the process begins with the short mount table.
    pub in_short_table: bool,
    /// Whether it becomes read-only after all volumes are mounted.
    pub is_read_only: bool,
    /// Whether to enter it by `chroot` instead of `pivot_root`.
    pub no_pivot_root: bool,
    /// Propagation type that it gets after the change of root.
    pub propagation: Option<MsFlags>,
}

impl RootTree {
    /// Attaches the root and returns it opened. It is not visible outside of this process's mount namespace.
    pub fn attach(&self) -> Result<OwnedFd, Failed> {
        self.try_attach().map_err(Failed::at(Step::Root(self.path.clone())))
    }

    fn try_attach(&self) -> nix::Result<OwnedFd> {
        if !self.in_short_table {
            // Unmounts on the host are propagated to here until the root is changed.
            mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_SLAVE, NONE)?;
        }
        let point = if self.in_short_table { Path::new(table::ROOT) } else { &self.path };
        if let Some(tree) = &self.tree {
            syscalls::attach(tree.as_fd(), open_path(point)?.as_fd())?;
            return tree.try_clone().map_err(|_| nix::Error::EMFILE);
        }
        mount(Some(&self.path), point, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)?;
        mount(NONE, point, NONE, MsFlags::MS_PRIVATE | MsFlags::MS_REC, NONE)?;
        let root = open_path(point)?;
        remount(&root, MsFlags::MS_NODEV)?;
        Ok(root)
    }

    /// Makes the root read-only, if the spec says so.
    pub fn protect(&self, root: &OwnedFd) -> Result<(), Failed> {
        if !self.is_read_only {
            return Ok(());
        }
        let protected = match self.tree {
            Some(_) => syscalls::set_attributes(root.as_fd(), false, &READ_ONLY),
            None => remount(root, MsFlags::MS_RDONLY),
        };
        protected.map_err(Failed::at(Step::Root(self.path.clone())))
    }

    /// Makes it the root of this process. The mounts of the host are not visible afterwards.
    pub fn enter(&self, root: &OwnedFd) -> Result<(), Failed> {
        let entered = if self.no_pivot_root { move_to(root) } else { pivot_to(root) };
        entered.map_err(Failed::at(Step::ChangeRoot))
    }

    /// Gives it the propagation type of the spec, once it is the root and nothing more is to be mounted in it.
    pub fn propagate(&self) -> Result<(), Failed> {
        let changed = self.propagation.map_or(Ok(()), |kind| mount(NONE, "/", NONE, kind, NONE));
        changed.map_err(Failed::at(Step::ChangeRoot))
    }
}

/// Enters a root by pivot_root(2): the old root is mounted on the new one, and then unmounted ("Notes" of the man page).
fn pivot_to(root: &OwnedFd) -> nix::Result<()> {
    let old = open_path(Path::new("/"))?;
    fchdir(root)?;
    pivot_root(".", ".")?;
    fchdir(&old)?;
    mount(NONE, ".", NONE, MsFlags::MS_SLAVE | MsFlags::MS_REC, NONE)?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}

/// Enters a root by chroot(2), for a node whose root cannot be left. The node's mounts stay below the container's root, out of
/// reach.
fn move_to(root: &OwnedFd) -> nix::Result<()> {
    fchdir(root)?;
    mount(Some("."), "/", NONE, MsFlags::MS_MOVE, NONE)?;
    chroot(".")?;
    chdir("/")
}

impl Volume {
    /// Attaches the volume in the container's root.
    pub fn attach(&self, root: Root<'_>) -> Result<(), Failed> {
        let step = || Step::Mount(self.at.clone(), self.from.clone());
        let attached = match &self.what {
            What::Path { tree: None, .. } if self.options.is_recursively_changed() => {
                let reason = "a recursive option, such as rro, takes Linux 5.12";
                return Err(Failed::new(step(), reason));
            }
            What::Path { tree: Some(tree), is_directory } => {
                self.attach_tree(root, tree, *is_directory)
            }
            What::Path { tree: None, is_directory } => self.bind(root, *is_directory),
            What::FileSystem(kind) => self.mount(root, kind),
        };
        attached.map_err(Failed::at(step()))
    }

    fn target(&self, root: Root<'_>, is_directory: bool) -> nix::Result<OwnedFd> {
        if is_directory { root.directory(&self.at) } else { root.file(&self.at) }
    }

    fn attach_tree(&self, root: Root<'_>, tree: &OwnedFd, is_directory: bool) -> nix::Result<()> {
        syscalls::attach(tree.as_fd(), self.target(root, is_directory)?.as_fd())?;
        let change = self.options.unbindable();
        change.map_or(Ok(()), |change| syscalls::set_attributes(tree.as_fd(), true, &change))
    }

    fn mount(&self, root: Root<'_>, kind: &str) -> nix::Result<()> {
        // There may be no /proc by which the target could be named.
        fchdir(root.directory(&self.at)?)?;
        let data = self.options.data.join(",");
        let data = (!data.is_empty()).then_some(data.as_str());
        let later = if self.is_read_only_later() { MsFlags::MS_RDONLY } else { MsFlags::empty() };
        let below = open_path(Path::new("."))?;
        mount(Some(&self.from), ".", Some(kind), self.flags() - later, data)?;
        let mounted = root.directory(&self.at)?;
        if self.options.has(Word::CopyUp) {
            copy_up::copy(&below, &mounted)?;
        }
        fchdir(mounted)?;
        mount(NONE, ".", NONE, self.options.propagation().0, NONE)?;
        chdir("/")
    }

    /// Makes the volume read-only, if that had to wait because files were written to it.
    pub fn protect(&self, root: Root<'_>) -> Result<(), Failed> {
        if !self.is_read_only_later() {
            return Ok(());
        }
        let protected = root.directory(&self.at).and_then(|mounted| {
            if table::has_mounts_by_descriptor() {
                return syscalls::set_attributes(mounted.as_fd(), false, &READ_ONLY);
            }
            fchdir(mounted)?;
            let flags = self.flags() | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
            mount(NONE, ".", NONE, flags, NONE)?;
            chdir("/")
        });
        protected.map_err(Failed::at(Step::Mount(self.at.clone(), self.from.clone())))
    }

    /// Binds a path, on kernels before 5.12: the path and the host's /proc are visible there.
    fn bind(&self, root: Root<'_>, is_directory: bool) -> nix::Result<()> {
        let recursive =
            if self.options.is_recursive() { MsFlags::MS_REC } else { MsFlags::empty() };
        let target = self.target(root, is_directory)?;
        let path = by_descriptor(&target);
        mount(Some(&self.from), path.as_str(), NONE, MsFlags::MS_BIND | recursive, NONE)?;
        let mounted = root.at(&self.at)?;
        let (propagation, below) = self.options.propagation();
        let below = if below { MsFlags::MS_REC } else { MsFlags::empty() };
        mount(NONE, by_descriptor(&mounted).as_str(), NONE, propagation | below, NONE)?;
        remount(&mounted, self.flags())
    }
}

/// Makes every mount below a path of the host `nodev`, except for the container's own `/dev`. For kernels before 5.12.
pub fn forbid_devices(root: &Path) -> Result<(), Failed> {
    let failed = || Step::Root(root.to_owned());
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(Failed::at(failed()))?;
    for line in mounts.lines() {
        // proc(5): the fifth field, and the type after the one that is a hyphen.
        let point = PathBuf::from(unescape(line.split(' ').nth(4).unwrap_or_default()));
        let is_dev = point == root.join("dev") && line.contains(" - tmpfs ");
        if point.starts_with(root) && point != root && !is_dev {
            let path = open(&point, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty());
            let changed = path.and_then(|path| remount(&path, MsFlags::MS_NODEV));
            changed.map_err(Failed::at(failed()))?;
        }
    }
    Ok(())
}

/// Decodes octal escapes of spaces and other characters in mountinfo.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (number, character)| text.replace(number, character))
}

/// Adds flags to the flags of a mount (mount(2), "Remounting an existing mount").
fn remount(mounted: &OwnedFd, flags: MsFlags) -> nix::Result<()> {
    // The flags of statvfs(3) have the values of mount(2).
    let present = fstatvfs(mounted)?.flags().bits();
    let flags = flags | MsFlags::from_bits_truncate(present);
    let flags = flags | MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    mount(NONE, by_descriptor(mounted).as_str(), NONE, flags, NONE)
}

fn open_path(path: &Path) -> nix::Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
}

fn by_descriptor(file: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use nix::sched::{CloneFlags, unshare};
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork};

    use super::*;
    use crate::child::exit;

    /// Makes a container's mounts as on a kernel that has no detached mounts, and returns the mount table.
    fn mount_by_path(directory: &Path) -> Result<String, Failed> {
        let failed = || Failed::at::<nix::Error>(Step::ChangeRoot);
        unshare(CloneFlags::CLONE_NEWNS).map_err(failed())?;
        let root = RootTree {
            path: directory.join("root"),
            tree: None,
            in_short_table: false,
            is_read_only: true,
            no_pivot_root: false,
            propagation: None,
        };
        let opened = root.attach()?;
        let volume = |at: &str, options: &[&str]| {
            let source = directory.join("volume").display().to_string();
            let mount = serde_json::json!({ "destination": at, "type": "bind", "source": source,
                "options": options });
            let mount = serde_json::from_value(mount).expect("a mount");
            let mut volume = Volume::open(&mount, None, MsFlags::MS_SLAVE)?;
            volume.what = What::Path { tree: None, is_directory: true };
            volume.attach(Root::new(&opened))
        };
        let refused = volume("/data", &["rbind", "rro"]).err().map(|failed| failed.to_string());
        if !refused.is_some_and(|refused| refused.ends_with("takes Linux 5.12")) {
            return Err(Failed::new(Step::Start, "what is to be read-only below is not"));
        }
        volume("/data", &["rbind", "rw"])?;
        volume("/read", &["bind", "ro", "noexec"])?;
        forbid_devices(&root.path)?;
        root.protect(&opened)?;
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(Failed::at(Step::Start))?;
        root.enter(&opened)?;
        Ok(mounts)
    }

    #[test]
    fn an_old_kernel_mounts_paths_with_the_same_bounds() {
        let directory = tempfile::tempdir().expect("temporary directory");
        fs::create_dir_all(directory.path().join("root/data")).expect("made");
        fs::create_dir_all(directory.path().join("root/read")).expect("made");
        fs::create_dir(directory.path().join("volume")).expect("made");
        let table = File::create(directory.path().join("table")).expect("made");
        // SAFETY: the child has the heap of the C library as fork(2) leaves it, and ends without handlers.
        match unsafe { fork() }.expect("forked") {
            ForkResult::Child => {
                let text =
                    mount_by_path(directory.path()).unwrap_or_else(|failed| failed.to_string());
                let written = std::io::Write::write_all(&mut &table, text.as_bytes());
                exit(i32::from(written.is_err() || !Path::new("/data").is_dir()))
            }
            ForkResult::Parent { child } => {
                let table = directory.path().join("table");
                let status = waitpid(child, None).expect("ended");
                let text = fs::read_to_string(table).expect("written");
                assert_eq!(status, WaitStatus::Exited(child, 0), "{text}");
                let options = |place: &str| {
                    let place = directory.path().join(place).display().to_string();
                    let line = text.lines().find(|line| line.contains(&format!(" {place} ")));
                    line.and_then(|line| line.split(' ').nth(5)).unwrap_or_default().to_owned()
                };
                assert!(options("root").starts_with("ro,") && options("root").contains("nodev"));
                assert!(options("root/data").starts_with("rw,"), "{text}");
                assert!(options("root/data").contains("nodev"), "{text}");
                assert!(options("root/read").contains("nodev,noexec"), "{text}");
                assert!(options("root/read").starts_with("ro,"), "{text}");
            }
        }
    }
}
