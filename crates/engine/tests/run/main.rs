//! Guests that run to their end, each in a process of its own as in a container: exit codes, stderr, signals.
//!
//! A test starts this very binary again, with [`guest`] as the only test and the guest in the environment.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a test fails"
)]

mod artifacts;
mod code;
mod command;
mod files;
mod http;
mod interfaces;
mod limits;
mod memory;
mod profile;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use engine::{Compiled, Given, Layer, Runtime};
use grants::{Giver, Granted, Grants, MergeInput, Requested, merge};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use plan::{FailureArtifacts, Plan};

/// The variable with the plan; the compiled code is the process's standard input.
const PLAN: &str = "ENGINE_TEST_PLAN";

/// The variable with the container's memory limit in bytes, if there is one.
const MEMORY: &str = "ENGINE_TEST_MEMORY";

/// The variable with the limit of open files, if there is one.
const FILES: &str = "ENGINE_TEST_FILES";

/// The variable with the path of the socket where profiles are asked for, if there is one.
const PROFILES: &str = "ENGINE_TEST_PROFILES";

/// The variable with the path of a directory that the guest cannot write to, if there is one.
const READ_ONLY: &str = "ENGINE_TEST_READ_ONLY";

/// What libtest prints before a test, on the guest's stdout.
const PREAMBLE: &str = "running 1 test\ntest guest ... ";

/// No test, but the process of a guest: does nothing unless another test started it.
#[test]
#[ignore = "started by the other tests"]
fn guest() {
    let Ok(plan) = std::env::var(PLAN) else { return };
    let plan: Plan = serde_json::from_str(&plan).expect("a plan");
    if let Ok(limit) = std::env::var(MEMORY) {
        let limit = limit.parse().expect("a number");
        setrlimit(Resource::RLIMIT_RSS, limit, RLIM_INFINITY).expect("is set");
    }
    if let Ok(directory) = std::env::var(READ_ONLY) {
        mount_read_only(Path::new(&directory)).expect("mounted");
    }
    if let Ok(limit) = std::env::var(FILES) {
        let limit = limit.parse().expect("a number");
        setrlimit(Resource::RLIMIT_NOFILE, limit, limit).expect("is set");
    }
    let code = std::io::stdin().as_fd().try_clone_to_owned().expect("the code");
    let profiles =
        std::env::var(PROFILES).ok().map(|path| UnixListener::bind(path).expect("listens"));
    let page_map = Some(File::open("/proc/self/pagemap").expect("a page map"));
    let given = Given { code: code.into(), profiles, roots: None, page_map };
    let code = Runtime::new().expect("a runtime").load(plan, given).run(|| ());
    // SAFETY: _exit has no preconditions. It is how a container's process ends: without exit handlers.
    unsafe { nix::libc::_exit(code.into()) }
}

/// Makes a directory a file system of its own that is read-only, for this thread and those that it starts.
fn mount_read_only(directory: &Path) -> nix::Result<()> {
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    mount(Some(directory), directory, nothing, MsFlags::MS_BIND, nothing)?;
    let again = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(nothing, directory, nothing, again, nothing)
}

/// How a guest is started, beside what most have in common.
struct Start<'a> {
    export: Option<&'a str>,
    /// After its own name.
    args: &'a [&'a str],
    env: &'a [String],
    memory: Option<u64>,
    files: Option<u64>,
    profiles: Option<&'a Path>,
    /// Annotations, without `wasmtime.shim/`.
    annotations: &'a [(&'a str, &'a str)],
    /// The directory of its failure artifacts: `message`, which is there, and `core.app`.
    artifacts: Option<&'a Path>,
    /// A directory that is mounted for reading only.
    read_only: Option<&'a Path>,
    /// Whether no directory is granted to it.
    without_files: bool,
}

const AS_IT_IS: Start<'static> = Start {
    export: None,
    args: &[],
    env: &[],
    memory: None,
    files: None,
    profiles: None,
    annotations: &[],
    artifacts: None,
    read_only: None,
    without_files: false,
};

/// The grants of a Pod with these annotations, and the annotations that grant nothing.
fn granted<'a>(how: &Start<'a>) -> (Grants, Vec<(String, &'a str)>) {
    let mut pod = Requested::default();
    let all = how.annotations.iter().map(|(key, value)| (format!("wasmtime.shim/{key}"), *value));
    let others = all.filter(|(key, value)| !pod.set(key, value).expect("a setting")).collect();
    let grants = merge(&MergeInput { pod, ..MergeInput::default() }).expect("merges");
    let files = how.without_files.then(|| Granted { entries: vec![], giver: Giver::Pod });
    (Grants { files, ..grants }, others)
}

fn start(guest: &str, how: &Start<'_>) -> Child {
    let runtime = Runtime::new().expect("a runtime");
    let (grants, others) = granted(how);
    let layer = Layer { name: "app".into(), wasm: guest.into() };
    let compiled = runtime.compile(&[layer], how.export, &grants.code);
    let Compiled { world, code, .. } = compiled.expect("compiles");
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&code).expect("written");
    let export = how.export.map(ToOwned::to_owned);
    let args = std::iter::once("app").chain(how.args.iter().copied()).map(ToOwned::to_owned);
    let plan = Plan::new(world, export, args.collect(), how.env, "/".into());
    let artifacts = how.artifacts.map_or(FailureArtifacts::default(), |directory| {
        let message = directory.join("message");
        std::fs::write(&message, "").expect("made");
        FailureArtifacts { message: Some(message), core_dump: Some(directory.to_owned()) }
    });
    let mut plan = Plan { artifacts, ..plan.expect("a plan") };
    for (key, value) in others {
        plan.http.annotate(&key, value).expect("a setting");
    }
    plan.grant(grants);
    let plan = serde_json::to_string(&plan).expect("encodes");
    // libtest has a main thread of its own, which must leave the signals to the guest's: threads and processes
    // inherit what is blocked.
    [Signal::SIGTERM, Signal::SIGINT]
        .into_iter()
        .collect::<SigSet>()
        .thread_block()
        .expect("blocked");
    Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "guest", "--ignored", "--nocapture", "--test-threads=1"])
        .env(PLAN, plan)
        .envs(how.profiles.map(|path| (PROFILES, path)))
        .envs(how.read_only.map(|path| (READ_ONLY, path)))
        .envs(how.memory.map(|limit| (MEMORY, limit.to_string())))
        .envs(how.files.map(|limit| (FILES, limit.to_string())))
        .stdin(file)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts")
}

/// How a guest ended.
#[derive(Debug)]
struct End {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn end(child: Child) -> End {
    let output = child.wait_with_output().expect("ends");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stdout = stdout.trim_start().strip_prefix(PREAMBLE).unwrap_or(&stdout).to_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    End { code: output.status.code(), stdout, stderr }
}

fn run(guest: &str) -> End {
    end(start(guest, &AS_IT_IS))
}

fn send(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
    kill(pid, signal).expect("is there");
}
