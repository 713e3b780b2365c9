//! Granted directories.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::Result;
use tests::{Container, Node, Pod, on_each_containerd};

use super::{FILES, hosts, number, run};
use crate::pod::PORT;

/// A volume with a file, and links that lead within it and out of it.
pub fn volume(node: &Node) -> Result<PathBuf> {
    let volume = node.volume("data")?;
    fs::write(volume.join("file"), "found\n")?;
    fs::create_dir(volume.join("below"))?;
    symlink("../file", volume.join("below/within"))?;
    symlink("../etc/hosts", volume.join("out"))?;
    symlink("/etc/hosts", volume.join("absolute"))?;
    symlink("/", volume.join("root"))?;
    Ok(volume)
}

/// The report of a path that leads out of a granted directory.
fn out(path: &str) -> Option<String> {
    let reason = "it leads out of the granted directory";
    Some(format!("denied: file \"{path}\": {reason}; {FILES} must name the directory"))
}

/// The report of a path in the directory that may only be read.
fn fixed(path: &str) -> Option<String> {
    let grant = format!("{FILES} \"/fixed=rw\" would allow it");
    Some(format!("denied: file \"{path}\": it may only be read; {grant}"))
}

#[test]
fn a_guest_has_the_granted_directories_and_no_link_leads_out_of_them() -> Result<()> {
    on_each_containerd(|node| {
        let (volume, hosts) = (volume(node)?, hosts(node)?);
        // WASI 0.2, and a core module of WASI 0.1 that can only read.
        for (image, can_write) in [("hello", true), ("hello-c", false)] {
            let can = |words: &[&str]| can_write || words[0] == "cat";
            let pod = Pod::new(&format!("files-{image}"));
            let pod = node.run_pod(&pod.annotation(FILES, "/data=rw, /fixed=ro"))?;
            let image = node.image(image)?;
            let guest = |words: &[&str]| {
                let container = Container::new(&number("files"), &image).args(words);
                let container = container.mount(&volume, "/data").mount(&volume, "/fixed");
                run(&pod, container.readonly_mount(&hosts, "/etc/hosts"))
            };
            for (words, stdout) in [
                (&["cat", "/data/file"][..], "found\n"),
                (&["cat", "/data/below/within"], "found\n"),
                (&["cat", "/fixed/file"], "found\n"),
                (&["write", "/data/new", "text"], ""),
                (&["cat", "/fixed/below/within"], "found\n"),
            ] {
                if !can(words) {
                    continue;
                }
                let (code, logs) = guest(words)?;
                assert_eq!((code, logs.stdout.as_str()), (0, stdout), "{words:?}: {logs:?}");
            }
            for (words, report) in [
                (&["cat", "/etc/hosts"][..], None),
                (&["cat", "/data/../etc/hosts"], out("/data/../etc/hosts")),
                (&["cat", "/data/out"], out("/data/out")),
                (&["cat", "/data/absolute"], out("/data/absolute")),
                (&["cat", "/data/root/etc/hosts"], out("/data/root/etc/hosts")),
                (&["ls", "/data/root"], out("/data/root")),
                (&["ls", "/"], None),
                (&["write", "/fixed/file", "changed"], fixed("/fixed/file")),
                (&["rename", "/fixed/file", "/data/moved"], fixed("/fixed/file")),
                (&["rename", "/data/file", "/data/root/moved"], out("/data/root/moved")),
            ] {
                if !can(words) {
                    continue;
                }
                let (code, logs) = guest(words)?;
                assert_eq!((code, logs.stdout.as_str()), (1, ""), "{words:?}: {logs:?}");
                let has_reason = match report {
                    Some(report) => logs.stderr.contains(&report),
                    None => !logs.stderr.contains("denied: "),
                };
                assert!(has_reason, "{words:?}: {logs:?}");
            }
            assert_eq!(fs::read_to_string(volume.join("file"))?, "found\n");
        }
        assert_eq!(fs::read_to_string(volume.join("new"))?, "text\n");
        Ok(())
    })
}

#[test]
fn a_guest_of_wasi_03_has_the_granted_directories_alone_too() -> Result<()> {
    on_each_containerd(|node| {
        let volume = volume(node)?;
        let pod = node.run_pod(&Pod::new("files-p3").annotation(FILES, "/data=ro"))?;
        let image = node.image("hello-p3")?;
        // It takes each path as relative to its only directory.
        let guest = |words: &[&str]| {
            let container = Container::new(&number("files"), &image).args(words);
            run(&pod, container.mount(&volume, "/data"))
        };
        let (code, logs) = guest(&["cat", "/below/within"])?;
        assert_eq!((code, logs.stdout.as_str()), (0, "found\n"), "{logs:?}");
        let (out, fixed) = ("it leads out of the granted directory", "it may only be read");
        for (words, reason) in [
            (&["cat", "/out"][..], out),
            (&["cat", "/absolute"], out),
            (&["cat", "/../etc/passwd"], out),
            (&["write", "/file", "changed"], fixed),
            (&["rename", "/file", "/moved"], fixed),
        ] {
            let (code, logs) = guest(words)?;
            assert_eq!((code, logs.stdout.as_str()), (1, ""), "{words:?}: {logs:?}");
            assert!(logs.stderr.contains("NotPermitted"), "{words:?}: {logs:?}");
            let report = format!("denied: file \"/data/{}\": {reason}", &words[1][1..]);
            assert!(logs.stderr.contains(&report), "no {report} in {words:?}: {logs:?}");
        }
        assert_eq!(fs::read_to_string(volume.join("file"))?, "found\n");
        Ok(())
    })
}

#[test]
fn a_granted_directory_that_a_link_leads_to_is_refused() -> Result<()> {
    on_each_containerd(|node| {
        let volume = volume(node)?;
        let pod = node.run_pod(&Pod::new("linked").annotation(FILES, "/data/root=ro"))?;
        let container = Container::new("app", &node.image("hello")?).args(&["ls", "/data/root"]);
        let (code, logs) = run(&pod, container.mount(&volume, "/data"))?;
        assert_ne!(code, 0, "{logs:?}");
        let expected = format!("cannot open the granted directory \"/data/root\" ({FILES})");
        assert!(logs.stderr.contains(&expected), "{logs:?}");
        assert!(logs.stderr.contains("a link leads to it"), "{logs:?}");
        Ok(())
    })
}

/// A link in a volume leads the runtime no farther than the guest.
#[test]
fn the_runtime_s_own_files_are_not_where_a_guest_has_led_them() -> Result<()> {
    on_each_containerd(|node| {
        let (volume, image) = (volume(node)?, node.image("hello-keyvalue")?);
        symlink("../elsewhere", volume.join("linked"))?;
        let elsewhere = node.volume("elsewhere")?;
        for (name, store, status) in
            [("own", "/data/store", 200), ("led", "/data/linked/store", 500)]
        {
            let pod = Pod::new(name).annotation(FILES, "/data=rw");
            let pod = node.run_pod(&pod.annotation("wasmtime.shim/keyvalue", store))?;
            let server = Container::new("server", &image).mount(&volume, "/data");
            let server = pod.run(&server.mount(&elsewhere, "/elsewhere"))?;
            let answer = pod.http_get(PORT, "/")?;
            assert_eq!(answer.status, status, "{name}: {}", answer.body);
            if status == 500 {
                assert!(answer.body.contains("AccessDenied"), "{}", answer.body);
                server.wait_for_error("a link leads to it, which is not followed")?;
            }
        }
        assert_eq!(fs::read_dir(&elsewhere)?.count(), 0);

        let image = node.image("hello-config")?;
        let config = node.volume("configuration")?;
        fs::create_dir(config.join("..one"))?;
        fs::write(config.join("..one/greeting"), "hello")?;
        symlink("..one", config.join("..data"))?;
        let pod = Pod::new("config").annotation(FILES, "/config=rw");
        let pod = node.run_pod(&pod.annotation("wasmtime.shim/config", "/config"))?;
        let ask = |key: &str| {
            let container = Container::new(&number("config"), &image).args(&[key]);
            run(&pod, container.mount(&config, "/config"))
        };
        assert_eq!(ask("greeting")?.1.stdout, "hello\n");
        fs::remove_file(config.join("..data"))?;
        symlink("../etc", config.join("..data"))?;
        let (code, logs) = ask("hostname")?;
        assert_eq!((code, logs.stdout.as_str()), (1, ""), "{logs:?}");
        assert!(logs.stderr.contains("a link leads to it"), "{logs:?}");
        Ok(())
    })
}
