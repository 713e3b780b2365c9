//! The short mount table: a mount namespace that is almost empty, in which isolated processes are made.
//!
//! A new mount namespace begins as a copy of its maker's, and a node has several mounts for each of its Pods. So the
//! zygote makes one namespace that has only an empty directory. A process that is made in it copies only that. Its root
//! and volumes arrive as descriptors (`volumes`).

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::OnceLock;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, chdir, mkdir, pivot_root};

use super::link::{self, Child};
use crate::child::exit;
use crate::syscalls;

/// Mount point of a container's root in the namespace.
pub const ROOT: &str = "/root";

static TABLE: OnceLock<Option<File>> = OnceLock::new();

/// Makes the namespace. To be called while this process has one thread. There is none if the kernel has no mounts by
/// descriptor (before 5.12), or if the node's root cannot be left (pivot_root(2)).
pub fn prepare() {
    let _ = TABLE.get_or_init(|| has_mounts_by_descriptor().then(make).flatten());
}

/// The namespace, if there is one.
pub fn get() -> Option<&'static File> {
    TABLE.get().and_then(Option::as_ref)
}

/// Whether the kernel has mounts by descriptor.
pub fn has_mounts_by_descriptor() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| {
        let tree = syscalls::open_tree(Path::new("/dev"), false);
        tree.is_ok_and(|tree: OwnedFd| {
            use std::os::fd::AsFd;
            let attributes =
                syscalls::Attributes { attr_set: libc::MOUNT_ATTR_NODEV, ..syscalls::UNCHANGED };
            syscalls::set_attributes(tree.as_fd(), true, &attributes).is_ok()
        })
    })
}

/// Makes the namespace by a further process, so that this one stays in its own.
fn make() -> Option<File> {
    let (parent, child) = link::pair().ok()?;
    // SAFETY: this process has one thread (documented above).
    match unsafe { syscalls::fork_with(libc::CLONE_NEWNS as u64, None) }.ok()? {
        None => {
            drop(parent);
            be_inside(&child)
        }
        Some(pid) => {
            drop(child);
            let is_ready = parent.report().is_ok();
            let table = open(pid).filter(|_| is_ready);
            drop(parent);
            let _ = waitpid(pid, None);
            table
        }
    }
}

fn open(pid: Pid) -> Option<File> {
    File::open(format!("/proc/{pid}/ns/mnt")).ok()
}

fn be_inside(child: &Child) -> ! {
    if empty().is_ok() && child.send(&link::Report::Ready) {
        // The namespace must exist until the other process has opened it.
        child.wait();
    }
    exit(0)
}

/// Empties this process's mount namespace, except for a directory.
fn empty() -> nix::Result<()> {
    const NONE: Option<&str> = None;
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)?;
    // Any directory can be the mount point of the new root; /proc always exists.
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), "/proc", Some("tmpfs"), flags, Some("size=4k,mode=755"))?;
    chdir("/proc")?;
    umask(Mode::empty());
    mkdir("root", Mode::from_bits_truncate(0o755))?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::sched::{CloneFlags, setns};
    use nix::sys::wait::WaitStatus;
    use nix::unistd::{ForkResult, fork};

    use super::*;

    #[test]
    fn it_holds_nothing_but_a_directory() {
        // SAFETY: the child has one thread, the heap of the C library as fork(2) leaves it, and ends without handlers.
        match unsafe { fork() }.expect("forked") {
            ForkResult::Child => {
                let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
                let before = mounts();
                let entered = make().and_then(|table| setns(table, CloneFlags::CLONE_NEWNS).ok());
                let names = fs::read_dir("/").map_or(0, |entries| entries.count());
                let is_short = entered.is_some() && names == 1 && Path::new(ROOT).is_dir();
                exit(i32::from(!is_short || before.is_empty() || !mounts().is_empty()))
            }
            ForkResult::Parent { child } => {
                assert_eq!(waitpid(child, None).expect("ended"), WaitStatus::Exited(child, 0));
            }
        }
    }
}
