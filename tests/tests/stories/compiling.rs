//! A shim by itself whose compile worker, or the zygote above it, is killed at work, or takes long.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::ttrpc::Code;
use nix::sys::signal::Signal;
use tests::processes::{Process, family, shim_of};
use tests::shim::{Bundle, Refusal, Shim, mount};
use tests::wait::{self, SOON};
use tests::{Container, Pod, on_each_containerd};

use crate::composing::code;
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

/// A Create of a guest of so many functions. Each `number` is another guest.
pub fn guest(bundle: &Bundle, number: u32, functions: usize) -> Result<CreateTaskRequest> {
    let function =
        format!("(func (param i32) (result i32) local.get 0 {})", "i32.clz ".repeat(500));
    let functions = function.repeat(functions);
    let start = "(func (export \"_start\"))";
    let module = format!("(module {start} (global i32 i32.const {number}) {functions})");
    let files = bundle.folder.join("files");
    fs::create_dir_all(&files)?;
    fs::write(files.join("app.wat"), module)?;
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
    granted(shim.start(&bundle.id))?;
    assert_eq!(shim.wait(&bundle.id), Ok(0));
    granted(shim.delete(&bundle.id))?;
    ends(shim, &bundle)?;
    bundle.close()
}

#[test]
fn a_killed_compile_worker_is_told_and_the_next_try_is_not_harmed() -> Result<()> {
    let bundle = Bundle::shell("true")?;
    let request = large_guest(&bundle)?;
    let shim = bundle.start()?;
    let refusal = kill_while_it_compiles(&shim, &bundle, &request, "wasm-compile")?;
    for word in ["/app.wat", "worker was ended", "memory"] {
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
    assert!(refusal.message.contains("worker was ended"), "{refusal:?}");
    ends(&shim, &bundle)?;
    bundle.close()
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
    let code = wait::until(SOON, "code to be kept", code)?;

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
    for word in ["worker was ended", "it may use 2s"] {
        assert!(refusal.message.contains(word), "no {word} in {refusal:?}");
    }
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
    for (variable, value, words) in [
        (time, "1s", ["worker was ended", "it may use 1s and 4096 MiB", time]),
        (memory, "300Mi", ["worker was ended", "it may use 300s and 300 MiB", memory]),
        (time, "soon", [time, "\"soon\"", "such as 30s is expected"]),
        (memory, "0", [memory, "\"0\"", "such as 10Mi is expected"]),
    ] {
        let refusal = refusal(variable, value)?;
        for word in words {
            assert!(refusal.message.contains(word), "no {word} in {refusal:?}");
        }
    }
    Ok(())
}
