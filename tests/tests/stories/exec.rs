//! Exec processes: by hand, by probes and by hooks.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;
use tests::shim::Bundle;
use tests::wait::{self, SOON};
use tests::{Container, Pod, on_each_containerd, processes};

use crate::compiling::{guest, says_after};
use crate::shim::{ends, granted};

mod guests;
mod streams;

/// Script of a Linux container that runs until it is stopped.
const FOREVER: &str = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done";

#[test]
fn a_command_is_executed_in_a_linux_container() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("exec"))?;
        let app = Container::shell("app", &node.image("linux")?, FOREVER)
            .env("COLOUR", "green")
            .working_dir("/www")
            .user(1000, 2000);
        let app = pod.run(&app)?;
        app.wait_for_output("ready")?;
        let script = "echo $COLOUR; pwd; id -u; id -g; echo to stderr >&2; exit 3";
        let output = app.exec(&["sh", "-c", script])?;
        assert_eq!(output.stdout, "green\n/www\n1000\n2000\n");
        assert_eq!((output.stderr.as_str(), output.code), ("to stderr\n", 3));
        // The same processes, files and host name.
        let seen =
            app.exec(&["sh", "-c", "hostname; cat /proc/1/comm; touch /tmp/made && ls /tmp"]);
        assert_eq!(seen?.stdout, "exec\nsh\nmade\n");
        assert!(app.is_running()?);
        Ok(())
    })
}

#[test]
fn what_is_executed_has_no_more_rights_than_the_container() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("rights"))?;
        let status = "grep -E '^(CapBnd|CapEff|CapPrm|NoNewPrivs|Seccomp):' /proc/self/status; \
                      grep -c . /proc/self/cgroup; cat /proc/self/cgroup; umask; ls /proc/self/fd | wc -l";
        let script = format!("{{ {status}; }} > /tmp/first; {FOREVER}");
        let app = Container::shell("app", &node.image("linux")?, &script).runtime_default_seccomp();
        let app = pod.run(&app)?;
        app.wait_for_output("ready")?;
        let first = app.exec(&["cat", "/tmp/first"])?.success()?.stdout;
        assert!(first.contains("Seccomp:\t2"), "{first}");
        let executed = app.exec(&["sh", "-c", status])?.success()?.stdout;
        assert_eq!(executed, first);
        Ok(())
    })
}

#[test]
fn a_filter_of_system_calls_holds_for_another_user_too() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("user"))?;
        let app = Container::shell("app", &node.image("linux")?, FOREVER).user(1000, 2000);
        let app = pod.run(&app.runtime_default_seccomp())?;
        app.wait_for_output("ready")?;
        let status = app.exec(&["grep", "Seccomp:", "/proc/self/status"])?.success()?.stdout;
        assert_eq!(status, "Seccomp:\t2\n");
        Ok(())
    })
}

#[test]
fn a_container_that_sets_a_trap_does_not_keep_a_guest_that_is_executed_in_it() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("trap"))?;
        let volume = node.volume("tools")?;
        let hello = tests::containerd::repository().join("target/images/hello.wasm");
        fs::copy(hello, volume.join("hello.wasm"))?;
        let script = format!("rm -f /etc/passwd; mkdir -p /etc; mkfifo /etc/passwd; {FOREVER}");
        let app = Container::shell("app", &node.image("linux")?, &script);
        let app = pod.run(&app.readonly_mount(&volume, "/tools"))?;
        app.wait_for_output("ready")?;
        assert_eq!(app.exec(&["/tools/hello.wasm"])?.success()?.stdout, "hello from wasi\n");
        Ok(())
    })
}

#[test]
fn what_cannot_be_executed_is_named() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("typo"))?;
        let app = pod.run(&Container::shell("app", &node.image("linux")?, FOREVER))?;
        let error = app.exec(&["/no/such/program"]).expect_err("there is nothing to execute");
        assert!(format!("{error:#}").contains("/no/such/program"), "{error:#}");
        app.stop(Duration::from_secs(10))?;
        let error = app.exec(&["true"]).expect_err("it has ended");
        assert!(
            format!("{error:#}").contains("not running") || format!("{error:#}").contains("EXITED")
        );
        Ok(())
    })
}

#[test]
fn what_is_executed_too_long_is_killed() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("slow"))?;
        let app = pod.run(&Container::shell("app", &node.image("linux")?, FOREVER))?;
        let start = Instant::now();
        let error = app.exec_within(Duration::from_secs(1), &["sleep", "1000"]);
        let error = format!("{:#}", error.expect_err("its time is over"));
        assert!(error.contains("timeout") || error.contains("deadline"), "{error}");
        assert!(start.elapsed() < wait::patient(SOON));
        let ps = app.exec(&["ps"])?.stdout;
        assert!(!ps.contains("sleep 1000"), "{ps}");
        Ok(())
    })
}

#[test]
fn a_guest_is_executed_in_a_linux_container() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("both"))?;
        let volume = node.volume("tools")?;
        fs::copy(
            tests::containerd::repository().join("target/images/hello.wasm"),
            volume.join("hello.wasm"),
        )?;
        let app = Container::shell("app", &node.image("linux")?, FOREVER);
        let app = pod.run(&app.readonly_mount(&volume, "/tools"))?;
        let output = app.exec(&["/tools/hello.wasm", "args", "a", "b"])?;
        assert_eq!(output.success()?.stdout, "a\nb\n");
        Ok(())
    })
}

#[test]
fn a_start_that_compiles_for_longer_than_its_caller_waits_is_refused_with_the_reason() -> Result<()>
{
    let (bundle, tools) = (Bundle::shell("while :; do sleep 1; done")?, Bundle::shell("true")?);
    guest(&tools, 0, 10_000)?;
    bundle.edit_config(|config| {
        let files = tools.folder.join("files");
        let volume = json!({ "destination": "/tmp", "source": files, "options": ["rbind"] });
        config["mounts"].as_array_mut().expect("mounts").push(volume);
    })?;
    let (id, shim) = (bundle.id.as_str(), bundle.start()?);
    granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(id))?;
    granted(shim.exec(id, "slow", &["/tmp/app.wasm"]))?;
    let limit = Duration::from_secs(2);
    let refusal = shim.start_exec_within(limit, id, "slow").expect_err("is refused");
    assert!(says_after(&refusal, "still being compiled after", limit), "{refusal:?}");
    granted(shim.kill(id, 9))?;
    granted(shim.wait(id))?;
    granted(shim.delete(id))?;
    ends(&shim, &bundle)?;
    bundle.close()?;
    tools.close()
}

#[test]
fn a_thousand_executions_leave_nothing_behind() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("probed"))?;
        let app = pod.run(&Container::shell("app", &node.image("linux")?, FOREVER))?;
        let guest = Container::new("guest", &node.image("hello")?).args(&["sleep", "1000"]);
        let guest = pod.run(&guest)?;
        let shim = pod.shim()?;
        let held = || -> Result<[usize; 3]> {
            let fds = fs::read_dir(format!("/proc/{}/fd", shim.pid))?.count();
            let family = processes::family(&shim);
            let threads = family.iter().filter_map(|process| process.threads().ok()).sum::<u64>();
            Ok([fds, threads as usize, family.len()])
        };
        let execute = || -> Result<()> {
            app.exec(&["true"])?.success()?;
            guest.exec(&["env"])?.success().map(drop)
        };
        execute()?;
        let is_idle = || -> Result<bool> { Ok(shim.threads()? == 1) };
        let before = wait::until(SOON, "the shim to be idle", || {
            let held = if is_idle()? { Some(held()?) } else { None };
            Ok(if is_idle()? { held } else { None })
        })?;
        for _ in 0..500 {
            execute()?;
        }
        wait::until(SOON, "what was executed to be gone", || Ok((held()? == before).then_some(())))
    })
}
