//! Mounts of a guest's container: volumes, file systems in memory and devices.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;
use tests::cgroups;
use tests::shim::Bundle;

use super::{bind, devices, server};
use crate::shim::{ends, granted};

#[test]
fn a_volume_is_mounted_inside_the_root_wherever_the_images_links_lead() -> Result<()> {
    let bundle = server()?;
    let outside = bundle.folder.join("outside");
    fs::create_dir(&outside)?;
    let image = bundle.folder.join("image");
    symlink(&outside, image.join("away"))?;
    symlink("../../../../outside", image.join("up"))?;
    fs::create_dir(image.join("outside"))?;
    bundle.edit_config(|config| {
        config["mounts"][0] =
            json!({ "destination": "/up/data", "type": "tmpfs", "source": "tmpfs" });
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    assert!(mounts.contains(" /outside/data "), "{mounts}");
    assert_eq!(fs::read_dir(&outside)?.count(), 0, "something was made outside of the root");
    granted(shim.delete(&bundle.id))?;
    bundle.edit_config(|config| config["mounts"][0]["destination"] = json!("/away/data"))?;
    let refusal = shim.create(&bundle.create_request()).expect_err("leads to nothing");
    assert!(refusal.message.contains(r#"cannot mount "/away/data""#), "{refusal:?}");
    assert_eq!(fs::read_dir(&outside)?.count(), 0, "something was made outside of the root");
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_device_node_in_a_volume_or_the_root_is_on_a_mount_that_opens_none() -> Result<()> {
    let bundle = server()?;
    let volume = bundle.folder.join("volume");
    fs::create_dir(&volume)?;
    for place in [volume.join("zero"), bundle.folder.join("image/zero")] {
        mknod(&place, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5))?;
    }
    bundle.edit_config(|config| {
        config["mounts"] = json!([{ "destination": "/data", "type": "bind", "source": volume,
            "options": ["rbind", "rw", "dev"] }]);
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    for place in ["zero", "data/zero"] {
        let opened = fs::File::open(format!("/proc/{pid}/root/{place}"));
        let refused = opened.expect_err("is refused").kind();
        assert_eq!(refused, std::io::ErrorKind::PermissionDenied, "{place}");
    }
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_volume_of_the_users_at_dev_shm_is_there_and_a_dev_that_is_read_only_is_so() -> Result<()> {
    let bundle = server()?;
    let volume = bundle.folder.join("volume");
    fs::create_dir(&volume)?;
    fs::write(volume.join("file"), "")?;
    bundle.edit_config(|config| {
        config["mounts"] = json!([
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "mode=755"] },
            bind("/dev/shm", &volume),
        ]);
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    assert!(root.join("dev/shm/file").exists());
    assert_eq!(devices(&root.join("dev"))?.len(), 6);
    let refused = fs::write(root.join("dev/new"), "").expect_err("is read-only").kind();
    assert_eq!(refused, std::io::ErrorKind::ReadOnlyFilesystem);
    fs::write(root.join("dev/shm/new"), "")?;
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_file_system_in_memory_begins_with_the_images_files_where_the_spec_says_so() -> Result<()> {
    let bundle = server()?;
    let below = bundle.folder.join("image/data/below");
    fs::create_dir_all(&below)?;
    fs::write(below.join("file"), "text")?;
    chown(below.join("file"), Some(1000), Some(1001))?;
    fs::set_permissions(&below, fs::Permissions::from_mode(0o750))?;
    symlink("below/file", bundle.folder.join("image/data/link"))?;
    bundle.edit_config(|config| {
        config["mounts"] = json!([{ "destination": "/data", "type": "tmpfs", "source": "tmpfs",
            "options": ["tmpcopyup", "size=64k"] }]);
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    let data = PathBuf::from(format!("/proc/{pid}/root/data"));
    assert_eq!(fs::read_to_string(data.join("below/file"))?, "text");
    assert_eq!(fs::read_link(data.join("link"))?, Path::new("below/file"));
    let file = fs::metadata(data.join("below/file"))?;
    assert_eq!((file.uid(), file.gid()), (1000, 1001));
    assert_eq!(fs::metadata(data.join("below"))?.mode() & 0o777, 0o750);
    fs::write(data.join("new"), "")?;
    assert!(!bundle.folder.join("image/data/new").exists(), "the image was written to");
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn each_volume_is_told_of_mounts_as_it_asks_for() -> Result<()> {
    let bundle = server()?;
    let volume = bundle.folder.join("volume");
    fs::create_dir(&volume)?;
    let mount = |words: &[&str]| Command::new("mount").args(words).arg(&volume).status();
    ensure!(mount(&["-t", "tmpfs", "tmpfs"])?.success() && mount(&["--make-shared"])?.success());
    let result = propagated(&bundle, &volume);
    ensure!(Command::new("umount").args(["-R", "-l"]).arg(&volume).status()?.success());
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
        // A later mount may have devices, and no cgroup prevents a guest from opening them.
        let refusal = shim.create(&bundle.create_request()).expect_err("is refused").message;
        ensure!(refusal.contains("cannot have mounts propagated"), "{refusal}");
        bundle.edit_config(|config| {
            config["mounts"] = json!([bind("/private", &[]), bind("/all", &["rro"])]);
        })?;
    }
    let pid = granted(shim.create(&bundle.create_request()))?;
    let below = volume.join("below");
    fs::create_dir(&below)?;
    let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(&below).status()?;
    ensure!(mounted.success());
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
    let mount = |at: &Path| -> Result<()> {
        fs::create_dir_all(at)?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(at).status()?;
        let shared = Command::new("mount").arg("--make-shared").arg(at).status()?;
        ensure!(mounted.success() && shared.success(), "{} cannot be mounted", at.display());
        Ok(())
    };
    mount(&volume)?;
    mount(&below)?;
    bundle.edit_config(|config| {
        config["mounts"] = json!([{ "destination": "/data", "type": "bind", "source": volume,
            "options": ["rbind", option] }]);
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    mount(&late)?;
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    ensure!(Command::new("umount").args(["-R", "-l"]).arg(&volume).status()?.success());
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

/// Whether what a guest has mounted in a volume that is shared is seen on the node as well.
fn is_passed_on(of_root: &str) -> Result<bool> {
    let bundle = server()?;
    let volume = bundle.folder.join("volume");
    fs::create_dir(&volume)?;
    let mount = |words: &[&str]| Command::new("mount").args(words).arg(&volume).status();
    ensure!(mount(&["-t", "tmpfs", "tmpfs"])?.success() && mount(&["--make-shared"])?.success());
    bundle.edit_config(|config| {
        config["linux"]["rootfsPropagation"] = json!(of_root);
        config["mounts"] = json!([
            { "destination": "/data", "type": "bind", "source": volume, "options": ["rbind", "rshared"] },
            { "destination": "/data/below", "type": "tmpfs", "source": "tmpfs" },
        ]);
    })?;
    let shim = bundle.start()?;
    granted(shim.create(&bundle.create_request()))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    ensure!(Command::new("umount").args(["-R", "-l"]).arg(&volume).status()?.success());
    bundle.close()?;
    Ok(mounts.contains(&format!(" {}/below ", volume.display())))
}

#[test]
fn a_shared_volume_passes_mounts_on_to_the_node_only_if_the_root_does() -> Result<()> {
    if cgroups::is_unified() {
        // Refused there: see `each_volume_is_told_of_mounts_as_it_asks_for`.
        return Ok(());
    }
    assert!(!is_passed_on("rslave")?, "a guest's mount is on the node");
    assert!(is_passed_on("rshared")?, "a guest's mount is not on the node");
    Ok(())
}

#[test]
fn paths_that_the_spec_masks_or_protects_are_so_for_a_guest() -> Result<()> {
    let bundle = server()?;
    let image = bundle.folder.join("image");
    for directory in ["secret", "kept/below"] {
        fs::create_dir_all(image.join(directory))?;
    }
    for file in ["secret/key", "hidden", "kept/below/file", "seen"] {
        fs::write(image.join(file), "text")?;
    }
    bundle.edit_config(|config| {
        config["linux"]["maskedPaths"] =
            json!(["/proc/kcore", "/secret", "/hidden", "/no/such/file", "/seen/not"]);
        config["linux"]["readonlyPaths"] = json!(["/proc/sys", "/kept", "/no/such/file"]);
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    assert_eq!(fs::read_dir(root.join("secret"))?.count(), 0, "the directory is not masked");
    assert_eq!(fs::read_to_string(root.join("hidden"))?, "", "the file is not masked");
    for file in ["kept/below/file", "secret/new"] {
        let refused = fs::write(root.join(file), "other").expect_err(file).kind();
        assert_eq!(refused, std::io::ErrorKind::ReadOnlyFilesystem, "{file}");
    }
    fs::write(root.join("seen"), "other")?;
    let text = fs::read_to_string(image.join("secret/key"))?;
    assert_eq!(text, "text", "the image has changed");
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}
