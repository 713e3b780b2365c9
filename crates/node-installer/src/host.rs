//! Moves the installer from its container to the node.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::unistd::chdir;

/// Enters the mount namespace of a process of the node. Afterwards, paths lead to the node's files, and systemctl talks
/// to the node's systemd, which it would refuse in a chroot. Files of the container must be read before.
pub fn enter(process: u32) -> Result<()> {
    let path = format!("/proc/{process}/ns/mnt");
    let needs =
        "needs hostPID, CAP_SYS_ADMIN, CAP_SYS_CHROOT and CAP_SYS_PTRACE, and no AppArmor profile";
    let namespace =
        File::open(&path).with_context(|| format!("cannot open {path}: --host {needs}"))?;
    setns(namespace, CloneFlags::CLONE_NEWNS)
        .with_context(|| format!("cannot enter the node's mount namespace: --host {needs}"))?;
    chdir(Path::new("/")).context("cannot change to the node's root directory")
}
