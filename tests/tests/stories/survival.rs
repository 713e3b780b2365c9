//! Survival: whichever process is killed, and in any order, the others keep running, and nothing outlives its Pod.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tests::processes::{self, Process};
use tests::wait::{self, SOON};
use tests::{Container, Node, Pod, RunningContainer, RunningPod, on_each_containerd};

mod cgroups;
mod steps;

/// A Pod with a server that has answered once.
fn serving(node: &Node) -> Result<(RunningPod<'_>, RunningContainer<'_>)> {
    let pod = node.run_pod(&Pod::new("survivor"))?;
    let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
    assert_eq!(pod.http_get(crate::pod::PORT, "/")?.status, 200);
    Ok((pod, server))
}

/// Zygote of a shim.
pub fn zygote(shim: &Process) -> Result<Process> {
    let family = processes::family(shim);
    let zygote = family.iter().find(|process| process.name == "wasmtime-zygote");
    zygote.cloned().with_context(|| format!("no zygote in {family:?}"))
}

/// Kills a process, and waits for its end.
pub fn kill(process: &Process) -> Result<()> {
    process.kill(Signal::SIGKILL)?;
    wait::until(SOON, &format!("{process:?} to end"), || {
        Ok(Process::at(process.pid).is_none().then_some(()))
    })
}

#[test]
fn a_killed_guest_is_exit_code_137() -> Result<()> {
    on_each_containerd(|node| {
        let (pod, server) = serving(node)?;
        kill(&server.process()?)?;
        assert_eq!(server.wait()?.code, 137);
        let next = pod.run(&Container::new("server", &node.image("hello-http")?).attempt(1))?;
        assert_eq!(pod.http_get(crate::pod::PORT, "/")?.status, 200);
        assert!(next.is_running()?);
        Ok(())
    })
}

#[test]
fn a_pod_whose_shim_was_killed_can_be_removed() -> Result<()> {
    on_each_containerd(|node| {
        let (pod, _) = serving(node)?;
        kill(&pod.shim()?)?;
        pod.stop()?;
        pod.remove_in_the_end()
    })
}

#[test]
fn a_linux_pod_whose_shim_was_killed_can_be_removed() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("survivor"))?;
        let script = "echo ready; sleep 1000 & sleep 1000";
        let app = pod.run(&Container::shell("app", &node.image("linux")?, script))?;
        app.wait_for_output("ready")?;
        kill(&pod.shim()?)?;
        pod.stop()?;
        pod.remove_in_the_end()
    })
}

#[test]
fn a_pod_whose_zygote_was_killed_can_be_removed() -> Result<()> {
    on_each_containerd(|node| {
        let (pod, server) = serving(node)?;
        kill(&zygote(&pod.shim()?)?)?;
        assert_eq!(pod.http_get(crate::pod::PORT, "/")?.status, 200);
        assert!(server.is_running()?);
        pod.stop()?;
        pod.remove()
    })
}

#[test]
fn a_killed_zygote_is_replaced_when_the_pod_has_more_to_do() -> Result<()> {
    on_each_containerd(|node| {
        let (pod, server) = serving(node)?;
        let hello = node.image("hello")?;
        for attempt in 0..3 {
            let killed = zygote(&pod.shim()?)?;
            kill(&killed)?;
            let next = pod.run(&Container::new("next", &hello).attempt(attempt))?;
            assert_eq!(next.wait()?.code, 0);
            assert_eq!(next.logs()?.stdout, "hello from wasi\n");
            let grants = server.exec(&["grants"])?.success()?;
            assert!(grants.stdout.contains("user"), "{grants:?}");
            let another = zygote(&pod.shim()?)?;
            assert!(another.parent == killed.parent && another.pid != killed.pid);
        }
        assert_eq!(pod.http_get(crate::pod::PORT, "/")?.status, 200);
        // It ends with the shim as the first does.
        kill(&pod.shim()?)?;
        pod.stop()?;
        pod.remove_in_the_end()
    })
}

#[test]
fn a_pod_whose_pause_was_killed_can_be_removed() -> Result<()> {
    on_each_containerd(|node| {
        let (pod, server) = serving(node)?;
        kill(&pod.process()?)?;
        server.stop(Duration::from_secs(20))?;
        pod.stop()?;
        pod.remove()
    })
}

#[test]
fn guests_serve_on_while_containerd_is_restarted() -> Result<()> {
    on_each_containerd(|node| {
        let (pod, server) = serving(node)?;
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            node.end_containerd(signal)?;
            assert_eq!(pod.http_get(crate::pod::PORT, "/")?.status, 200, "without containerd");
            node.start_containerd()?;
            assert!(server.is_running()?, "after {signal}");
            assert_eq!(pod.http_get(crate::pod::PORT, "/")?.status, 200, "after {signal}");
        }
        assert_eq!(server.stop(Duration::from_secs(60))?.code, 0);
        Ok(())
    })
}

#[test]
fn a_linux_container_lives_on_while_containerd_is_restarted() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("survivor"))?;
        let script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.1; done";
        let app = pod.run(&Container::shell("app", &node.image("linux")?, script))?;
        app.wait_for_output("ready")?;
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            node.end_containerd(signal)?;
            node.start_containerd()?;
            assert!(app.is_running()?, "after {signal}");
        }
        assert_eq!(app.stop(Duration::from_secs(60))?.code, 5);
        Ok(())
    })
}

#[test]
fn the_end_of_a_guest_is_noticed_after_a_restart_of_containerd() -> Result<()> {
    on_each_containerd(|node| {
        let (_pod, server) = serving(node)?;
        let process = server.process()?;
        node.end_containerd(Signal::SIGKILL)?;
        kill(&process)?;
        node.start_containerd()?;
        assert_eq!(server.wait()?.code, 137);
        Ok(())
    })
}
