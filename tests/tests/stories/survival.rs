//! Whoever is killed, and in whichever order: the others go on, and nothing outlives its Pod.

use std::env;
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use containerd_shim_protos::api::Status;
use nix::sys::signal::Signal;
use tests::ctr::Run;
use tests::processes::{self, Process, shim_of};
use tests::shim::{Answer, Bundle, Shim};
use tests::steps::{Killer, Victim};
use tests::wait::{self, SOON};
use tests::{Container, Node, Pod, RunningContainer, RunningPod, cgroups, on_each_containerd};

use crate::programs::state;
use crate::resources::remove;
use crate::shim::{ends, granted};

const SIGKILL: u32 = 9;

/// How many processes each of the stories about a Create or an exec kills.
const KILLS: &str = "WASMTIME_SHIM_TEST_KILLS";
const FEW_KILLS: usize = 45;

/// Steps at a process's end at each of which it is killed.
const LAST_STEPS: usize = 6;

/// A Pod with a server that has answered once.
fn serving(node: &Node) -> Result<(RunningPod<'_>, RunningContainer<'_>)> {
    let pod = node.run_pod(&Pod::new("survivor"))?;
    let server = pod.run(&Container::new("server", &node.image("hello-http")?))?;
    assert_eq!(pod.http_get(crate::pod::PORT, "/")?.status, 200);
    Ok((pod, server))
}

/// The child of the shim from which its containers are forked.
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

/// Makes a call. When a process that serves it reaches a step, kills `other`, or that process if there is no other. Returns
/// how many steps the process made.
fn kill_meanwhile<T: Send>(
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

/// The processes that a Create makes: of a guest the one that was asked and the isolated one, of a program one more.
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
    let shim = bundle.start()?;
    let process = shim_of(&bundle.id)?;
    at_each_step(processes, |victim| {
        let create = || shim.create(&bundle.create_request());
        let (steps, created) = kill_meanwhile(&process, victim, None, create)?;
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
    let shim = bundle.start()?;
    let process = shim_of(&bundle.id)?;
    at_each_step(processes, |victim| {
        // It has a zygote again after this.
        granted(shim.create(&bundle.create_request()))?;
        granted(shim.delete(&bundle.id))?;
        let create = || shim.create(&bundle.create_request());
        let killed = zygote(&process)?;
        let (steps, created) = kill_meanwhile(&process, victim, Some(&killed), create)?;
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
        let shim = bundle.start()?;
        let process = shim_of(&bundle.id)?;
        let create = || shim.create(&bundle.create_request());
        let (steps, created) = kill_meanwhile(&process, victim, Some(&process), create)?;
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
        let (steps, started) = kill_meanwhile(&process, victim, None, start)?;
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

/// Kills all processes of a bundle's container and deletes it, and the shim ends.
fn end(shim: &Shim, bundle: &Bundle) -> Result<()> {
    granted(shim.kill_all(&bundle.id, SIGKILL))?;
    granted(shim.wait(&bundle.id))?;
    granted(shim.delete(&bundle.id))?;
    ends(shim, bundle)
}

/// A container in that cgroup, started; with a pid namespace of its own, or the node's.
fn in_cgroup(cgroup: &str, own_processes: bool) -> Result<(Bundle, Shim)> {
    let bundle = Bundle::shell("sleep 1000 & sleep 1000; true")?;
    bundle.edit_config(|config| {
        config["linux"]["cgroupsPath"] = cgroup.into();
        if !own_processes {
            config["linux"]["namespaces"] = serde_json::json!([{ "type": "mount" }]);
        }
    })?;
    let shim = bundle.start()?;
    granted(shim.create(&bundle.create_request()))?;
    granted(shim.start(&bundle.id))?;
    Ok((bundle, shim))
}

/// The processes in a cgroup, once there are so many.
fn processes_in(cgroup: &str, number: usize) -> Result<()> {
    wait::until(SOON, &format!("{number} processes in {cgroup}"), || {
        let folders = cgroups::existing(cgroup.trim_start_matches('/'))?;
        let count = |folder: &std::path::PathBuf| {
            fs::read_to_string(folder.join("cgroup.procs")).map(|pids| pids.lines().count())
        };
        let right = folders.iter().all(|folder| count(folder).ok() == Some(number));
        Ok((right && folders.is_empty() == (number == 0)).then_some(()))
    })
}

#[test]
fn of_containers_that_share_a_cgroup_each_ends_alone_and_the_last_removes_it() -> Result<()> {
    for own_processes in [true, false] {
        let scope = Bundle::shell("true")?;
        let cgroup = scope.cgroup();
        let (first, first_shim) = in_cgroup(&cgroup, own_processes)?;
        let (second, second_shim) = in_cgroup(&cgroup, own_processes)?;
        processes_in(&cgroup, 6)?;
        end(&first_shim, &first)?;
        processes_in(&cgroup, 3)?;
        assert_eq!(second_shim.status(&second.id), Ok(Status::RUNNING));
        end(&second_shim, &second)?;
        processes_in(&cgroup, 0)?;
        first.close()?;
        second.close()?;
        scope.close()?;
    }
    Ok(())
}

#[test]
fn containers_below_the_cgroup_of_another_live_on_without_it() -> Result<()> {
    let scope = Bundle::shell("true")?;
    let (above, below) = (scope.cgroup(), format!("{}/below", scope.cgroup()));
    let (first, first_shim) = in_cgroup(&above, true)?;
    let (second, second_shim) = in_cgroup(&below, true)?;
    end(&first_shim, &first)?;
    processes_in(&below, 3)?;
    assert_eq!(second_shim.status(&second.id), Ok(Status::RUNNING));
    end(&second_shim, &second)?;
    processes_in(&above, 0)?;
    first.close()?;
    second.close()?;
    scope.close()
}

#[test]
fn a_create_that_fails_harms_nobody_in_its_cgroup_or_below() -> Result<()> {
    let scope = Bundle::shell("true")?;
    let (above, below) = (scope.cgroup(), format!("{}/below", scope.cgroup()));
    let (first, first_shim) = in_cgroup(&above, true)?;
    let (second, second_shim) = in_cgroup(&below, false)?;
    let failing = Bundle::shell("true")?;
    failing.edit_config(|config| {
        config["linux"]["cgroupsPath"] = above.as_str().into();
        config["process"]["args"] = serde_json::json!(["/bin/no-such-program"]);
    })?;
    let shim = failing.start()?;
    let refusal = shim.create(&failing.create_request()).expect_err("there is no such program");
    assert!(refusal.message.contains("no-such-program"), "{refusal:?}");
    ends(&shim, &failing)?;
    for (bundle, shim, cgroup) in [(&first, &first_shim, &above), (&second, &second_shim, &below)] {
        processes_in(cgroup, 3)?;
        assert_eq!(shim.status(&bundle.id), Ok(Status::RUNNING));
    }
    end(&first_shim, &first)?;
    end(&second_shim, &second)?;
    [first, second, failing, scope].into_iter().try_for_each(Bundle::close)
}

#[test]
fn a_cgroup_that_an_administrator_made_stays() -> Result<()> {
    let scope = Bundle::shell("true")?;
    let cgroup = scope.cgroup();
    let made = cgroups::create(&cgroup)?;
    let (bundle, shim) = in_cgroup(&cgroup, true)?;
    end(&shim, &bundle)?;
    assert!(made.iter().all(|folder| folder.is_dir()), "it was removed");
    cgroups::remove(&made)?;
    bundle.close()?;
    scope.close()
}

#[test]
fn a_container_of_runc_in_the_same_cgroup_is_left_alone() -> Result<()> {
    on_each_containerd(|node| {
        let image = node.ctr_image("linux")?;
        let shared = format!("{}/shared", node.cgroup_parent());
        let run = |handler: &str, cgroup: &str| -> Result<String> {
            let id = node.ctr.new_id();
            let run = Run::new(&image).handler(handler).flags(&["--cgroup", cgroup]);
            node.ctr.run_detached(&id, &run.command(&["sleep", "1000"]))?.success()?;
            Ok(id)
        };
        let in_it = run("runc", &shared)?;
        let below_it = run("runc", &format!("{shared}/{}", node.ctr.new_id()))?;
        let ours = run(&tests::spec::handler(), &shared)?;
        remove(node, &ours)?;
        for id in [&in_it, &below_it] {
            assert!(node.ctr.is(id, "RUNNING")?, "{id} was killed");
        }
        remove(node, &below_it)?;
        remove(node, &in_it)
    })
}
