//! The interfaces that a guest gets because it imports them: configuration, log lines, a key-value store, inference,
//! and TLS.

mod nn;
mod redis;
mod tls;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::containerd::{repository, wasm_image};
use tests::{Container, Pod, RunningPod, command, on_each_containerd};

use crate::pod::PORT;

/// The annotation that names the directory of the configuration.
const CONFIG: &str = "wasmtime.shim/config";

/// The annotation that names the store.
const KEYVALUE: &str = "wasmtime.shim/keyvalue";

/// Changes a directory as kubelet changes that of a ConfigMap.
fn publish(directory: &Path, version: &str, values: &[(&str, &[u8])]) -> Result<()> {
    let made = directory.join(version);
    fs::create_dir(&made)?;
    for (key, value) in values {
        fs::write(made.join(key), value)?;
        if !directory.join(key).is_symlink() {
            symlink(format!("..data/{key}"), directory.join(key))?;
        }
    }
    symlink(version, directory.join("..data_tmp"))?;
    let before = fs::read_link(directory.join("..data"));
    fs::rename(directory.join("..data_tmp"), directory.join("..data"))?;
    if let Ok(before) = before {
        fs::remove_dir_all(directory.join(before))?;
    }
    Ok(())
}

/// The exit code of a guest, what it prints, and its stderr.
fn run(pod: &RunningPod<'_>, container: &Container) -> Result<(i32, String, String)> {
    let container = pod.run(container)?;
    let (exit, logs) = (container.wait()?, container.logs()?);
    Ok((exit.code, logs.stdout, logs.stderr))
}

#[test]
fn a_guest_has_its_configuration_from_the_environment() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("environment"))?;
        let image = node.image("hello-config")?;
        let ask = |name: &str, keys: &[&str]| {
            run(&pod, &Container::new(name, &image).env("COLOUR", "blue").args(keys))
        };
        let (code, stdout, stderr) = ask("all", &[])?;
        assert_eq!((code, stderr.as_str()), (0, ""));
        assert!(stdout.lines().any(|line| line == "COLOUR=blue"), "{stdout}");
        assert_eq!(ask("one", &["COLOUR"])?, (0, "blue\n".into(), String::new()));
        let (code, _, stderr) = ask("none", &["SHAPE"])?;
        assert!(code == 1 && stderr.contains("there is no \"SHAPE\""), "{stderr}");
        Ok(())
    })
}

#[test]
fn a_guest_sees_a_configmap_change_and_no_file_that_is_no_key() -> Result<()> {
    on_each_containerd(|node| {
        let (image, volume) = (node.image("hello-config")?, node.volume("configmap")?);
        publish(&volume, "..one", &[("greeting", b"hello"), ("binary", b"\xff\xfe")])?;
        let pod = node.run_pod(&Pod::new("configmap").annotation(CONFIG, "/etc/config"))?;
        let guest = |name: &str, args: &[&str]| {
            Container::new(name, &image).readonly_mount(&volume, "/etc/config").args(args)
        };
        let follower = pod.run(&guest("follower", &["follow", "greeting"]))?;
        follower.wait_for_output("hello\n")?;
        let (code, _, stderr) = run(&pod, &guest("binary", &["binary"]))?;
        let reason = "upstream: the value of \"binary\" is not UTF-8";
        assert!(code == 1 && stderr.contains(reason), "{stderr}");
        let (code, _, stderr) = run(&pod, &guest("outside", &["../passwd"]))?;
        let reason = "upstream: \"../passwd\" is no key; a key is up to 253 letters";
        assert!(code == 1 && stderr.contains(reason), "{stderr}");

        publish(&volume, "..two", &[("greeting", b"good day"), ("other", b"1")])?;
        follower.wait_for_output("good day\n")?;
        let (code, stdout, stderr) = run(&pod, &guest("all", &[]))?;
        assert_eq!((code, stdout.as_str()), (0, "greeting=good day\nother=1\n"), "{stderr}");

        let elsewhere = node.run_pod(&Pod::new("elsewhere").annotation(CONFIG, "/nowhere"))?;
        let (code, _, stderr) = run(&elsewhere, &guest("app", &["greeting"]))?;
        let reason = "io: cannot read /nowhere: No such file or directory";
        assert!(code == 1 && stderr.contains(reason), "{stderr}");
        Ok(())
    })
}

#[test]
fn each_message_of_a_guest_is_a_line_of_json_that_it_cannot_forge() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("logging"))?;
        let forged = "done\n{\"level\":\"critical\",\"context\":\"\",\"message\":\"\u{1b}[31m\"}";
        let long = "x".repeat(100_000);
        let guest = Container::new("app", &node.image("hello-logging")?);
        let guest = guest.env("LEVEL", "warn").env("CONTEXT", "orders").args(&[forged, &long]);
        let (code, stdout, stderr) = run(&pod, &guest)?;
        assert_eq!((code, stdout.as_str()), (0, ""));
        let lines: Vec<Value> =
            stderr.lines().map(serde_json::from_str).collect::<Result<_, _>>().context(stderr)?;
        assert_eq!(lines.len(), 2);
        let first = json!({"level": "warn", "context": "orders", "message": forged});
        assert_eq!(lines[0], first);
        let message = lines[1]["message"].as_str().context("no message")?;
        assert_eq!(lines[1]["cut_bytes"], 100_000 - message.len());
        Ok(())
    })
}

/// What the store's server answers.
fn ask(pod: &RunningPod<'_>, method: &str, path: &str, body: &str) -> Result<(u16, String)> {
    let flags = ["-X", method, "--data-binary", body];
    let answer = pod.http_get_with(PORT, path, &flags)?;
    Ok((answer.status, answer.body))
}

fn said(status: u16, text: &str) -> (u16, String) {
    (status, text.to_owned())
}

fn keeps_entries_and_gives_them_back(pod: &RunningPod<'_>) -> Result<()> {
    assert_eq!(ask(pod, "POST", "/a", "one")?, said(200, "kept\n"));
    assert_eq!(ask(pod, "GET", "/a", "")?, said(200, "one"));
    assert_eq!(ask(pod, "DELETE", "/a", "")?, said(200, "deleted\n"));
    assert_eq!(ask(pod, "GET", "/a", "")?.0, 404);
    assert_eq!(ask(pod, "POST", "/?many=x,y", "")?, said(200, "kept\n"));
    assert_eq!(ask(pod, "GET", "/?many=x,z,y", "")?, said(200, "x\ny\n"));
    assert_eq!(ask(pod, "DELETE", "/?many=x,z", "")?, said(200, "deleted\n"));
    assert_eq!(ask(pod, "GET", "/", "")?, said(200, "y\n"));
    Ok(())
}

fn loses_nothing_of_four_clients(pod: &RunningPod<'_>) -> Result<()> {
    thread::scope(|scope| {
        let client = || -> Result<()> {
            for _ in 0..10 {
                assert_eq!(ask(pod, "POST", "/count?add=1", "")?.0, 200);
                assert_eq!(ask(pod, "POST", "/text?append=x", "")?.0, 200);
            }
            Ok(())
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(client)).collect();
        clients.into_iter().try_for_each(|it| it.join().expect("no panic"))
    })?;
    assert_eq!(ask(pod, "GET", "/count", "")?, said(200, "40"));
    assert_eq!(ask(pod, "GET", "/text", "")?, said(200, &"x".repeat(40)));
    Ok(())
}

fn goes_on_after_what_it_refuses(pod: &RunningPod<'_>) -> Result<()> {
    assert_eq!(ask(pod, "GET", "/?store=other", "")?, said(500, "Error::NoSuchStore\n"));
    let (status, text) = ask(pod, "POST", "/text?add=1", "")?;
    assert!(status == 500 && text.contains("no whole number"), "{text}");
    let long = "k".repeat(1025);
    let (status, text) = ask(pod, "POST", &format!("/{long}"), "")?;
    assert!(status == 500 && text.contains("at most 1024 are allowed"), "{text}");
    assert_eq!(ask(pod, "GET", "/?store=", "")?, said(200, "open\n"));
    Ok(())
}

#[test]
fn requests_share_the_store_of_their_container_and_lose_nothing() -> Result<()> {
    on_each_containerd(|node| {
        let (image, volume) = (node.image("hello-keyvalue")?, node.volume("store")?);
        for (name, file) in [("memory", None), ("file", Some("/data/store"))] {
            let pod = Pod::new(name);
            let pod = file.map_or(pod.clone(), |file| pod.annotation(KEYVALUE, file));
            let pod = node.run_pod(&pod)?;
            let server = pod.run(&Container::new("server", &image).mount(&volume, "/data"))?;
            keeps_entries_and_gives_them_back(&pod)?;
            loses_nothing_of_four_clients(&pod)?;
            goes_on_after_what_it_refuses(&pod)?;
            let stderr = server.logs()?.stderr;
            assert_eq!(stderr.matches("there is no store \"other\"").count(), 1, "{stderr}");
        }
        Ok(())
    })
}

#[test]
fn what_the_store_in_a_file_acknowledged_is_there_after_a_kill() -> Result<()> {
    on_each_containerd(|node| {
        let (image, volume) = (node.image("hello-keyvalue")?, node.volume("kept")?);
        let pod = node.run_pod(&Pod::new("kept").annotation(KEYVALUE, "/data/store"))?;
        let server = |attempt| {
            let server = Container::new("server", &image).attempt(attempt);
            pod.run(&server.mount(&volume, "/data"))
        };
        let mut acknowledged = 0;
        for attempt in 0..4 {
            let running = server(attempt)?;
            for number in 0..acknowledged {
                let (status, text) = ask(&pod, "GET", &format!("/{number}"), "")?;
                assert_eq!((status, text), (200, format!("value {number}")), "attempt {attempt}");
            }
            let process = running.process()?;
            let killer = thread::spawn(move || {
                thread::sleep(std::time::Duration::from_millis(300));
                process.kill(Signal::SIGKILL)
            });
            let begun = acknowledged;
            let set =
                |number: i32| ask(&pod, "POST", &format!("/{number}"), &format!("value {number}"));
            while !killer.is_finished() && matches!(set(acknowledged), Ok((200, _))) {
                acknowledged += 1;
            }
            killer.join().expect("no panic")?;
            assert_eq!(running.wait()?.code, 137);
            ensure!(acknowledged > begun, "nothing was kept before the kill");
        }
        let names: Vec<_> = fs::read_dir(&volume)?
            .map(|it| it.map(|it| it.file_name()))
            .collect::<Result<_, _>>()?;
        assert_eq!(names, ["store"]);
        Ok(())
    })
}

#[test]
fn a_file_that_cannot_be_the_store_is_the_interface_s_error_and_a_line_on_stderr() -> Result<()> {
    on_each_containerd(|node| {
        let (image, volume) = (node.image("hello-keyvalue")?, node.volume("refused")?);
        fs::write(volume.join("text"), "no store")?;
        for (name, file, is_writable, reason) in [
            ("text", "/data/text", true, "/data/text is no store, or damaged"),
            (
                "missing",
                "/data/missing/store",
                true,
                "/data/missing/store: No such file or directory",
            ),
            ("readonly", "/data/store", false, "/data/store: Read-only file system"),
        ] {
            let pod = node.run_pod(&Pod::new(name).annotation(KEYVALUE, file))?;
            let server = Container::new("server", &image);
            let server = pod.run(&match is_writable {
                true => server.mount(&volume, "/data"),
                false => server.readonly_mount(&volume, "/data"),
            })?;
            for _ in 0..2 {
                let (status, text) = ask(&pod, "GET", "/a", "")?;
                assert!(status == 500 && text.contains(reason), "{text}");
            }
            let stderr = server.logs()?.stderr;
            assert_eq!(stderr.matches(reason).count(), 1, "{stderr}");
        }
        assert_eq!(fs::read_to_string(volume.join("text"))?, "no store");

        let pod = node.run_pod(&Pod::new("two").annotation(KEYVALUE, "/data/store"))?;
        pod.run(&Container::new("first", &image).mount(&volume, "/data"))?;
        assert_eq!(ask(&pod, "POST", "/a", "1")?.0, 200);
        let second = Container::new("second", &image).mount(&volume, "/data");
        pod.run(&second.env(crate::pod::LISTEN, "0.0.0.0:9090"))?;
        let answer = pod.http_get(9090, "/a")?;
        assert_eq!(answer.status, 500);
        assert!(answer.body.contains("is open in another process"), "{}", answer.body);
        Ok(())
    })
}

#[test]
fn what_a_guest_imports_is_in_what_the_tool_says_of_its_image() -> Result<()> {
    for (image, need) in [
        ("hello-config", "config"),
        ("hello-logging", "logging"),
        ("hello-keyvalue", "keyvalue"),
        ("hello-tls", "tls"),
    ] {
        let archive = repository().join(format!("target/images/{image}.tar"));
        let output = command::run(
            wasm_image(),
            ["inspect", &archive.display().to_string(), "--format", "json"],
        )?;
        let report: Value = serde_json::from_str(&output.success()?.stdout)?;
        let text = report.to_string();
        assert!(text.contains(&format!("\"{need}\"")), "{text}");
        assert!(text.contains(&format!("wasi:{need}/")), "{text}");
    }
    Ok(())
}
