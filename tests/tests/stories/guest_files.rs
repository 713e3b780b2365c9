//! Files: volumes as kubelet lays them out, what may be written, and as whom.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use anyhow::Result;
use serde_json::json;
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

/// A file, a directory, and links to them, for a volume at `/data`.
fn make_links(volume: &Path) -> Result<()> {
    fs::create_dir(volume.join("real"))?;
    fs::write(volume.join("real/file"), "found\n")?;
    for (target, link) in [
        ("/data/real/file", "file"),
        ("/data/real", "folder"),
        ("/data/file", "chain"),
        ("/../../data/real/file", "up"),
        ("../etc/hostname", "sideways"),
        ("/proc/self/root/data/real/file", "process"),
        ("/data/nowhere", "nowhere"),
    ] {
        symlink(target, volume.join(link))?;
    }
    Ok(())
}

#[test]
fn links_lead_a_guest_where_they_lead_a_program() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("links"))?;
        let volume = node.volume("links")?;
        make_links(&volume)?;
        let paths = ["file", "folder/file", "chain", "up", "sideways", "process", "nowhere"];
        // What a guest reads there; nothing is what it cannot.
        let read = |image: &str, command: &str| -> Result<Vec<String>> {
            let image = node.image(image)?;
            let each = paths.iter().map(|path| {
                let name = format!("{}-{path}", &command[1..]).replace(['/', '.'], "-");
                let guest = Container::new(&name, &image).command(&[
                    command,
                    "cat",
                    &format!("/data/{path}"),
                ]);
                let guest = guest.readonly_mount(&volume, "/data").runtime_default_seccomp();
                Ok(outcome(&pod, guest)?.1.stdout)
            });
            each.collect()
        };
        let script = "for path in file folder/file chain up sideways; do cat /data/$path; done";
        let program = Container::shell("program", &node.image("linux")?, script);
        let (_, expected) = outcome(&pod, program.readonly_mount(&volume, "/data"))?;
        for (image, command) in
            [("hello", "/hello.wasm"), ("hello-c", "/hello-c.wasm"), ("hello-p3", "/hello-p3.wasm")]
        {
            let read = read(image, command)?;
            assert_eq!(read[..5].concat(), expected.stdout, "{image}");
            assert_eq!(read[0], "found\n", "{image}");
            assert!(!read[4].is_empty(), "{image}");
            // A guest has no /proc.
            assert_eq!(read[5..], ["", ""], "{image}");
        }
        pod.run(
            &Container::new("server", &node.image("hello-http")?).readonly_mount(&volume, "/data"),
        )?;
        for path in ["/data/file", "/data/folder/file"] {
            let answer = pod.http_get(crate::pod::PORT, &format!("/file?path={path}"))?;
            assert_eq!((answer.status, answer.body.as_str()), (200, "found\n"), "{path}");
        }

        let app = Container::new("app", &node.image("hello")?).args(&["sleep", "60"]);
        let app = pod.run(&app.readonly_mount(&volume, "/data"))?;
        app.wait_for_output("sleeping")?;
        for path in ["/data/file", "/data/folder/file", "/data/sideways"] {
            let guest = app.exec(&["/hello.wasm", "cat", path])?;
            assert_eq!(app.exec(&["cat", path])?.stdout, guest.success()?.stdout, "{path}");
        }
        let guest = app.exec(&["/hello.wasm", "ls", "/data/folder"])?.success()?.stdout;
        assert_eq!(
            (app.exec(&["ls", "/data/folder"])?.stdout, guest.as_str()),
            (guest.clone(), "file\n")
        );
        Ok(())
    })
}

#[test]
fn a_guest_changes_what_its_links_lead_to_and_reads_what_they_say() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("changes"))?;
        let volume = node.volume("changed")?;
        fs::create_dir(volume.join("real"))?;
        symlink("/data/real", volume.join("folder"))?;
        for (image, command) in [("hello", "/hello.wasm"), ("hello-p3", "/hello-p3.wasm")] {
            let guest = |name: &str, args: &[&str]| -> Result<String> {
                let guest = Container::new(&format!("{image}-{name}"), &node.image(image)?);
                let guest = guest.command(&[&[command], args].concat()).mount(&volume, "/data");
                let (exit, logs) = outcome(&pod, guest)?;
                assert_eq!(exit.code, 0, "{image} {args:?}: {logs:?}");
                Ok(logs.stdout)
            };
            guest("write", &["write", "/data/folder/new", image])?;
            assert_eq!(fs::read_to_string(volume.join("real/new"))?, format!("{image}\n"));
            guest("rename", &["rename", "/data/folder/new", "/data/folder/renamed"])?;
            assert!(volume.join("real/renamed").is_file() && !volume.join("real/new").exists());
            guest("move", &["rename", "/data/folder/renamed", "/data/moved"])?;
            assert_eq!(fs::read_to_string(volume.join("moved"))?, format!("{image}\n"));
            assert_eq!(guest("readlink", &["readlink", "/data/folder"])?, "/data/real\n");
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
        // WASI 0.2 in the words of Rust's standard library, and 0.3 as it is.
        for (image, reason) in [("hello", "Read-only file system"), ("hello-p3", "ReadOnly")] {
            let writer = |name: &str| -> Result<_> {
                let name = format!("{image}-{name}");
                Ok(Container::new(&name, &node.image(image)?).args(&write))
            };
            let (exit, logs) = outcome(&pod, writer("refused")?.readonly_mount(&volume, "/data"))?;
            assert_eq!(exit.code, 1, "{logs:?}");
            let (path, stderr) = ("/data/file: ", &logs.stderr);
            assert!(stderr.contains(path) && stderr.contains(reason), "{logs:?}");
            assert!(!volume.join("file").exists());

            let (exit, logs) = outcome(&pod, writer("allowed")?.mount(&volume, "/data"))?;
            assert_eq!(exit.code, 0, "{logs:?}");
            assert_eq!(fs::read_to_string(volume.join("file"))?, "text\n");
            fs::remove_file(volume.join("file"))?;
        }
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
        assert!(logs.stderr.contains("/file: Read-only file system"), "{logs:?}");
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

#[test]
fn what_only_the_pods_own_seccomp_profile_forbids_fails_in_the_guest() -> Result<()> {
    on_each_containerd(|node| {
        let profile = node.folder().join("profile.json");
        let forbidden = json!({ "names": ["rename", "renameat", "renameat2"],
            "action": "SCMP_ACT_ERRNO" });
        let text = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [forbidden] });
        fs::write(&profile, text.to_string())?;
        let pod = node.run_pod(&Pod::new("localhost"))?;
        let (image, volume) = (node.image("hello")?, node.volume("data")?);
        fs::write(volume.join("file"), "text\n")?;
        let guest = |name: &str, words: &[&str]| {
            Container::new(name, &image).args(words).mount(&volume, "/data")
        };
        let rename = ["rename", "/data/file", "/data/moved"];
        let (exit, logs) = outcome(&pod, guest("bound", &rename).localhost_seccomp(&profile))?;
        assert_eq!((exit.code, logs.stdout.as_str()), (1, ""), "{logs:?}");
        assert_eq!(logs.stderr, "hello: /data/file: Operation not permitted (os error 63)\n");
        let cat = guest("reading", &["cat", "/data/file"]).localhost_seccomp(&profile);
        let (exit, logs) = outcome(&pod, cat)?;
        assert_eq!((exit.code, logs.stdout.as_str()), (0, "text\n"), "{logs:?}");
        let (exit, logs) = outcome(&pod, guest("free", &rename))?;
        assert_eq!(exit.code, 0, "{logs:?}");
        assert!(volume.join("moved").exists());
        Ok(())
    })
}
