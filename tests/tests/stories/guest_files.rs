//! Files: volumes as kubelet lays them out, what may be written, and as whom.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use anyhow::Result;
use tests::logs::Logs;
use tests::running::{Exit, RunningPod};
use tests::{Container, Pod, kubelet, on_each_containerd};

/// The user that a container is asked to run as.
const USER: u32 = 1000;

/// A group that it is asked to be in besides its own.
const GROUP: u32 = 3000;

/// Runs the container to its end.
fn outcome(pod: &RunningPod<'_>, container: Container) -> Result<(Exit, Logs)> {
    let container = pod.run(&container)?;
    Ok((container.wait()?, container.logs()?))
}

#[test]
fn config_maps_and_secrets_are_read_through_kubelets_links() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("volumes"))?;
        let hello = node.image("hello")?;
        for (name, mode) in [("config", 0o644), ("secret", 0o400)] {
            let volume = node.volume(name)?;
            kubelet::atomic_volume(&volume, &[("colour", "green"), ("shape", "round")], mode)?;
            let target = format!("/etc/{name}");
            let reader = Container::new(name, &hello).args(&["cat", &format!("{target}/colour")]);
            let (exit, logs) = outcome(&pod, reader.readonly_mount(&volume, &target))?;
            assert_eq!((exit.code, logs.stdout.as_str()), (0, "green"), "{logs:?}");

            let lister = Container::new(&format!("{name}-list"), &hello).args(&["ls", &target]);
            let (_, logs) = outcome(&pod, lister.readonly_mount(&volume, &target))?;
            assert!(
                logs.stdout.contains("colour\n") && logs.stdout.contains("shape\n"),
                "{logs:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn only_what_is_mounted_for_writing_can_be_written() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("writing"))?;
        let volume = node.volume("data")?;
        let write = ["write", "/data/file", "text"];
        let writer =
            |name| -> Result<_> { Ok(Container::new(name, &node.image("hello")?).args(&write)) };

        let (exit, logs) = outcome(&pod, writer("refused")?.readonly_mount(&volume, "/data"))?;
        assert_eq!(exit.code, 1, "{logs:?}");
        assert!(logs.stderr.contains("/data/file"), "{logs:?}");
        assert!(!volume.join("file").exists());

        let (exit, logs) = outcome(&pod, writer("allowed")?.mount(&volume, "/data"))?;
        assert_eq!(exit.code, 0, "{logs:?}");
        assert_eq!(fs::read_to_string(volume.join("file"))?, "text\n");
        Ok(())
    })
}

#[test]
fn the_root_filesystem_can_be_written_unless_it_is_read_only() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("rootfs"))?;
        let hello = node.image("hello")?;
        let writer = Container::new("writable", &hello).args(&["write", "/file", "text"]);
        let (exit, logs) = outcome(&pod, writer)?;
        assert_eq!(exit.code, 0, "{logs:?}");

        let writer = Container::new("read-only", &hello).args(&["write", "/file", "text"]);
        let (exit, logs) = outcome(&pod, writer.readonly_rootfs())?;
        assert_eq!(exit.code, 1, "{logs:?}");
        assert!(logs.stderr.contains("/file: "), "{logs:?}");
        Ok(())
    })
}

#[test]
fn a_user_other_than_root_has_only_that_users_rights() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("user"))?;
        let hello = node.image("hello")?;
        let volume = node.volume("data")?;
        chown(&volume, Some(USER), Some(USER))?;
        fs::write(volume.join("roots"), "secret")?;
        fs::set_permissions(volume.join("roots"), Permissions::from_mode(0o600))?;
        let as_user = |name: &str, args: &[&str]| {
            let container = Container::new(name, &hello).args(args);
            container.user(USER.into(), USER.into()).mount(&volume, "/data")
        };

        let (exit, logs) = outcome(&pod, as_user("reader", &["cat", "/data/roots"]))?;
        assert_eq!((exit.code, logs.stdout.as_str()), (1, ""), "{logs:?}");
        assert!(logs.stderr.contains("/data/roots: "), "{logs:?}");

        // As a Pod's fsGroup has it.
        fs::write(volume.join("groups"), "shared")?;
        chown(volume.join("groups"), Some(0), Some(GROUP))?;
        fs::set_permissions(volume.join("groups"), Permissions::from_mode(0o640))?;
        let reader = as_user("group-reader", &["cat", "/data/groups"]);
        let (exit, logs) = outcome(&pod, reader.supplemental_groups(&[GROUP.into()]))?;
        assert_eq!((exit.code, logs.stdout.as_str()), (0, "shared"), "{logs:?}");

        let (exit, logs) = outcome(&pod, as_user("writer", &["write", "/data/own", "text"]))?;
        assert_eq!(exit.code, 0, "{logs:?}");
        let made = fs::metadata(volume.join("own"))?;
        assert_eq!((made.uid(), made.gid()), (USER, USER));
        Ok(())
    })
}

#[test]
fn the_hosts_files_are_not_there() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("inside"))?;
        let hello = node.image("hello")?;
        for path in ["/proc/self/status", "/etc/shadow", "/../../etc/shadow", "/dev/kmsg"] {
            let name = path.replace(['/', '.'], "-");
            let (exit, logs) = outcome(&pod, Container::new(&name, &hello).args(&["cat", path]))?;
            assert_eq!((exit.code, logs.stdout.as_str()), (1, ""), "{path}: {logs:?}");
            assert!(logs.stderr.contains(&format!("{path}: ")), "{logs:?}");
        }
        Ok(())
    })
}
