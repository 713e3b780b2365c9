//! Volumes of programs: read-only mounts with those below them, and propagation.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use containerd_shim_protos::api::CreateTaskRequest;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use tests::shim::Bundle;
use tests::spec::MountPropagation;
use tests::{Container, Pod, on_each_containerd};

use super::runs;
use crate::compiling::guest;
use crate::shim::{ends, granted};

/// A mounted directory with another mount in it. Both are unmounted when this is dropped.
struct Mounts(PathBuf);

impl Mounts {
    fn make(directory: PathBuf) -> Result<Mounts> {
        const NOTHING: Option<&str> = None;
        fs::create_dir(&directory)?;
        mount(Some("none"), &directory, Some("tmpfs"), MsFlags::empty(), NOTHING)?;
        let made = Mounts(directory);
        fs::create_dir(made.below())?;
        mount(Some("none"), &made.below(), Some("tmpfs"), MsFlags::empty(), NOTHING)?;
        Ok(made)
    }

    fn below(&self) -> PathBuf {
        self.0.join("below")
    }
}

impl Drop for Mounts {
    fn drop(&mut self) {
        for path in [self.below(), self.0.clone()] {
            let _ = umount2(&path, MntFlags::MNT_DETACH);
        }
    }
}

fn add_mount(bundle: &Bundle, source: &Path, options: &[&str]) -> Result<()> {
    bundle.edit_config(|config| {
        let mounts = config["mounts"].as_array_mut().expect("mounts");
        let destination = format!("/mnt/{}", mounts.len() - 2);
        mounts.push(json!({ "destination": destination, "type": "bind",
            "source": source, "options": options }));
    })
}

/// A bundle with a root of its own, in which places for mounts can be made.
fn writable(script: &str) -> Result<(Bundle, CreateTaskRequest)> {
    let bundle = Bundle::shell(script)?;
    let [upper, work] = ["upper", "work"].map(|name| bundle.folder.join(name));
    [&upper, &work].into_iter().try_for_each(fs::create_dir)?;
    let lower = tests::containerd::linux_rootfs();
    let options = [("lowerdir", &lower), ("upperdir", &upper), ("workdir", &work)];
    let options = options.map(|(name, path)| format!("{name}={}", path.display()));
    let mut request = bundle.create_request();
    let options = [&*options[0], &*options[1], &*options[2]];
    request.set_rootfs(vec![tests::shim::mount("overlay", Path::new("overlay"), &options)]);
    Ok((bundle, request))
}

#[test]
fn a_mount_is_read_only_with_all_below_it_where_the_spec_says_so() -> Result<()> {
    let script = "touch /mnt/0/below/file && exit 1; touch /mnt/1/file && exit 2; \
                  touch /mnt/1/below/file || exit 3; exit 7";
    let (bundle, request) = writable(script)?;
    let mounts = Mounts::make(bundle.folder.join("volume"))?;
    add_mount(&bundle, &mounts.0, &["rbind", "rro"])?;
    add_mount(&bundle, &mounts.0, &["rbind", "ro"])?;
    assert_eq!(runs(&bundle, &request)?, 7);
    // The same applies to a guest, whose process has the mounts before it starts.
    let shim = bundle.start()?;
    let pid = granted(shim.create(&guest(&bundle, 0, 1)?))?;
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo"))?;
    let is_read_only = |point: &str| {
        let mut lines = table.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        lines.find(|line| line[4] == point).map(|line| line[5].split(',').any(|it| it == "ro"))
    };
    assert_eq!(is_read_only("/mnt/0/below"), Some(true), "{table}");
    assert_eq!(is_read_only("/mnt/1/below"), Some(false), "{table}");
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    drop(mounts);
    bundle.close()
}

#[test]
fn each_volume_has_the_propagation_that_it_asks_for() -> Result<()> {
    on_each_containerd(|node| {
        const NOTHING: Option<&str> = None;
        let pod = node.run_pod(&Pod::new("propagation"))?;
        let ways = [
            (MountPropagation::PropagationPrivate, ""),
            (MountPropagation::PropagationHostToContainer, "master"),
            (MountPropagation::PropagationBidirectional, "shared"),
        ];
        let look = "while read id parent device root point options rest; do
                        case $point in /volume-*) echo ${point#/} ${rest%%[-:]*};; esac;
                    done < /proc/self/mountinfo | sort";
        let mut container = Container::shell("app", &node.image("linux")?, look);
        for (number, (way, _)) in ways.iter().enumerate() {
            let volume = node.volume(&format!("volume-{number}"))?;
            mount(Some(&volume), &volume, NOTHING, MsFlags::MS_BIND, NOTHING)?;
            mount(NOTHING, &volume, NOTHING, MsFlags::MS_SHARED, NOTHING)?;
            container = container.mount_with(&volume, &format!("/volume-{number}"), *way);
        }
        let container = pod.run(&container)?;
        container.wait()?;
        let seen = container.logs()?.stdout;
        container.remove()?;
        for number in 0..ways.len() {
            umount2(&node.volume(&format!("volume-{number}"))?, MntFlags::MNT_DETACH)?;
        }
        let seen: Vec<_> = seen.lines().map(str::trim_end).collect();
        let expected = ways.iter().enumerate();
        let expected = expected.map(|(number, (_, word))| format!("volume-{number} {word}"));
        let expected: Vec<_> = expected.map(|line| line.trim_end().to_owned()).collect();
        assert_eq!(seen, expected);
        Ok(())
    })
}
