//! A shim by itself whose compile worker, or the zygote above it, is killed at work, or takes long.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::ttrpc::Code;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::cgroups;
use tests::ctr::Run;
use tests::processes::{Process, family, shim_of};
use tests::shim::{Bundle, Refusal, Shim, mount};
use tests::wait::{self, EVENTUALLY, SOON};
use tests::{Container, Node, Pod, on_each_containerd};

use crate::caching::kill;
use crate::composing::{code, packed};
use crate::shim::{ends, granted};
use crate::warming::large;

/// A Create of a guest that takes long enough to compile for the test to meet the worker.
fn large_guest(bundle: &Bundle) -> Result<CreateTaskRequest> {
    guest(bundle, 0, 1000)
}

/// The same of one that takes seconds, on whatever machine.
fn slow_guest(bundle: &Bundle) -> Result<CreateTaskRequest> {
    let processors = thread::available_parallelism()?.get().clamp(2, 4);
    guest(bundle, 0, 5000 * processors)
}

/// Writes a guest of so many functions into the folder. Each `number` is another guest.
fn write_guest(folder: &Path, number: u32, functions: usize) -> Result<()> {
    let function =
        format!("(func (param i32) (result i32) local.get 0 {})", "i32.clz ".repeat(500));
    let functions = function.repeat(functions);
    let start = "(func (export \"_start\"))";
    let module = format!("(module {start} (global i32 i32.const {number}) {functions})");
    Ok(fs::write(folder.join("app.wat"), module)?)
}

/// A Create of a guest of so many functions. Each `number` is another guest.
pub fn guest(bundle: &Bundle, number: u32, functions: usize) -> Result<CreateTaskRequest> {
    let files = bundle.folder.join("files");
    fs::create_dir_all(&files)?;
    write_guest(&files, number, functions)?;
    let config = fs::read_to_string(bundle.folder.join("config.json"))?;
    fs::write(bundle.folder.join("config.json"), config.replace("/bin/sh", "/app.wat"))?;
    let mut request = bundle.create_request();
    request.set_rootfs(vec![mount("bind", &files, &["rbind"])]);
    Ok(request)
}

/// Calls Create, kills the process of that name below the shim while the worker compiles, and returns what Create
/// answers. By then there is no worker.
fn kill_while_it_compiles(
    shim: &Shim,
    bundle: &Bundle,
    request: &CreateTaskRequest,
    victim: &str,
) -> Result<Refusal> {
    let root = shim_of(&bundle.id)?;
    let find = |name: &str| family(&root).into_iter().find(|process| process.name == name);
    let mut worker = None;
    let refusal = thread::scope(|scope| {
        let create = scope.spawn(|| shim.create(request));
        let at_work = || find("wasm-compile").filter(|worker| worker.niceness() == Some(10));
        worker = Some(wait::until(SOON, "a compile worker of low priority", || Ok(at_work()))?);
        find(victim).context("nobody to kill")?.kill(Signal::SIGKILL)?;
        Ok::<_, anyhow::Error>(create.join().expect("no panic").expect_err("is refused"))
    })?;
    let worker = worker.context("no worker")?;
    wait::until(SOON, "the worker to end", || Ok(Process::at(worker.pid).is_none().then_some(())))?;
    Ok(refusal)
}

fn runs_to_its_end(shim: &Shim, bundle: Bundle) -> Result<()> {
    run(shim, &bundle)?;
    bundle.close()
}

/// Runs a container that was created, and shuts its shim down.
fn run(shim: &Shim, bundle: &Bundle) -> Result<()> {
    granted(shim.start(&bundle.id))?;
    assert_eq!(shim.wait(&bundle.id), Ok(0));
    granted(shim.delete(&bundle.id))?;
    ends(shim, bundle)
}

#[test]
fn a_killed_compile_worker_is_told_and_the_next_try_is_not_harmed() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let request = large_guest(&bundle)?;
    let shim = bundle.start()?;
    let refusal = kill_while_it_compiles(&shim, &bundle, &request, "wasm-compile")?;
    for word in ["/app.wat", "worker was ended by SIGKILL", "memory"] {
        assert!(refusal.message.contains(word), "no {word} in {refusal:?}");
    }
    granted(shim.create(&request))?;
    runs_to_its_end(&shim, bundle)
}

#[test]
fn a_compile_worker_does_not_outlive_the_zygote() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let request = large_guest(&bundle)?;
    let shim = bundle.start()?;
    let refusal = kill_while_it_compiles(&shim, &bundle, &request, "wasmtime-zygote")?;
    // Had it compiled to its end, the zygote would be missed only afterwards.
    assert!(refusal.message.contains("ended before it answered"), "{refusal:?}");
    ends(&shim, &bundle)?;
    bundle.close()
}

/// The worker below that shim, once it is confined.
fn worker_of(shim: &Process) -> Option<Process> {
    let mut family = family(shim).into_iter();
    family.find(|process| process.name == "wasm-compile" && process.niceness() == Some(10))
}

/// Waits for the worker below the shim of that container or Pod.
fn until_at_work(id: &str) -> Result<Process> {
    let worker = || Ok(shim_of(id).ok().and_then(|shim| worker_of(&shim)));
    wait::until(SOON, "a compile worker", worker)
}

/// Waits for the end of a worker that would need far longer by itself.
fn until_ended(worker: &Process) -> Result<()> {
    let ended = || Ok(Process::at(worker.pid).is_none().then_some(()));
    wait::until(Duration::from_secs(7), "the compile worker to end", ended)
}

/// So many functions take far longer to compile than any of these tests waits for.
const ENDLESS: usize = 30_000;

fn endless_guest(bundle: &Bundle) -> Result<CreateTaskRequest> {
    guest(bundle, 0, ENDLESS)
}

#[test]
fn a_compilation_ends_when_its_container_is_deleted_while_it_is_created() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let request = endless_guest(&bundle)?;
    let shim = bundle.start()?;
    let (refusal, worker) = thread::scope(|scope| {
        let create = scope.spawn(|| shim.create(&request));
        let worker = until_at_work(&bundle.id)?;
        // As containerd does when its own caller is gone.
        assert_eq!(shim.delete(&bundle.id).map_err(|refusal| refusal.code), Err(Code::NOT_FOUND));
        let refusal = create.join().expect("no panic").expect_err("is refused");
        Ok::<_, anyhow::Error>((refusal, worker))
    })?;
    assert_eq!(refusal.code, Code::CANCELLED, "{refusal:?}");
    until_ended(&worker)?;
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_compilation_ends_with_the_client_that_asked_for_it() -> Result<()> {
    on_each_containerd(|node| {
        let files = node.volume("guest")?;
        write_guest(&files, 0, ENDLESS)?;
        let mount = format!("type=bind,src={},dst=/guest,options=rbind:ro", files.display());
        let run = Run::new(&node.ctr_image("linux")?).flags(&["--mount", &mount]);
        let id = node.ctr.new_id();
        let mut client = node.ctr.start(&id, &run.command(&["/guest/app.wat"]))?;
        node.traces.watch("default", &id);
        let worker = until_at_work(&id)?;
        client.kill()?;
        client.wait()?;
        until_ended(&worker)?;
        wait::until(SOON, "the shim to end", || Ok(shim_of(&id).is_err().then_some(())))?;
        node.ctr.run("default", &["containers", "delete", &id])?.success().map(drop)
    })
}

#[test]
fn a_compilation_that_nobody_waits_for_ends_with_its_pod() -> Result<()> {
    on_each_containerd(|node| {
        let image = large(node, "endless", ENDLESS)?;
        let pod = node.run_pod(&Pod::new("short"))?;
        let guest = pod.create(&Container::new("guest", &image))?;
        let error = guest.start_within(Duration::from_secs(2)).err().context("was started")?;
        assert!(format!("{error:#}").contains("still being compiled"), "{error:#}");
        let worker = until_at_work(&pod.id)?;
        pod.stop()?;
        until_ended(&worker)?;
        pod.remove()
    })
}

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

/// In MiB, what a Pod's compilations count towards it from.
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

/// An image with a small guest that takes some hundred MiB more than the floor to compile.
fn hungry(node: &Node) -> Result<String> {
    let file = node.volume("components")?.join("hungry.wat");
    let functions = "(func)".repeat(400_000);
    fs::write(&file, format!("(module (func (export \"_start\")) {functions})"))?;
    packed(node, "hungry", "/hungry.wasm", &[&file])
}

/// The most workers of these shims at a time, until that is done.
fn most_at_work(ids: [&str; 2], done: impl Fn() -> bool) -> usize {
    let shims: Vec<Process> = ids.into_iter().filter_map(|id| shim_of(id).ok()).collect();
    let mut most = 0;
    while !done() {
        let seen: Vec<Process> = shims.iter().filter_map(worker_of).collect();
        // The first may have ended while the next was looked for: a process that ends has no memory, and so no command.
        let still = seen.iter().filter(|worker| {
            Process::at(worker.pid).is_some_and(|worker| !worker.command.is_empty())
        });
        most = most.max(still.count());
        thread::sleep(Duration::from_millis(20));
    }
    most
}

/// Two containers' bundles on a node on which one guest is compiled at a time: so much memory each may take.
fn on_a_small_node() -> Result<[Bundle; 2]> {
    let mut bundles = [Bundle::shell("true")?, Bundle::shell("true")?];
    let memory = nix::sys::sysinfo::sysinfo()?.ram_total().to_string();
    let cache = bundles[0].cache().display().to_string();
    for bundle in &mut bundles {
        bundle.set("WASMTIME_SHIM_CACHE", &cache);
        bundle.set("WASMTIME_SHIM_COMPILE_MEMORY", &memory);
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
    let refusal = thread::scope(|scope| {
        let killed = scope.spawn(|| shims[0].create(&endless));
        until_at_work(&first.id)?;
        let refusal = shims[1].create_within(Duration::from_millis(1500), &small);
        kill(&first, &family(&shim_of(&first.id)?))?;
        killed.join().expect("no panic").expect_err("is killed");
        Ok::<_, anyhow::Error>(refusal.expect_err("is refused"))
    })?;
    assert_eq!(refusal.code, Code::UNAVAILABLE, "{refusal:?}");
    let expected = "/app.wat: still waiting for others to be compiled after 1 s";
    assert!(refusal.message.contains(expected), "{refusal:?}");
    granted(shims[1].create(&small))?;
    run(&shims[1], &second)?;
    first.close()?;
    second.close()
}

#[test]
fn a_worker_that_is_stopped_is_ended_when_its_time_is_up() -> Result<()> {
    let mut bundle = Bundle::shell("true")?;
    bundle.set("WASMTIME_SHIM_COMPILE_TIME", "2s");
    let request = endless_guest(&bundle)?;
    let shim = bundle.start()?;
    let refusal = thread::scope(|scope| {
        let create = scope.spawn(|| shim.create_within(Duration::from_secs(20), &request));
        let worker = until_at_work(&bundle.id)?;
        worker.kill(Signal::SIGSTOP)?;
        let refusal = create.join().expect("no panic").expect_err("is refused");
        until_ended(&worker).map(|()| refusal)
    })?;
    assert!(refusal.message.contains("cannot be compiled within 2s"), "{refusal:?}");
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn what_is_refused_is_named_without_its_args() -> Result<()> {
    let secret = "--password=hunter2";
    for (program, text) in
        [("/app.wat", "(module (func (export \"_start\") unknown))"), ("/no-such", "")]
    {
        let bundle = Bundle::shell("true")?;
        fs::create_dir_all(bundle.folder.join("files"))?;
        fs::write(bundle.folder.join("files/app.wat"), text)?;
        let config = fs::read_to_string(bundle.folder.join("config.json"))?;
        let mut config: Value = serde_json::from_str(&config)?;
        config["process"]["args"] = json!([program, secret]);
        config["process"]["env"] = json!(["PATH=/bin", "SECRET=hunter2"]);
        bundle.write_config(&config)?;
        let shim = bundle.start()?;
        let mut request = bundle.create_request();
        request.set_rootfs(vec![mount("bind", &bundle.folder.join("files"), &["rbind"])]);
        let refusal = shim.create(&request).expect_err("is refused");
        assert!(refusal.message.contains(program), "{refusal:?}");
        for said in [&refusal.message, &bundle.log()?] {
            assert!(!said.contains("hunter2"), "{said}");
        }
        ends(&shim, &bundle)?;
        bundle.close()?;
    }
    Ok(())
}

/// The files of the cache: the lock, and compiled code.
fn kept(bundle: &Bundle) -> Result<Vec<u64>> {
    let mut inodes = Vec::new();
    for entry in fs::read_dir(bundle.cache())? {
        inodes.push(entry?.metadata()?.ino());
    }
    Ok(inodes)
}

#[test]
fn a_compilation_goes_on_when_the_caller_s_time_is_up_and_the_next_attempt_has_its_code()
-> Result<()> {
    let bundle = Bundle::shell("true")?;
    let request = slow_guest(&bundle)?;
    let shim = bundle.start()?;
    let refusal = shim.create_within(Duration::from_secs(2), &request).expect_err("is refused");
    assert_eq!(refusal.code, Code::UNAVAILABLE, "{refusal:?}");
    assert!(refusal.message.contains("/app.wat: still being compiled after 1 s"), "{refusal:?}");
    let code = || Ok(Some(kept(&bundle)?).filter(|kept| kept.len() == 2));
    // It leaves the processors to others.
    let code = wait::until(EVENTUALLY, "code to be kept", code)?;

    granted(shim.create(&request))?;
    assert_eq!(kept(&bundle)?, code, "compiled again");
    runs_to_its_end(&shim, bundle)
}

#[test]
fn why_a_compilation_failed_that_nobody_waited_for_is_told_to_the_next_attempt() -> Result<()> {
    let mut bundle = Bundle::shell("true")?;
    bundle.set("WASMTIME_SHIM_COMPILE_TIME", "2s");
    let request = slow_guest(&bundle)?;
    let shim = bundle.start()?;
    let refusal =
        shim.create_within(Duration::from_millis(1500), &request).expect_err("is refused");
    assert!(refusal.message.contains("still being compiled"), "{refusal:?}");
    wait::until(SOON, "the worker to be ended", || {
        let family = family(&shim_of(&bundle.id)?);
        Ok(family.iter().all(|process| process.name != "wasm-compile").then_some(()))
    })?;
    let refusal =
        shim.create_within(Duration::from_millis(1500), &request).expect_err("is refused");
    assert!(refusal.message.contains("cannot be compiled within 2s"), "{refusal:?}");
    ends(&shim, &bundle)?;
    bundle.close()
}

#[test]
fn kubelet_is_told_that_a_guest_is_still_being_compiled_and_runs_it_later() -> Result<()> {
    on_each_containerd(|node| {
        let image = large(node, "slow", 8000)?;
        let pod = node.run_pod(&Pod::new("slow"))?;
        let first = pod.create(&Container::new("first", &image))?;
        let error = first.start_within(Duration::from_secs(2)).err().context("was started")?;
        let text = format!("{error:#}");
        assert!(text.contains("still being compiled after"), "{text}");
        first.remove()?;
        let exit = pod.run(&Container::new("second", &image))?.wait()?;
        assert_eq!((exit.code, code(node)?.len()), (0, 1));
        Ok(())
    })
}

#[test]
fn what_a_compilation_may_use_is_set_and_told() -> Result<()> {
    let refusal = |variable: &str, value: &str| -> Result<Refusal> {
        let mut bundle = Bundle::shell("true")?;
        bundle.set(variable, value);
        let request = slow_guest(&bundle)?;
        let shim = bundle.start()?;
        let refusal = shim.create(&request).expect_err("is refused");
        ends(&shim, &bundle)?;
        bundle.close()?;
        Ok(refusal)
    };
    let (time, memory) = ("WASMTIME_SHIM_COMPILE_TIME", "WASMTIME_SHIM_COMPILE_MEMORY");
    let cache = "WASMTIME_SHIM_CACHE";
    for (variable, value, words) in [
        (time, "1s", ["/app.wat: ", "cannot be compiled within 1s", time]),
        (memory, "300Mi", ["/app.wat: ", "cannot be compiled in 300 MiB of memory", memory]),
        (
            time,
            "soon",
            [time, "\"soon\"", "allowed is a whole number with ms, s, m or h, such as 30s"],
        ),
        (memory, "1", [memory, "\"1\"", "allowed is a size of at least 256Mi, such as 4Gi"]),
        (cache, "cache", [cache, "\"cache\"", "allowed is an absolute path"]),
    ] {
        let refusal = refusal(variable, value)?;
        for word in words {
            assert!(refusal.message.contains(word), "no {word} in {refusal:?}");
        }
    }
    Ok(())
}
