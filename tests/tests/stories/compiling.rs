//! A shim by itself whose compile worker, or the zygote above it, is killed at work.

use std::fs;
use std::thread;

use anyhow::{Context, Result};
use containerd_shim_protos::api::CreateTaskRequest;
use nix::sys::signal::Signal;
use tests::processes::{Process, family, shim_of};
use tests::shim::{Bundle, Refusal, Shim, mount};
use tests::wait::{self, SOON};

use crate::shim::{ends, granted};

/// A Create of a guest that takes long enough to compile for the test to meet the worker.
fn large_guest(bundle: &Bundle) -> Result<CreateTaskRequest> {
    guest(bundle, 0, 1000)
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
        worker = Some(wait::until(SOON, "the compile worker", || Ok(find("wasm-compile")))?);
        find(victim).context("nobody to kill")?.kill(Signal::SIGKILL)?;
        Ok::<_, anyhow::Error>(create.join().expect("no panic").expect_err("is refused"))
    })?;
    let worker = worker.context("no worker")?;
    wait::until(SOON, "the worker to end", || Ok(Process::at(worker.pid).is_none().then_some(())))?;
    Ok(refusal)
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
    granted(shim.start(&bundle.id))?;
    assert_eq!(shim.wait(&bundle.id), Ok(0));
    granted(shim.delete(&bundle.id))?;
    ends(&shim, &bundle)?;
    bundle.close()
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
