//! Paused containers: they are frozen, and then resumed or killed.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use containerd_shim_protos::api::Status;
use containerd_shim_protos::ttrpc::Code;
use nix::sys::signal::Signal;
use tests::ctr::Run;
use tests::events::Events;
use tests::processes::shim_of;
use tests::shim::Bundle;
use tests::wait::{self, SOON};
use tests::{Node, cgroups, on_each_containerd};

use crate::resources::remove;
use crate::shim::{ends, granted};

const SIGTERM: u32 = 15;
const SIGKILL: u32 = 9;

/// Long enough for a process that runs to have used some processor time.
const A_WHILE: Duration = Duration::from_millis(300);

#[test]
fn a_paused_guest_or_program_stands_still_and_goes_on() -> Result<()> {
    on_each_containerd(|node| {
        stands_still(node, "hello", &["/hello.wasm", "spin"])?;
        stands_still(node, "linux", &["sh", "-c", "while :; do :; done"])
    })
}

fn stands_still(node: &Node, image: &str, command: &[&str]) -> Result<()> {
    let mut events = Events::subscribe(node)?;
    let id = node.ctr.new_id();
    let run = Run::new(&node.ctr_image(image)?).command(command);
    node.ctr.run_detached(&id, &run)?.success()?;
    let task = |verb: &str| node.ctr.run("default", &["tasks", verb, &id]);
    task("pause")?.success()?;
    assert!(node.ctr.is(&id, "PAUSED")?);
    let before = used(node, &id)?;
    sleep(A_WHILE);
    assert_eq!(used(node, &id)?, before, "it went on");
    assert_ne!(task("delete")?.code, 0, "a paused task was deleted");
    task("resume")?.success()?;
    assert!(node.ctr.is(&id, "RUNNING")?);
    wait::until(SOON, "it to go on", || Ok((used(node, &id)? > before).then_some(())))?;

    // SIGKILL ends it although it is frozen.
    task("pause")?.success()?;
    remove(node, &id)?;
    let told = events.of_life(&id)?;
    let topics: Vec<_> = told.iter().map(|event| event.topic.as_str()).collect();
    let life = ["/tasks/create", "/tasks/start", "/tasks/paused", "/tasks/resumed"];
    let end = ["/tasks/paused", "/tasks/exit", "/tasks/delete"];
    assert_eq!(topics, [&life[..], &end[..]].concat());
    Ok(())
}

/// Processor time of the task, in nanoseconds, from `ctr tasks metrics`.
fn used(node: &Node, id: &str) -> Result<u64> {
    let metrics = node.ctr.lines("default", &format!("tasks metrics {id}"))?;
    let number = |name: &str| {
        let line = metrics.iter().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let memory = number("memory.usage_in_bytes").or_else(|| number("memory.usage"));
    assert!(memory.is_some_and(|bytes| bytes > 0), "{metrics:?}");
    assert!(number("pids.current").is_some_and(|count| count > 0), "{metrics:?}");
    let cpu = number("cpuacct.usage").or_else(|| number("cpu.usage_usec"));
    Ok(cpu.unwrap_or_else(|| panic!("no processor time in {metrics:?}")))
}

#[test]
fn what_is_not_possible_while_paused_is_refused() -> Result<()> {
    let bundle = Bundle::shell("trap 'exit 3' TERM; while :; do sleep 0.1; done")?;
    let (id, shim) = (bundle.id.as_str(), bundle.start()?);
    let refused = |answer: Result<(), tests::shim::Refusal>| answer.map_err(|it| it.code);
    let pid = granted(shim.create(&bundle.create_request()))?;
    assert_eq!(refused(shim.pause(id)), Err(Code::FAILED_PRECONDITION), "not started");
    granted(shim.start(id))?;
    wait::until(SOON, "the trap to be set", || Ok(catches_sigterm(pid)?.then_some(())))?;
    assert_eq!(refused(shim.resume(id)), Err(Code::FAILED_PRECONDITION), "not paused");
    granted(shim.pause(id))?;
    assert_eq!(shim.status(id), Ok(Status::PAUSED));
    assert_eq!(refused(shim.pause(id)), Err(Code::FAILED_PRECONDITION), "paused already");
    assert_eq!(refused(shim.delete(id).map(drop)), Err(Code::FAILED_PRECONDITION));
    // A signal stays pending until it is resumed.
    granted(shim.kill(id, SIGTERM))?;
    sleep(A_WHILE);
    assert_eq!(shim.status(id), Ok(Status::PAUSED));
    granted(shim.resume(id))?;
    assert_eq!(shim.wait(id), Ok(3));
    assert_eq!(refused(shim.pause(id)), Err(Code::NOT_FOUND), "ended");
    assert_eq!(shim.delete(id), Ok(3));
    ends(&shim, &bundle)?;
    bundle.close()
}

/// Whether the process has a handler for SIGTERM (proc(5), `SigCgt`).
fn catches_sigterm(pid: u32) -> Result<bool> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
    Ok(u64::from_str_radix(mask.trim(), 16)? & (1 << (SIGTERM - 1)) != 0)
}

#[test]
fn a_killed_container_ends_with_all_it_had_while_paused() -> Result<()> {
    let bundle = Bundle::shell("sleep 1000 & sleep 1000")?;
    let shim = bundle.start()?;
    let pid = granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(&bundle.id))?;
    granted(shim.pause(&bundle.id))?;
    let state = cgroups::read(pid.try_into()?, ("freezer", "freezer.state"), "cgroup.freeze")?;
    assert!(["FROZEN", "1"].contains(&state.as_str()), "{state}");
    granted(shim.kill(&bundle.id, SIGKILL))?;
    assert_eq!(shim.wait(&bundle.id), Ok(137));
    assert_eq!(shim.delete(&bundle.id), Ok(137));
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn the_delete_action_takes_away_what_a_killed_shim_had_paused() -> Result<()> {
    let bundle = Bundle::shell("sleep 1000 & sleep 1000")?;
    let shim = bundle.start()?;
    granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(&bundle.id))?;
    granted(shim.pause(&bundle.id))?;
    bundle.shim()?.kill(Signal::SIGKILL)?;
    wait::until(SOON, "the shim to end", || Ok(shim_of(&bundle.id).is_err().then_some(())))?;
    let folder = bundle.folder.display().to_string();
    bundle.execute(&["-bundle", &folder, "delete"])?.success()?;
    bundle.close()
}
