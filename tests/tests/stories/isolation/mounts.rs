//! Mounts of a guest's container: volumes, file systems in memory and devices.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::Result;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

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
