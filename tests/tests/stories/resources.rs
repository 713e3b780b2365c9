//! Resources: memory that runs out, changes of limits, and stats.

use std::fs;
use std::thread::{self, sleep};
use std::time::Duration;

use anyhow::Result;
use containerd_shim_protos::api::CreateTaskRequest;
use k8s_cri::v1::LinuxContainerResources;
use serde_json::json;
use tests::cgroups;
use tests::ctr::Run;
use tests::events::{Event, Events};
use tests::processes::family;
use tests::shim::Bundle;
use tests::wait::{self, SOON};
use tests::{Container, Node, Pod, RunningContainer, on_each_containerd};

use crate::compiling::guest;
use crate::shim::{ends, granted};

const MIB: i64 = 1 << 20;

/// As long as memory lasts.
const WITHOUT_BOUND: &str = "exec tail /dev/zero";

/// Script that uses more than 20 MiB, which cannot be reclaimed, as long as the shell lives.
const HOLDS_MEMORY: &str =
    "held=$(head -c 20971520 /dev/zero | tr '\\0' a); echo holding; while :; do sleep 1; done";

fn memory_limit(bytes: i64) -> LinuxContainerResources {
    LinuxContainerResources { memory_limit_in_bytes: bytes, ..Default::default() }
}

#[test]
fn a_linux_container_without_bound_is_oom_killed() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("oom"))?;
        let linux = node.image("linux")?;
        let container = Container::shell("app", &linux, WITHOUT_BOUND).memory_limit(32 * MIB);
        let exit = pod.run(&container)?.wait()?;
        assert_eq!((exit.code, exit.reason.as_str()), (137, "OOMKilled"));
        // Its neighbour's end has another reason.
        let container = Container::shell("other", &linux, "exit 137").memory_limit(32 * MIB);
        let exit = pod.run(&container)?.wait()?;
        assert_eq!((exit.code, exit.reason.as_str()), (137, "Error"));
        Ok(())
    })
}

/// Positions of kills and the exit among a container's events.
fn places(events: &[Event], topic: &str) -> Vec<usize> {
    let each = events.iter().enumerate();
    each.filter(|(_, event)| event.topic == topic).map(|(place, _)| place).collect()
}

#[test]
fn a_kill_for_memory_is_told_once_and_before_the_end() -> Result<()> {
    on_each_containerd(|node| {
        let mut events = Events::subscribe(node)?;
        let id = node.ctr.new_id();
        let limit = (32 * MIB).to_string();
        let run = Run::new(&node.ctr_image("linux")?)
            .flags(&["--memory-limit", &limit])
            .command(&["sh", "-c", WITHOUT_BOUND]);
        assert_eq!(node.ctr.run_container_as(&id, &run)?.code, 137);
        let told = events.of_life(&id)?;
        let (kills, end) = (places(&told, "/tasks/oom"), places(&told, "/tasks/exit"));
        assert_eq!((kills.len(), end.len()), (1, 1), "{told:?}");
        assert!(kills < end, "{told:?}");
        Ok(())
    })
}

#[test]
fn a_kill_within_a_container_that_lives_on_is_told_at_once() -> Result<()> {
    on_each_containerd(|node| {
        let mut events = Events::subscribe(node)?;
        let id = node.ctr.new_id();
        let limit = (32 * MIB).to_string();
        let run = Run::new(&node.ctr_image("linux")?)
            .flags(&["--memory-limit", &limit])
            .command(&["sh", "-c", "tail /dev/zero; while :; do sleep 1; done"]);
        node.ctr.run_detached(&id, &run)?.success()?;
        wait::until(SOON, "the kill to be told", || {
            Ok((!places(&events.so_far(&id)?, "/tasks/oom").is_empty()).then_some(()))
        })?;
        assert!(node.ctr.is(&id, "RUNNING")?, "it did not live on");
        remove(node, &id)
    })
}

/// Ends a detached container of `ctr` and removes it.
pub fn remove(node: &Node, id: &str) -> Result<()> {
    let ctr = |words: &[&str]| node.ctr.run("default", words)?.success();
    ctr(&["tasks", "kill", "--signal", "SIGKILL", id])?;
    wait::until(SOON, "the task to stop", || Ok(node.ctr.is(id, "STOPPED")?.then_some(())))?;
    node.ctr.run("default", &["tasks", "delete", id])?;
    ctr(&["containers", "delete", id])?;
    Ok(())
}

#[test]
fn a_guest_is_refused_memory_beyond_its_limit_and_told_how_to_have_more() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("memory"))?;
        let hello = node.image("hello")?;
        let run = |name: &str, args: &[&str]| {
            pod.run(&Container::new(name, &hello).args(args).memory_limit(96 * MIB))
        };
        let within = run("within", &["allocate", "16"])?;
        assert_eq!(within.wait()?.code, 0, "{:?}", within.logs()?);
        assert_eq!(within.logs()?.stderr, "");

        // It works with the memory that it has, and is not killed.
        let filling = run("filling", &["fill"])?;
        assert_eq!(filling.wait()?.code, 0, "{:?}", filling.logs()?);
        let logs = filling.logs()?;
        assert!(logs.stdout.ends_with("MiB and no more\n"), "{logs:?}");
        assert_eq!(logs.stderr.matches("resources.limits.memory").count(), 1, "{logs:?}");
        assert!(logs.stderr.contains("96 MiB"), "{logs:?}");

        // It cannot work with less, and aborts.
        let beyond = run("beyond", &["allocate", "512"])?;
        assert_eq!(beyond.wait()?.code, 134);
        assert!(beyond.logs()?.stderr.contains("resources.limits.memory"), "{:?}", beyond.logs()?);
        Ok(())
    })
}

#[test]
fn a_limit_that_is_raised_holds_for_what_runs_and_for_what_is_executed_later() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("raised"))?;
        let hello = node.image("hello")?;
        let run = |name: &str, args: &[&str]| {
            pod.run(&Container::new(name, &hello).args(args).memory_limit(96 * MIB))
        };
        let (filling, sleeping) =
            (run("filling", &["fill", "128"])?, run("asleep", &["sleep", "1000"])?);
        let allocate = ["/hello.wasm", "allocate", "128"];
        filling.wait_for_output("waiting with")?;
        assert_eq!(sleeping.exec(&allocate)?.code, 134);
        for container in [&filling, &sleeping] {
            node.cri.update(&container.id, memory_limit(256 * MIB))?;
        }
        assert_eq!(filling.wait()?.code, 0, "{:?}", filling.logs()?);
        assert!(filling.logs()?.stdout.ends_with("\n128 MiB\n"), "{:?}", filling.logs()?);
        sleeping.exec(&allocate)?.success().map(drop)
    })
}

#[test]
fn a_guest_that_is_executed_in_a_programs_container_hears_of_a_limit_that_is_raised() -> Result<()>
{
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("tools"))?;
        let volume = node.volume("tools")?;
        let guest = tests::containerd::repository().join("target/images/hello.wasm");
        fs::copy(guest, volume.join("hello.wasm"))?;
        let app = Container::shell("app", &node.image("linux")?, "exec sleep 1000");
        let app = pod.run(&app.readonly_mount(&volume, "/tools").memory_limit(96 * MIB))?;
        let shim = pod.shim()?;
        let output = thread::scope(|scope| {
            let filling = scope.spawn(|| app.exec(&["/tools/hello.wasm", "fill", "128"]));
            // It has used all that it may, and waits for more.
            let mut before = 0;
            wait::until(SOON, "the guest to be refused memory", || {
                sleep(Duration::from_millis(500));
                let family = family(&shim);
                let guest = family.iter().find(|process| process.name == "wasm");
                let now = guest.and_then(|it| it.memory().ok()).map_or(0, |memory| memory.rss);
                let is_full = now > 32 << 10 && now == std::mem::replace(&mut before, now);
                Ok(is_full.then_some(()))
            })?;
            node.cri.update(&app.id, memory_limit(256 * MIB))?;
            filling.join().expect("no panic")
        })?;
        assert!(output.stdout.starts_with("waiting with"), "{output:?}");
        assert!(output.success()?.stdout.ends_with("\n128 MiB\n"));
        Ok(())
    })
}

#[test]
fn a_limit_of_descriptors_is_the_programs_or_the_guests_alone() -> Result<()> {
    // runc itself needs some twenty in the container.
    let bundle = Bundle::shell("test $(ulimit -n) = 40 && exit 7")?;
    bundle.edit_config(|config| {
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 40, "hard": 40 }]);
    })?;
    ends_with(7, &bundle, &bundle.create_request())?;
    bundle.close()?;
    // A guest's are those of its process: where they do not suffice, it says so.
    let bundle = Bundle::shell("true")?;
    let mut request = guest(&bundle, 0, 1)?;
    let stderr = bundle.fifo("stderr")?;
    request.set_stderr(stderr.display().to_string());
    bundle.edit_config(|config| {
        config["process"]["rlimits"] = json!([{ "type": "RLIMIT_NOFILE", "soft": 4, "hard": 4 }]);
    })?;
    let told = thread::spawn(move || fs::read_to_string(stderr));
    ends_with(126, &bundle, &request)?;
    let told = told.join().expect("no panic")?;
    assert!(told.contains("Too many open files") && !told.contains("panicked"), "{told}");
    bundle.close()
}

/// Runs the container of a bundle to that end.
fn ends_with(code: u32, bundle: &Bundle, request: &CreateTaskRequest) -> Result<()> {
    let shim = bundle.start()?;
    granted(shim.create(request))?;
    granted(shim.start(&bundle.id))?;
    assert_eq!(granted(shim.wait(&bundle.id))?, code);
    granted(shim.delete(&bundle.id))?;
    ends(&shim, bundle)
}

#[test]
fn new_limits_are_in_force_at_once_for_either_kind() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("update"))?;
        let guest = Container::new("guest", &node.image("hello")?).args(&["sleep", "1000"]);
        let linux = Container::shell("linux", &node.image("linux")?, "exec sleep 1000");
        // runc before 1.3.2 makes a smaller weight of a program's shares.
        for (container, weights) in [(guest, &["59"][..]), (linux, &["59", "20"])] {
            let container = pod.run(&container.memory_limit(64 * MIB))?;
            for limit in [128 * MIB, 48 * MIB] {
                limits_become(node, &container, limit, weights)?;
            }
        }
        Ok(())
    })
}

/// Changes the limits of a container, and checks its cgroup. With v2, its shares become one of these weights.
fn limits_become(
    node: &Node,
    container: &RunningContainer<'_>,
    limit: i64,
    weights: &[&str],
) -> Result<()> {
    let resources = LinuxContainerResources {
        cpu_shares: 512,
        cpu_quota: 50_000,
        cpu_period: 200_000,
        ..memory_limit(limit)
    };
    node.cri.update(&container.id, resources)?;
    let pid = container.process()?.pid;
    let is = |v1: (&str, &str), v2: &str| cgroups::read(pid, v1, v2);
    assert_eq!(is(("memory", "memory.limit_in_bytes"), "memory.max")?, limit.to_string());
    let shares = is(("cpu", "cpu.shares"), "cpu.weight")?;
    assert!(shares == "512" || weights.contains(&shares.as_str()), "{shares}");
    let quota = is(("cpu", "cpu.cfs_quota_us"), "cpu.max")?;
    assert!(["50000", "50000 200000"].contains(&quota.as_str()), "{quota}");
    Ok(())
}

#[test]
fn a_limit_below_what_is_used_is_refused_with_the_numbers() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("lowered"))?;
        let guest = Container::new("guest", &node.image("hello")?).args(&["fill", "128"]);
        let program = Container::shell("app", &node.image("linux")?, HOLDS_MEMORY);
        // v2 refuses no limit: the kernel takes the memory away, or kills.
        if cgroups::is_unified() {
            return Ok(());
        }
        let cases = [
            (guest, "waiting with", "cannot do with less"),
            (program, "holding", "current usage: "),
        ];
        for (container, ready, reason) in cases {
            let container = pod.run(&container.memory_limit(96 * MIB))?;
            container.wait_for_output(ready)?;
            let error =
                node.cri.update(&container.id, memory_limit(8 * MIB)).expect_err("is refused");
            let error = format!("{error:#}");
            assert!(error.contains(reason), "{error}");
            assert!(container.is_running()?);
        }
        Ok(())
    })
}

#[test]
fn resources_that_are_none_are_refused() -> Result<()> {
    let bundle = Bundle::shell("sleep 1000")?;
    let shim = bundle.start()?;
    granted(shim.create(&bundle.create_request()))?;
    granted(shim.update(&bundle.id, &json!({ "pids": { "limit": 7 } })))?;
    let refusal = shim.update(&bundle.id, &json!({ "pids": "many" })).expect_err("is refused");
    assert!(refusal.message.contains("LinuxResources"), "{refusal:?}");
    let refusal = shim.checkpoint(&bundle.id).expect_err("is refused");
    assert!(refusal.message.contains("CRIU"), "{refusal:?}");
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn cpu_and_memory_of_containers_and_pod_are_counted() -> Result<()> {
    on_each_containerd(|node| {
        let pod = node.run_pod(&Pod::new("stats"))?;
        let guest = Container::new("guest", &node.image("hello")?).args(&["spin"]);
        let guest = pod.run(&guest.memory_limit(96 * MIB))?;
        guest.wait_for_output("spinning")?;
        let linux = Container::shell("linux", &node.image("linux")?, HOLDS_MEMORY);
        let linux = pod.run(&linux.memory_limit(128 * MIB))?;
        linux.wait_for_output("holding")?;
        for (container, least) in [(&guest, 1), (&linux, 20 * MIB as u64)] {
            let (cpu, memory) = wait::until(SOON, "the container's stats", || {
                let stats = node.cri.stats(&container.id)?;
                let cpu = stats.cpu.and_then(|cpu| cpu.usage_core_nano_seconds);
                let memory = stats.memory.and_then(|memory| memory.working_set_bytes);
                Ok(cpu.zip(memory))
            })?;
            assert!(cpu.value > 0 && memory.value >= least, "{cpu:?} {memory:?}");
        }
        let stats = node.cri.pod_stats(&pod.id)?;
        let memory = stats.memory.and_then(|memory| memory.working_set_bytes);
        let cpu = stats.cpu.and_then(|cpu| cpu.usage_core_nano_seconds);
        assert!(memory.is_some_and(|it| it.value >= 20 * MIB as u64), "{memory:?}");
        assert!(cpu.is_some_and(|cpu| cpu.value > 0));
        Ok(())
    })
}
