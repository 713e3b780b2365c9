//! Compilations whose worker or zygote is killed, or whose caller is gone.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::ttrpc::Code;
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::ctr::Run;
use tests::processes::{Process, family, shim_of};
use tests::shim::{Bundle, Refusal, Shim, mount};
use tests::wait::{self, SOON};
use tests::{Container, Pod, on_each_containerd};

use crate::shim::{ends, granted};
use crate::warming::large;

mod deadlines;
mod limits;

/// A Create of a guest that takes long enough to compile for the test to meet the worker.
fn large_guest(bundle: &Bundle) -> Result<CreateTaskRequest> {
    guest(bundle, 0, 1000)
}

/// A Create of a guest that takes seconds to compile on any machine.
fn slow_guest(bundle: &Bundle) -> Result<CreateTaskRequest> {
    let processors = thread::available_parallelism()?.get().clamp(2, 4);
    guest(bundle, 0, 5000 * processors)
}

/// Writes a guest of so many functions into the directory. Each `number` is another guest.
fn write_guest(directory: &Path, number: u32, functions: usize) -> Result<()> {
    let module = tests::large::module(&format!("guest-{number}"), functions);
    Ok(fs::write(directory.join("app.wasm"), module)?)
}

/// A Create of a guest of so many functions. Each `number` is another guest.
pub fn guest(bundle: &Bundle, number: u32, functions: usize) -> Result<CreateTaskRequest> {
    write_guest(&files(bundle)?, number, functions)?;
    create_of(bundle, "/app.wasm")
}

/// The directory of a container's image.
fn files(bundle: &Bundle) -> Result<PathBuf> {
    let files = bundle.folder.join("files");
    fs::create_dir_all(&files)?;
    Ok(files)
}

/// A Create of that guest of the image, in the place of the shell.
fn create_of(bundle: &Bundle, entrypoint: &str) -> Result<CreateTaskRequest> {
    let files = files(bundle)?;
    let config = fs::read_to_string(bundle.folder.join("config.json"))?;
    fs::write(bundle.folder.join("config.json"), config.replace("/bin/sh", entrypoint))?;
    let mut request = bundle.create_request();
    request.set_rootfs(vec![mount("bind", &files, &["rbind"])]);
    Ok(request)
}

/// Calls Create, kills the process of that name below the shim while the worker compiles, and returns the answer of Create after
/// the worker has ended.
fn kill_while_it_compiles(
    shim: &Shim,
    bundle: &Bundle,
    request: &CreateTaskRequest,
    victim: &str,
) -> Result<Refusal> {
    let root = bundle.shim()?;
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
    for word in ["/app.wasm", "worker was ended by SIGKILL", "memory"] {
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
    // If it had compiled to its end, the shim would have noticed the death of the zygote only afterwards.
    assert!(refusal.message.contains("ended before it answered"), "{refusal:?}");
    ends(&shim, &bundle)?;
    bundle.close()
}

/// The worker below that shim; `None` before it is confined.
fn worker_of(shim: &Process) -> Option<Process> {
    let mut family = family(shim).into_iter();
    family.find(|process| process.name == "wasm-compile" && process.niceness() == Some(10))
}

/// Waits for the worker below the shim of that container or Pod.
fn until_at_work(id: &str) -> Result<Process> {
    let worker = || Ok(shim_of(id).ok().and_then(|shim| worker_of(&shim)));
    wait::until(SOON, "a compile worker", worker)
}

/// Waits for the end of a worker that would take far longer to compile.
fn until_ended(worker: &Process) -> Result<()> {
    let ended = || Ok(Process::at(worker.pid).is_none().then_some(()));
    wait::until(Duration::from_secs(7), "the compile worker to end", ended)
}

/// Sets a short time limit of compilations, and returns what the error says when it is over.
fn limited(bundle: &mut Bundle) -> String {
    let limit = format!("{}s", wait::patient(Duration::from_secs(2)).as_secs());
    bundle.set("WASMTIME_SHIM_COMPILE_TIME", &limit);
    format!("cannot be compiled within {limit}")
}

/// Whether an error has that begin and then the seconds that its caller has waited: a tenth of its time is left for the answer.
pub fn says_after(refusal: &Refusal, begin: &str, limit: Duration) -> bool {
    let seconds = refusal.message.split_once(begin).and_then(|(_, rest)| rest.split_once(" s;"));
    let seconds = seconds.and_then(|(seconds, _)| seconds.trim().parse().ok());
    let most = (wait::patient(limit) * 9 / 10).as_secs();
    seconds.is_some_and(|seconds: u64| (1..=most).contains(&seconds))
}

/// Number of functions that take far longer to compile than any of these tests waits.
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
        let mut client = node.ctr.start(&id, &run.command(&["/guest/app.wasm"]))?;
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
