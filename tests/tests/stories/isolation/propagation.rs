//! Mounts of the node that reach volumes of guests, and mounts of guests that reach the node.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::cgroups;
use tests::shim::Bundle;

use super::server;
use crate::shim::{ends, granted};

/// Mounts a tmpfs there, and makes the mount shared.
fn mount_shared(at: &Path) -> Result<()> {
    fs::create_dir_all(at)?;
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(at).status()?;
    let shared = Command::new("mount").arg("--make-shared").arg(at).status()?;
    ensure!(mounted.success() && shared.success(), "{} cannot be mounted", at.display());
    Ok(())
}

/// Unmounts it, and everything below it.
fn unmount(at: &Path) -> Result<()> {
    let unmounted = Command::new("umount").args(["-R", "-l"]).arg(at).status()?;
    ensure!(unmounted.success(), "{} cannot be unmounted", at.display());
    Ok(())
}

#[test]
fn each_volume_is_told_of_mounts_as_it_asks_for() -> Result<()> {
    let bundle = server()?;
    let volume = bundle.folder.join("volume");
    mount_shared(&volume)?;
    let result = propagated(&bundle, &volume);
    unmount(&volume)?;
    result?;
    bundle.close()
}

fn propagated(bundle: &Bundle, volume: &Path) -> Result<()> {
    let bind = |at: &str, words: &[&str]| {
        let options: Vec<&str> = ["rbind"].iter().chain(words).copied().collect();
        json!({ "destination": at, "type": "bind", "source": volume, "options": options })
    };
    bundle.edit_config(|config| {
        config["mounts"] = json!([
            bind("/private", &[]),
            bind("/slave", &["rslave"]),
            bind("/shared", &["rshared"]),
            bind("/all", &["rro"])
        ]);
    })?;
    let shim = bundle.start()?;
    if cgroups::is_unified() {
        // A mount that comes later may have devices, of which no cgroup keeps a guest.
        let refusal = shim.create(&bundle.create_request()).expect_err("is refused").message;
        ensure!(refusal.contains("cannot have mounts propagated"), "{refusal}");
        bundle.edit_config(|config| {
            config["mounts"] = json!([bind("/private", &[]), bind("/all", &["rro"])]);
        })?;
    }
    let pid = granted(shim.create(&bundle.create_request()))?;
    mount_shared(&volume.join("below"))?;
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let has = |place: &str| mounts.contains(&format!(" {place}/below "));
    let seen = ["/private", "/slave", "/shared", "/all"].map(has);
    granted(shim.delete(&bundle.id))?;
    ends(&shim, bundle)?;
    let is_told = !cgroups::is_unified();
    assert_eq!(seen, [false, is_told, is_told, false], "{mounts}");
    Ok(())
}

/// Whether a mount that is made below a volume, in one that was there before, reaches a guest whose volume has that option.
fn reaches(option: &str) -> Result<bool> {
    let bundle = server()?;
    let volume = bundle.folder.join("volume");
    let (below, late) = (volume.join("below"), volume.join("below/late"));
    mount_shared(&volume)?;
    mount_shared(&below)?;
    bundle.edit_config(|config| {
        config["mounts"] = json!([{ "destination": "/data", "type": "bind", "source": volume,
            "options": ["rbind", option] }]);
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    mount_shared(&late)?;
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    unmount(&volume)?;
    bundle.close()?;
    ensure!(mounts.contains(" /data/below "), "{mounts}");
    Ok(mounts.contains(" /data/below/late "))
}

#[test]
fn what_is_mounted_below_a_private_volume_is_private_as_well() -> Result<()> {
    for option in ["private", "rprivate", "unbindable", "ro"] {
        assert!(!reaches(option)?, "a later mount has reached a guest with {option:?}");
    }
    if !cgroups::is_unified() {
        assert!(reaches("rslave")?, "nothing reaches any guest");
    }
    Ok(())
}

/// Whether a guest's mount in a shared volume reaches the node, and whether a later mount of the node reaches the guest.
fn is_passed_on(of_root: &str) -> Result<[bool; 2]> {
    let bundle = server()?;
    let volume = bundle.folder.join("volume");
    mount_shared(&volume)?;
    bundle.edit_config(|config| {
        config["linux"]["rootfsPropagation"] = json!(of_root);
        config["mounts"] = json!([
            { "destination": "/data", "type": "bind", "source": volume, "options": ["rbind", "rshared"] },
            { "destination": "/data/below", "type": "tmpfs", "source": "tmpfs" },
        ]);
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    let to_node = fs::read_to_string("/proc/self/mountinfo")?;
    mount_shared(&volume.join("late"))?;
    let to_guest = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    unmount(&volume)?;
    bundle.close()?;
    let below = format!(" {}/below ", volume.display());
    Ok([to_node.contains(&below), to_guest.contains(" /data/late ")])
}

#[test]
fn a_shared_volume_passes_mounts_on_and_receives_them_as_the_root_does() -> Result<()> {
    if cgroups::is_unified() {
        // Refused there: see `each_volume_is_told_of_mounts_as_it_asks_for`.
        return Ok(());
    }
    for (of_root, expected) in
        [("rshared", [true, true]), ("rslave", [false, true]), ("rprivate", [false, false])]
    {
        assert_eq!(is_passed_on(of_root)?, expected, "{of_root}: to the node, and to the guest");
    }
    Ok(())
}
