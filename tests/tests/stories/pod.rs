//! Pods of WASI guests, alone, beside each other and beside Linux containers.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow};
use tests::wait::{self, EVENTUALLY};
use tests::{Container, Node, Pod, RunningPod, on_each_containerd};

/// The port of a guest that serves HTTP.
pub const PORT: u16 = 8080;

/// Variable with another address to serve at.
pub const LISTEN: &str = "WASMTIME_HTTP_PROXY_SOCKET_ADDR";

#[test]
fn a_log_is_rotated_under_a_container() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("rotated"))?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let say = |word: &str| pod.http_get(PORT, &format!("/log?text={word}")).map(drop);
        say("before")?;
        server.wait_for_output("stdout: before\n")?;
        server.rotate_log()?;
        say("after")?;
        server.wait_for_output("stdout: after\n")?;
        assert!(!server.logs()?.stdout.contains("before"), "{:?}", server.logs()?);
        Ok(())
    })
}

#[test]
fn the_root_of_a_pause_is_not_mounted_and_nothing_is_made_there() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("rootless"))?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let bundles = node.bundles_of("k8s.io");
        let root = bundles.join(&pod.id).join("rootfs");
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let is_mounted = |id: &str| {
            let root = bundles.join(id).join("rootfs");
            mounts.lines().any(|line| line.split(' ').nth(4) == root.to_str())
        };
        assert!(is_mounted(&server.id), "{mounts}");
        assert!(!is_mounted(&pod.id), "{mounts}");
        assert_eq!(fs::read_dir(&root)?.count(), 0);
        let pause = pod.process()?;
        let inside = fs::read_dir(format!("/proc/{}/root", pause.pid))?.count();
        assert_eq!(inside, 0);
        pod.stop()?;
        pod.remove()?;
        assert!(!bundles.join(&pod.id).exists());
        Ok(())
    })
}

#[test]
fn a_pod_holds_a_linux_container_a_command_and_a_server() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("three"))?;
        let sidecar = Container::shell("sidecar", &node.image("linux")?, "echo linux; sleep 1000");
        let sidecar = pod.run(&sidecar)?;
        let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
        let command = pod.run(&Container::new("command", &node.image("hello")?))?;

        let answer = pod.http_get(PORT, "/")?;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello from wasi:http\n"));
        let exit = command.wait()?;
        assert_eq!((exit.code, exit.reason.as_str()), (0, "Completed"));
        assert_eq!(command.logs()?.stdout, "hello from wasi\n");
        sidecar.wait_for_output("linux\n")?;

        assert!(server.is_running()? && sidecar.is_running()?);
        pod.stop()?;
        assert!(!server.is_running()? && !sidecar.is_running()?);
        pod.remove()
    })
}

#[test]
fn the_sidecar_reaches_the_guest_on_loopback() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("neighbours"))?;
        let server = Container::new("server", &node.image("hello-http")?).env("COLOUR", "green");
        pod.run(&server)?;
        pod.http_get(PORT, "/")?;
        let script = "wget -q -O - http://127.0.0.1:8080/env/COLOUR";
        let client = pod.run(&Container::shell("client", &node.image("linux")?, script))?;
        assert_eq!(client.wait()?.code, 0, "{:?}", client.logs()?);
        assert!(client.logs()?.stdout.starts_with("green"));
        Ok(())
    })
}

#[test]
fn a_container_is_restarted_in_a_living_pod() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("restarts"))?;
        let container = Container::new("app", &node.image("hello")?).args(&["exit", "1"]);
        let first = pod.run(&container)?;
        assert_eq!(first.wait()?.code, 1);
        let second = pod.run(&container.args(&["args", "again"]).attempt(1))?;
        first.remove()?;
        assert_eq!(second.wait()?.code, 0);
        assert_eq!(second.logs()?.stdout, "again\n");
        Ok(())
    })
}

#[test]
fn an_init_container_prepares_what_the_app_reads() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("init"))?;
        let volume = node.volume("scratch")?;
        let hello = node.image("hello")?;
        let init = Container::new("init", &hello).args(&["write", "/scratch/made", "by init"]);
        let init = pod.run(&init.mount(&volume, "/scratch"))?;
        assert_eq!(init.wait()?.code, 0, "{:?}", init.logs()?);

        let app = Container::new("app", &hello).args(&["cat", "/scratch/made"]);
        let app = pod.run(&app.readonly_mount(&volume, "/scratch"))?;
        assert_eq!(app.wait()?.code, 0, "{:?}", app.logs()?);
        assert_eq!(app.logs()?.stdout, "by init\n");
        Ok(())
    })
}

#[test]
fn twenty_pods_serve_at_once() -> Result<()> {
    on_each_containerd(|node| {
        let image = node.image("hello-http")?;
        twenty_at_once(node, &|pod| {
            pod.run(&Container::new("server", &image))?;
            let answer = pod.http_get(PORT, "/")?;
            assert_eq!(answer.body, "hello from wasi:http\n");
            Ok(())
        })
    })
}

/// How many Pods are on the node at once.
const COUNT: usize = 20;

/// Runs twenty Pods side by side, with the story in each, and removes them when all have ended.
pub fn twenty_at_once(
    node: &Node,
    story: &(dyn Fn(&RunningPod<'_>) -> Result<()> + Sync),
) -> Result<()> {
    let told = AtomicUsize::new(0);
    let one = |name: String| {
        let pod = node.run_pod(&Pod::new(&name))?;
        story(&pod)?;
        told.fetch_add(1, Ordering::Relaxed);
        wait::until(EVENTUALLY, "the other Pods", || {
            Ok((told.load(Ordering::Relaxed) == COUNT).then_some(()))
        })?;
        pod.stop()?;
        pod.remove()
    };
    thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> =
            (0..COUNT).map(|n| scope.spawn(move || one(format!("pod-{n}")))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| anyhow!("a Pod's story went wrong"))?
        })
    })
}

#[test]
fn a_server_of_wasi_03_answers_beside_a_linux_container_and_streams_both_ways() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("p3"))?;
        let sidecar = Container::shell("sidecar", &node.image("linux")?, "echo linux; sleep 1000");
        let sidecar = pod.run(&sidecar)?;
        let server = pod.run(&Container::new("server", &node.image("hello-http-p3")?))?;

        let answer = pod.http_get(PORT, "/")?;
        assert_eq!((answer.status, answer.body.as_str()), (200, "hello from WASI 0.3\n"));

        let text: String = (0..100_000).map(|line| format!("line {line}\n")).collect();
        let file = node.volume("p3")?.join("body");
        std::fs::write(&file, &text)?;
        let answer = pod.http_post(PORT, "/echo", &file)?;
        assert_eq!(answer.status, 200);
        assert!(answer.body == text, "{} of {} bytes came back", answer.body.len(), text.len());

        sidecar.wait_for_output("linux\n")?;
        assert!(server.is_running()?, "{:?}", server.logs()?);
        pod.stop()?;
        assert!(!server.is_running()?);
        pod.remove()
    })
}
