//! Linux programs, compared with what the node's default handler makes of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use containerd_shim_protos::api::CreateTaskRequest;
use tests::ctr::Run;
use tests::shim::Bundle;
use tests::wait::{self, SOON};
use tests::{Container, Node, Pod, on_each_containerd};

use crate::shim::{ends, granted};

mod runtime;
mod users;
mod volumes;

const SIGTERM: u32 = 15;

/// Script that prints the isolation of a program, without numbers that differ between containers: its variables, rights and
/// limits, its network's loopback, devices and mounts, and what it may do with them.
const LOOK: &str = "
    echo home=$HOME path=$PATH; umask; id; cat /sys/class/net/lo/flags;

    grep -E '^(Umask|Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status;
    cat /proc/self/limits /proc/self/oom_score_adj /proc/1/comm; ls /proc/self/fd | wc -l;
    for each in $(ls /dev); do echo $each $(stat -c '%F %a %u %t %T' /dev/$each); done;
    while read id parent device root point options rest; do
        echo $point $options ${rest%%[ :]*} ${rest##*- };
    done < /proc/self/mountinfo | sed 's/ [^ ]*dir=.*//; s/ [a-z]*=[^ ]*//g';
    mknod /tmp/null c 1 3 && echo > /tmp/null && echo made;
    mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk;
    mount -t tmpfs none /tmp; hostname other; echo 1 > /proc/sys/kernel/panic; cat /proc/kcore | head -c 1;
    for each in /proc/self/ns/*; do readlink $each | cut -d: -f1; done";

/// Output of a script under a handler, with its errors.
fn printed(node: &Node, handler: &str, flags: &[&str], script: &str) -> Result<String> {
    let run = Run::new(&node.ctr_image("linux")?).handler(handler).flags(flags);
    let script = format!("exec 2>&1; {script}");
    Ok(node.ctr.run_container(&run.command(&["sh", "-c", &script]))?.stdout)
}

#[test]
fn a_program_finds_what_it_finds_under_runc() -> Result<()> {
    on_each_containerd(|node| {
        let flags: [&[&str]; 4] = [&[], &["--net-host"], &["--privileged"], &["--read-only"]];
        for flags in flags {
            let [ours, runcs] = [&*tests::spec::handler(), "runc"]
                .map(|handler| printed(node, handler, flags, LOOK));
            let (ours, runcs) = (ours?, runcs?);
            assert!(runcs.contains("home=/") && runcs.contains("CapBnd"), "{runcs}");
            assert_eq!(ours, runcs, "{flags:?}");
        }
        Ok(())
    })
}

#[test]
fn a_program_of_a_pod_finds_what_it_finds_under_runc() -> Result<()> {
    on_each_containerd(|node| {
        let [ours, runcs] = [&*tests::spec::handler(), "runc"].map(|handler| {
            let pod = node.run_pod(&Pod::new(&format!("look-{handler}")).handler(handler))?;
            let linux = node.image("linux")?;
            let look = |name| Container::shell(name, &linux, LOOK).memory_limit(64 << 20);
            let first = pod.run(&look("first").runtime_default_seccomp())?;
            let user = pod.run(&look("user").user(1000, 2000))?;
            first.wait()?;
            user.wait()?;
            let other = pod.run(&Container::shell("other", &linux, "sleep 1000"))?;
            let executed = other.exec(&["sh", "-c", LOOK])?.stdout;
            let text = format!("{}{}{executed}", first.logs()?.stdout, user.logs()?.stdout);
            Ok(text.replace(&pod.id, "POD")) as Result<String>
        });
        assert_eq!(ours?, runcs?);
        Ok(())
    })
}

#[test]
fn containers_of_a_pod_that_shares_processes_see_each_other() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("shared").shared_processes())?;
        let linux = node.image("linux")?;
        let app = Container::shell("app", &linux, "exec sleep 1234").shared_processes();
        let app = pod.run(&app)?;
        let other = Container::shell("other", &linux, "ps; exec sleep 1000").shared_processes();
        let other = pod.run(&other)?;
        other.wait_for_output("sleep 1234")?;
        assert!(other.logs()?.stdout.contains("pause"), "{:?}", other.logs()?);
        assert!(other.exec(&["ps"])?.stdout.contains("sleep 1234"));
        other.stop(Duration::from_secs(1))?;
        assert!(app.is_running()?, "it was ended with the other");
        Ok(())
    })
}

#[test]
fn start_answers_when_a_program_is_executed_and_it_ends_by_the_first_signal() -> Result<()> {
    for _ in 0..30 {
        let bundle = Bundle::shell("trap 'exit 5' TERM; while :; do sleep 0.01; done")?;
        let shim = bundle.start()?;
        let pid = granted(shim.create(&bundle.create_request()))?;
        granted(shim.start(&bundle.id))?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm"))?;
        assert_eq!(name, "sh\n", "the program is not executed yet");
        // The kernel drops signals to the first process of a namespace before it has a handler.
        wait::until(SOON, "the shell's trap", || {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
            let caught = u64::from_str_radix(caught.unwrap_or("0").trim(), 16)?;
            let is_set = caught & 1 << (SIGTERM - 1) != 0;
            Ok((is_set && status.starts_with("Name:\tsh\n")).then_some(()))
        })?;
        granted(shim.kill(&bundle.id, SIGTERM))?;
        assert_eq!(granted(shim.wait(&bundle.id))?, 5);
        granted(shim.delete(&bundle.id))?;
        ends(&shim, &bundle)?;
        bundle.close()?;
    }
    Ok(())
}

/// Directory in which runc keeps the state of a bundle's container.
pub fn state(bundle: &Bundle) -> PathBuf {
    Path::new("/run/containerd/runc/tests").join(&bundle.id)
}

/// Runs the container of a request to its end and returns its exit code.
fn runs(bundle: &Bundle, request: &CreateTaskRequest) -> Result<u32> {
    let shim = bundle.start()?;
    granted(shim.create(request))?;
    granted(shim.start(&bundle.id))?;
    let code = granted(shim.wait(&bundle.id))?;
    granted(shim.delete(&bundle.id))?;
    ends(&shim, bundle)?;
    Ok(code)
}
