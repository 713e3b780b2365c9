//! Processes of a Create or an exec that are killed at each of their steps: nothing is left of them.

use std::env;
use std::fs;
use std::thread;

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::Status;
use tests::cgroups;
use tests::processes::{self, Process, shim_of};
use tests::shim::{Answer, Bundle, Shim};
use tests::steps::{Killer, Victim};
use tests::wait::{self, SOON};

use super::{kill, zygote};
use crate::isolation::end;
use crate::programs::state;
use crate::shim::{ends, granted};

/// Variable with the number of processes that each of these stories kills, and its default.
const KILLS: &str = "WASMTIME_SHIM_TEST_KILLS";

const FEW_KILLS: usize = 45;

/// Steps at a process's end at each of which it is killed.
const LAST_STEPS: usize = 6;

/// Starts the bundle's shim. Its args may be in place only a moment after posix_spawn(3) has returned.
fn started(bundle: &Bundle) -> Result<(Shim, Process)> {
    let shim = bundle.start()?;
    let process = bundle.shim()?;
    Ok((shim, process))
}

/// Processes, cgroups, mounts and records of a container. `shim` is not counted, nor is its zygote.
fn left_of(bundle: &Bundle, shim: &Process) -> Result<Vec<String>> {
    let mut family = processes::family(shim);
    family.retain(|process| process.pid != shim.pid && process.name != "wasmtime-zygote");
    let cgroups = cgroups::existing(bundle.cgroup().trim_start_matches('/'))?;
    let root = fs::read_dir(bundle.rootfs())?.flatten().map(|entry| entry.path());
    let records = [bundle.folder.join("wasmtime"), state(bundle)];
    let records = records.into_iter().filter(|folder| folder.exists());
    let paths = cgroups.into_iter().chain(root).chain(records);
    let processes = family.iter().map(|process| format!("{process:?}"));
    Ok(processes.chain(paths.map(|path| path.display().to_string())).collect())
}

fn nothing_is_left_of(bundle: &Bundle, shim: &Process) -> Result<()> {
    let gone = || Ok(left_of(bundle, shim)?.is_empty().then_some(()));
    let waited = wait::until(SOON, "nothing to be left", gone);
    waited.with_context(|| format!("{:?}", left_of(bundle, shim)))
}

/// Makes a call. When a process that serves it reaches a step, kills `other`, or that process if there is no other. Returns the
/// number of steps that the process made.
fn kill_during<T: Send>(
    shim: &Process,
    victim: Victim,
    other: Option<&Process>,
    call: impl FnOnce() -> Answer<T> + Send,
) -> Result<(usize, Answer<T>)> {
    // A shim answers before it has forked its zygote.
    let zygote = wait::until(SOON, "a zygote", || Ok(zygote(shim).ok()))?;
    let killer = Killer::watch(&zygote, victim, other, SOON)?;
    let answer = thread::scope(|scope| scope.spawn(call).join().expect("no panic"));
    Ok((killer.steps()?, answer))
}

/// Kills at steps that are evenly spread over the lives of the first `processes` processes, and at the last few, which are
/// between a process's answer and its end.
fn at_each_step(processes: usize, mut kill: impl FnMut(Victim) -> Result<usize>) -> Result<()> {
    let kills = env::var(KILLS).ok().and_then(|kills| kills.parse().ok()).unwrap_or(FEW_KILLS);
    for process in 0..processes {
        let never = Victim { process, step: usize::MAX };
        let steps = kill(never).with_context(|| format!("{never:?}"))?;
        ensure!(steps > 0, "process {process} made no steps");
        let each = kills.div_ceil(processes);
        let spread = (0..each).map(|place| 1 + place * steps / each);
        for step in spread.chain(steps.saturating_sub(LAST_STEPS).max(1)..=steps) {
            let victim = Victim { process, step };
            kill(victim).with_context(|| format!("{victim:?} of {steps} steps"))?;
        }
    }
    Ok(())
}

/// Deletes a container if it was created. A Create may fail only if something was killed.
fn take_back(shim: &Shim, bundle: &Bundle, victim: Victim, created: Answer<u32>) -> Result<()> {
    match created {
        Ok(_) => granted(shim.delete(&bundle.id)).map(drop),
        Err(refusal) => {
            ensure!(victim.step != usize::MAX, "{refusal:?}");
            Ok(())
        }
    }
}

/// Number of processes that a Create makes: the request process and the isolated one for a guest, and one more for a program.
const OF_GUEST: usize = 2;

const OF_PROGRAM: usize = 3;

/// A guest whose code is kept, so that a Create makes no worker.
fn compiled() -> Result<Bundle> {
    let bundle = Bundle::guest("hello")?;
    let shim = bundle.start()?;
    granted(shim.create(&bundle.create_request()))?;
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    Ok(bundle)
}

#[test]
fn a_create_leaves_nothing_whichever_of_its_processes_is_killed_and_when() -> Result<()> {
    processes_are_killed(Bundle::shell("sleep 1000")?, OF_PROGRAM)?;
    processes_are_killed(compiled()?, OF_GUEST)
}

fn processes_are_killed(bundle: Bundle, processes: usize) -> Result<()> {
    let (shim, process) = started(&bundle)?;
    at_each_step(processes, |victim| {
        let create = || shim.create(&bundle.create_request());
        let (steps, created) = kill_during(&process, victim, None, create)?;
        take_back(&shim, &bundle, victim, created)?;
        nothing_is_left_of(&bundle, &process).map(|()| steps)
    })?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_create_leaves_nothing_when_the_zygote_is_killed_at_any_moment() -> Result<()> {
    zygotes_are_killed(Bundle::shell("sleep 1000")?, OF_PROGRAM)?;
    zygotes_are_killed(compiled()?, OF_GUEST)
}

fn zygotes_are_killed(bundle: Bundle, processes: usize) -> Result<()> {
    let (shim, process) = started(&bundle)?;
    at_each_step(processes, |victim| {
        // It has a zygote again after this.
        granted(shim.create(&bundle.create_request()))?;
        granted(shim.delete(&bundle.id))?;
        let create = || shim.create(&bundle.create_request());
        let killed = zygote(&process)?;
        let (steps, created) = kill_during(&process, victim, Some(&killed), create)?;
        take_back(&shim, &bundle, victim, created)?;
        nothing_is_left_of(&bundle, &process).map(|()| steps)
    })?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn the_delete_action_leaves_nothing_of_a_create_when_the_shim_is_killed_at_any_moment() -> Result<()>
{
    shims_are_killed(Bundle::shell("sleep 1000")?, OF_PROGRAM)?;
    shims_are_killed(compiled()?, OF_GUEST)
}

fn shims_are_killed(bundle: Bundle, processes: usize) -> Result<()> {
    let folder = bundle.folder.display().to_string();
    at_each_step(processes, |victim| {
        let (shim, process) = started(&bundle)?;
        let create = || shim.create(&bundle.create_request());
        let (steps, created) = kill_during(&process, victim, Some(&process), create)?;
        // At the last steps Create has answered.
        if steps < victim.step {
            take_back(&shim, &bundle, victim, created)?;
            kill(&process)?;
        }
        let is_gone = || Ok(Process::at(process.pid).is_none().then_some(()));
        wait::until(SOON, "the shim to end", is_gone)?;
        bundle.execute(&["-bundle", &folder, "delete"])?.success()?;
        nothing_is_left_of(&bundle, &process).map(|()| steps)
    })?;
    bundle.close()
}

#[test]
fn what_is_executed_is_known_and_runs_to_its_end_whoever_is_killed_on_the_way() -> Result<()> {
    let bundle = Bundle::shell("while :; do read line; done")?;
    let (id, shim) = (bundle.id.as_str(), bundle.start()?);
    let stdin = bundle.fifo("stdin")?.display().to_string();
    let mut request = bundle.create_request();
    request.set_stdin(stdin);
    granted(shim.create(&request))?;
    granted(shim.start(id))?;
    let process = shim_of(id)?;
    let mut number = 0;
    at_each_step(2, |victim| {
        number += 1;
        let exec_id = format!("exec-{number}");
        granted(shim.exec(id, &exec_id, &["/bin/sh", "-c", "exit 6"]))?;
        let start = || shim.start_exec(id, &exec_id);
        let (steps, started) = kill_during(&process, victim, None, start)?;
        match started {
            Ok(()) => {
                let code = granted(shim.wait_exec(id, &exec_id))?;
                let is_itself_killed = victim.process == 1 && code == 137;
                ensure!(code == 6 || is_itself_killed, "it ended with {code}");
                granted(shim.end_exec(id, &exec_id))?;
            }
            Err(refusal) => ensure!(victim.step != usize::MAX, "{refusal:?}"),
        }
        wait::until(SOON, "what is executed to end", || {
            Ok((processes::family(&process).len() == 3).then_some(()))
        })
        .with_context(|| format!("{:?}", processes::family(&process)))?;
        Ok(steps)
    })?;
    assert_eq!(shim.status(id), Ok(Status::RUNNING));
    end(&shim, &bundle)
}
