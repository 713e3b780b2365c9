//! Isolation of a container, and what is removed at its end, without containerd.

use std::fs;
use std::path::Path;

use anyhow::Result;
use containerd_shim_protos::api::CreateTaskRequest;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};
use tests::cgroups;
use tests::containerd::linux_rootfs;
use tests::shim::{Bundle, Shim, mount};

use crate::compiling::guest;
use crate::shim::{ends, granted};

/// Runs the bundle's container to its end and returns its exit code.
fn run(shim: &Shim, bundle: &Bundle) -> Result<u32> {
    granted(shim.start(&bundle.id))?;
    let code = granted(shim.wait(&bundle.id))?;
    granted(shim.delete(&bundle.id))?;
    Ok(code)
}

/// Changes the bundle's `config.json`.
fn configure(bundle: &Bundle, change: impl FnOnce(&mut Value)) -> Result<()> {
    let text = fs::read_to_string(bundle.folder.join("config.json"))?;
    let mut config = serde_json::from_str(&text)?;
    change(&mut config);
    bundle.write_config(&config)
}

#[test]
fn a_device_node_of_the_image_is_opened_by_a_program_if_its_spec_allows_that() -> Result<()> {
    // /dev/zero and /dev/mem under other names.
    let read = "head -c 1 /image/zero >/dev/null || exit 1; \
                head -c 1 /image/mem 2>&1 | grep -q 'not permitted' || exit 2; exit 7";
    let bundle = Bundle::shell(read)?;
    configure(&bundle, |config| {
        config["linux"]["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    })?;
    let image = bundle.folder.join("image");
    fs::create_dir(&image)?;
    for (name, minor) in [("zero", 5), ("mem", 1)] {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&image.join(name), SFlag::S_IFCHR, mode, makedev(1, minor))?;
    }
    let shim = bundle.start()?;
    let mut request = bundle.create_request();
    let layers = format!("lowerdir={}:{}", overlay(&bundle, &image)?, linux_rootfs().display());
    request.set_rootfs(vec![mount("overlay", Path::new("overlay"), &[&layers])]);
    granted(shim.create(&request))?;
    assert_eq!(run(&shim, &bundle)?, 7);
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_guests_root_has_no_devices_and_a_programs_has() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let shim = bundle.start()?;
    let has_none = |request: &CreateTaskRequest| -> Result<bool> {
        let pid = granted(shim.create(request))?;
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
        let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/"));
        let has_none = root.is_some_and(|root| root.contains("nodev"));
        granted(shim.delete(&bundle.id))?;
        Ok(has_none)
    };
    assert!(!has_none(&bundle.create_request())?);
    assert!(has_none(&guest(&bundle, 0, 1)?)?);
    ends(&shim, &bundle)?;
    bundle.close()
}

/// A layer that has the directory at that path.
fn overlay(bundle: &Bundle, image: &Path) -> Result<String> {
    let layer = bundle.folder.join("layer");
    fs::create_dir(&layer)?;
    fs::rename(image, layer.join("image"))?;
    Ok(layer.display().to_string())
}

#[test]
fn cgroups_that_a_container_made_go_with_it() -> Result<()> {
    let bundle = Bundle::shell("sleep 1000")?;
    let shim = bundle.start()?;
    granted(shim.create(&bundle.create_request()))?;
    let own = bundle.cgroup();
    let made = cgroups::create(&format!("{own}/made/inside"))?;
    assert!(made.iter().any(|folder| folder.exists()));
    assert_eq!(granted(shim.delete(&bundle.id))?, 137);
    let left: Vec<_> = made.iter().filter(|folder| folder.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_cgroup_named_for_systemd_is_inside_its_slices() -> Result<()> {
    let bundle = Bundle::shell("sleep 1000")?;
    // Without a dash the slice is at the top.
    let slice = format!("{}.slice", bundle.cgroup().replace(['/', '-'], "_"));
    configure(&bundle, |config| {
        config["linux"]["cgroupsPath"] = json!(format!("{slice}:cri-containerd:{}", bundle.id));
    })?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let expected = format!("/{slice}/cri-containerd-{}.scope", bundle.id);
    assert!(cgroups.lines().any(|line| line.ends_with(&expected)), "no {expected} in {cgroups}");
    granted(shim.delete(&bundle.id))?;
    // kubelet made the slice, and removes it.
    cgroups::remove(&cgroups::existing(&slice)?)?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_poststop_hook_that_fails_is_logged_and_keeps_nothing() -> Result<()> {
    let bundle = Bundle::shell("exit 4")?;
    configure(&bundle, |config| {
        config["hooks"] = json!({ "poststop": [{ "path": "/bin/false", "args": ["false"] }] });
    })?;
    let shim = bundle.start()?;
    granted(shim.create(&bundle.create_request()))?;
    assert_eq!(run(&shim, &bundle)?, 4);
    assert!(bundle.log()?.contains("hook"), "{}", bundle.log()?);
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_mount_option_that_is_not_understood_is_refused_by_name() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let shim = bundle.start()?;
    let mut request = bundle.create_request();
    let option = "X-containerd.mkdir.path=/a";
    request.set_rootfs(vec![mount("bind", Path::new("/"), &["rbind", option])]);
    let refusal = shim.create(&request).expect_err("is refused");
    assert!(refusal.message.contains(option), "{refusal:?}");
    ends(&shim, &bundle)?;
    bundle.close()
}
