//! Limits of a compilation: its Pod's memory, the node's memory, and its time.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use containerd_shim_protos::ttrpc::Code;
use nix::sys::signal::Signal;
use tests::cgroups;
use tests::processes::{Process, family, shim_of};
use tests::shim::{Bundle, Refusal};
use tests::{Container, Node, Pod, on_each_containerd};

use super::{
    create_of, endless_guest, files, guest, limited, run, says_after, slow_guest, until_at_work,
    until_ended, worker_of,
};
use crate::caching::kill;
use crate::composing::packed;
use crate::shim::{ends, granted};
use crate::warming::large;

/// Variables of the shim.
const TIME: &str = "WASMTIME_SHIM_COMPILE_TIME";
const MEMORY: &str = "WASMTIME_SHIM_COMPILE_MEMORY";

#[test]
fn a_compilation_is_charged_to_its_pod() -> Result<()> {
    on_each_containerd(|node| {
        let image = large(node, "charged", 8000)?;
        let pod = node.run_pod(&Pod::new("paying"))?;
        let guest = pod.create(&Container::new("guest", &image))?;
        let cgroups = thread::scope(|scope| {
            let start = scope.spawn(|| guest.start());
            let worker = until_at_work(&pod.id)?;
            let cgroups = worker.cgroups().context("the worker ended")?;
            start.join().expect("no panic").map(|()| cgroups)
        })?;
        let charged = |controller: &str| {
            let line = cgroups.lines().find(|line| line.contains(controller));
            line.is_some_and(|line| line.ends_with(&node.cgroup_of(&pod.id)))
        };
        // Each controller of v1 has a line, v2 one for all.
        let controllers: &[_] =
            if cgroups::is_unified() { &["0::"] } else { &[":memory:", ":pids:"] };
        assert!(controllers.iter().all(|it| charged(it)), "{cgroups}");
        assert_eq!(guest.wait()?.code, 0);
        Ok(())
    })
}

/// Memory limit of a Pod, in MiB, from which on its compilations are charged to it.
const FLOOR: i64 = 512;

#[test]
fn a_compilation_is_bounded_by_its_pod_s_memory_limit_and_harms_nobody_in_it() -> Result<()> {
    on_each_containerd(|node| {
        let hungry = hungry(node)?;
        let pod = node.run_pod(&Pod::new("bounded"))?;
        let other = pod.run(&Container::shell("other", &node.image("linux")?, "sleep 1000"))?;
        let refused = |limit: i64| -> Result<String> {
            cgroups::limit_memory(&node.cgroup_parent(), limit << 20)?;
            let container = Container::new(&format!("hungry-{limit}"), &hungry);
            let error = pod.run(&container).map(drop).err().context("was compiled")?;
            Ok(format!("{error:#}"))
        };
        let (counted, text) = (FLOOR + 8, refused(FLOOR + 8)?);
        for word in [&format!("Pod's memory limit of {counted} MiB"), "wasm-image warm"] {
            assert!(text.contains(word), "no {word} in {text}");
        }
        assert!(other.is_running()?, "killed in place of the worker");

        let text = refused(64)?;
        for word in ["in 512 MiB of memory", "limit of 64 MiB", "resources.limits.memory"] {
            assert!(text.contains(word), "no {word} in {text}");
        }
        let small = pod.run(&Container::new("small", &node.image("hello")?))?;
        assert_eq!(small.wait()?.code, 0, "{:?}", small.logs()?);
        assert!(other.is_running()?);
        Ok(())
    })
}

/// A small guest that takes some hundred MiB more than the floor to compile.
fn hungry_guest() -> String {
    format!("(module (func (export \"_start\")) {})", "(func)".repeat(400_000))
}

/// An image with such a guest.
fn hungry(node: &Node) -> Result<String> {
    let file = node.volume("components")?.join("hungry.wat");
    fs::write(&file, hungry_guest())?;
    packed(node, "hungry", "/hungry.wasm", &[&file])
}

/// Largest number of workers of these shims at a time, until `done`.
fn most_at_work(ids: [&str; 2], done: impl Fn() -> bool) -> usize {
    let shims: Vec<Process> = ids.into_iter().filter_map(|id| shim_of(id).ok()).collect();
    let mut most = 0;
    while !done() {
        let seen: Vec<Process> = shims.iter().filter_map(worker_of).collect();
        // The first may have ended while the next was sought. A process that ends has no memory, and so no command.
        let still = seen.iter().filter(|worker| {
            Process::at(worker.pid).is_some_and(|worker| !worker.command.is_empty())
        });
        most = most.max(still.count());
        thread::sleep(Duration::from_millis(20));
    }
    most
}

/// Bundles of two containers on a node on which one guest is compiled at a time, because each may use all of its memory.
fn on_a_small_node() -> Result<[Bundle; 2]> {
    let mut bundles = [Bundle::shell("true")?, Bundle::shell("true")?];
    let memory = nix::sys::sysinfo::sysinfo()?.ram_total().to_string();
    let cache = bundles[0].cache().display().to_string();
    for bundle in &mut bundles {
        bundle.set("WASMTIME_SHIM_CACHE", &cache);
        bundle.set(MEMORY, &memory);
    }
    Ok(bundles)
}

#[test]
fn as_many_compile_at_a_time_as_the_node_has_memory_for() -> Result<()> {
    let bundles = on_a_small_node()?;
    let shims = [bundles[0].start()?, bundles[1].start()?];
    let requests = [guest(&bundles[0], 1, 5000)?, guest(&bundles[1], 2, 5000)?];
    let most = thread::scope(|scope| {
        let creates = [0, 1].map(|it| {
            scope.spawn({
                let (shim, request) = (&shims[it], &requests[it]);
                move || shim.create(request)
            })
        });
        let ids = [bundles[0].id.as_str(), bundles[1].id.as_str()];
        let most = most_at_work(ids, || creates.iter().all(|create| create.is_finished()));
        creates.into_iter().try_for_each(|it| granted(it.join().expect("no panic")).map(drop))?;
        Ok::<_, anyhow::Error>(most)
    })?;
    assert_eq!(most, 1, "at a time");
    shims.iter().zip(&bundles).try_for_each(|(shim, bundle)| run(shim, bundle))?;
    bundles.into_iter().try_for_each(Bundle::close)
}

#[test]
fn who_waits_for_a_turn_to_compile_is_told_so_and_has_that_of_one_that_is_killed() -> Result<()> {
    let [first, second] = on_a_small_node()?;
    let (endless, small) = (endless_guest(&first)?, guest(&second, 1, 10)?);
    let shims = [first.start()?, second.start()?];
    let limit = Duration::from_millis(1500);
    let refusal = thread::scope(|scope| {
        let killed = scope.spawn(|| shims[0].create(&endless));
        until_at_work(&first.id)?;
        let refusal = shims[1].create_within(limit, &small);
        kill(&first, &family(&first.shim()?))?;
        killed.join().expect("no panic").expect_err("is killed");
        Ok::<_, anyhow::Error>(refusal.expect_err("is refused"))
    })?;
    assert_eq!(refusal.code, Code::UNAVAILABLE, "{refusal:?}");
    let expected = "/app.wasm: still waiting for others to be compiled after";
    assert!(says_after(&refusal, expected, limit), "{refusal:?}");
    granted(shims[1].create(&small))?;
    run(&shims[1], &second)?;
    first.close()?;
    second.close()
}

#[test]
fn a_worker_that_is_stopped_is_ended_when_its_time_is_up() -> Result<()> {
    let mut bundle = Bundle::shell("true")?;
    let expected = limited(&mut bundle);
    let request = endless_guest(&bundle)?;
    let shim = bundle.start()?;
    let refusal = thread::scope(|scope| {
        let create = scope.spawn(|| shim.create_within(Duration::from_secs(20), &request));
        let worker = until_at_work(&bundle.id)?;
        worker.kill(Signal::SIGSTOP)?;
        let refusal = create.join().expect("no panic").expect_err("is refused");
        until_ended(&worker).map(|()| refusal)
    })?;
    assert!(refusal.message.contains(&expected), "{refusal:?}");
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn what_a_compilation_may_use_is_set_and_told() -> Result<()> {
    let refusal = |variable: &str, value: &str| -> Result<Refusal> {
        let mut bundle = Bundle::shell("true")?;
        bundle.set(variable, value);
        let request = match variable {
            MEMORY => {
                fs::write(files(&bundle)?.join("app.wat"), hungry_guest())?;
                create_of(&bundle, "/app.wat")?
            }
            _ => slow_guest(&bundle)?,
        };
        let shim = bundle.start()?;
        let refusal = shim.create(&request).expect_err("is refused");
        ends(&shim, &bundle)?;
        bundle.close()?;
        Ok(refusal)
    };
    let cache = "WASMTIME_SHIM_CACHE";
    for (variable, value, words) in [
        (TIME, "1s", ["/app.wasm: ", "cannot be compiled within 1s", TIME]),
        (MEMORY, "300Mi", ["/app.wat: ", "cannot be compiled in 300 MiB of memory", MEMORY]),
        (
            TIME,
            "soon",
            [TIME, "\"soon\"", "allowed is a whole number with ms, s, m or h, such as 30s"],
        ),
        (MEMORY, "1", [MEMORY, "\"1\"", "allowed is a size of at least 256Mi, such as 4Gi"]),
        (cache, "cache", [cache, "\"cache\"", "allowed is an absolute path"]),
    ] {
        let refusal = refusal(variable, value)?;
        for word in words {
            assert!(refusal.message.contains(word), "no {word} in {refusal:?}");
        }
    }
    Ok(())
}
