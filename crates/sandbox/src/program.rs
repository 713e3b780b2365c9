//! Containers of Linux programs. The node's OCI runtime makes, changes and removes them ([`crate::runtime`]).
//!
//! The runtime gets the bundle as containerd wrote it. This crate does the rest, as for every other container: it knows
//! which processes belong to the container and who else uses its cgroup. If a call fails or is killed, this crate
//! removes what the call leaves.
//!
//! It finds what a killed call left by the files that the processes have open. The runtime itself holds the lock of
//! [`crate::build_lock`]. Its first process has a fifo open, at which it waits to be started, in the directory of the
//! runtime's state.

use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::unistd::Pid;
use oci_spec::runtime::Spec;
use serde_json::Value;

use crate::cgroup::Cgroup;
use crate::console::Console;
use crate::record::{self, PID, Recorded};
use crate::runtime::{self, Call, Runtime};
use crate::wait::{self, Tries};
use crate::{Change, Create, Error, Exec, ProcessFds, build_lock, limits, pidfd, spec};

/// Name of the fifo by which the first process is started, in the directory of its state, as of runc and crun.
const EXEC_FIFO: &str = "exec.fifo";

/// How long Start waits for the program to be executed after the OCI runtime has answered: a second, which is far longer than
/// a loaded machine needs.
const EXECUTION: Tries = Tries { count: 5000, pause: Duration::from_micros(200) };

/// Creates the container and returns the pid of its first process, which waits for Start. If it fails, nothing is left.
pub fn create(request: Create, fds: ProcessFds) -> Result<i32, Error> {
    // A missing runtime is reported before anything is made.
    runtime_of(&request)?.locate()?;
    let directory = record::directory(&request.bundle);
    let config = request.bundle.join("config.json");
    let spec = spec::load(&config)?;
    let cgroup = record::cgroup(&spec, &request.id, request.systemd_cgroup)?;
    let spec =
        if is_by_systemd(&request, &cgroup) { spec } else { name_cgroup(&config, spec, &cgroup)? };
    fs::create_dir(&directory).map_err(Error::io(format!("create {}", directory.display())))?;
    let lock = build_lock::take(&directory)?;
    let recorded = record::begin(request, spec, &cgroup, &directory)?;
    let made = make(&recorded, &directory, fds, &cgroup, lock.as_fd());
    drop(lock);
    made.map(Pid::as_raw).inspect_err(|_| {
        let _ = destroy(&recorded, &directory, &recorded.record.create.id, &cgroup);
    })
}

/// Names the cgroup in `config.json` if the runtime would choose another one than this crate: the spec has no path, or one
/// for systemd on a node where this crate makes the same path itself.
fn name_cgroup(config: &Path, spec: Spec, cgroup: &Cgroup) -> Result<Spec, Error> {
    let path = cgroup.cgroups_path();
    let given = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    if given.is_some_and(|given| Path::new("/").join(given) == path && given.is_absolute()) {
        return Ok(spec);
    }
    // It is edited as JSON, so that fields of a later spec are kept.
    let name = config.display();
    let text = fs::read(config).map_err(Error::io(format!("read {name}")))?;
    let parsed = serde_json::from_slice(&text);
    let mut json: Value = parsed.map_err(Error::malformed(format!("parse {name}")))?;
    json["linux"]["cgroupsPath"] = path.display().to_string().into();
    spec::save(&json, config)?;
    spec::load(config)
}

fn make(
    Recorded { record, spec }: &Recorded,
    directory: &Path,
    fds: ProcessFds,
    cgroup: &Cgroup,
    lock: BorrowedFd<'_>,
) -> Result<Pid, Error> {
    let request = &record.create;
    let runtime = runtime_of(request)?;
    let ProcessFds { stdio, console, guest } = fds;
    guest.finish()?;
    let console = console.map(|fd| Console::listen(directory, fd)).transpose()?;
    let mut call = call(runtime, "create", request.time, is_by_systemd(request, cgroup));
    call.args.extend(["--bundle".into(), request.bundle.clone().into()]);
    call.args.extend(["--pid-file".into(), directory.join(PID).into()]);
    if let Some(console) = &console {
        call.args.extend(["--console-socket".into(), console.address().into()]);
    }
    call.args.extend(runtime.no_pivot_root.then(|| "--no-pivot".into()));
    call.args.extend(runtime.no_new_keyring.then(|| "--no-new-keyring".into()));
    call.args.push(request.id.clone().into());
    call.stdio = stdio;
    call.inherited = Some(lock);
    let creating = trace::span("OCI runtime: create");
    call.run()?;
    drop(creating);
    let pid = read_pid(&directory.join(PID))?;
    if let Some(console) = console {
        console.forward()?;
    }
    cgroup.mark(&record.not_ours);
    record::note(pid, spec, directory, cgroup)?;
    Ok(pid)
}

fn read_pid(path: &Path) -> Result<Pid, Error> {
    let name = path.display();
    let text = fs::read_to_string(path).map_err(Error::io(format!("read {name}")))?;
    let pid = serde_json::from_str(text.trim()).map_err(Error::malformed(format!("read {name}")));
    pid.map(Pid::from_raw)
}

/// Starts the created container's program, which has been executed when this returns.
pub fn start(recorded: &Recorded, id: &str, time: Duration) -> Result<(), Error> {
    let _span = trace::span("OCI runtime: start");
    let waiting = read_pid(&record::directory(&recorded.record.create.bundle).join(PID))?;
    let before = executable(waiting);
    let mut call = by_id(recorded, "start", id)?;
    call.limit = time;
    call.run()?;
    // A runtime may answer when its process is about to execute the program. A signal before that would be lost, because
    // runc's process catches all signals.
    let is_executed = || before.is_none() || executable(waiting) != before;
    let _ = wait::until(EXECUTION, || is_executed().then_some(()));
    Ok(())
}

/// Device and inode of the program that a process executes; `None` if it has ended.
fn executable(pid: Pid) -> Option<(u64, u64)> {
    let file = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((file.dev(), file.ino()))
}

/// Changes the container.
pub fn change(recorded: &Recorded, id: &str, change: &Change) -> Result<(), Error> {
    let resources;
    let call = match change {
        Change::Pause => by_id(recorded, "pause", id)?,
        Change::Resume => by_id(recorded, "resume", id)?,
        Change::Update(limits) => {
            resources = in_file(limits)?;
            let mut call = by_id(recorded, "update", id)?;
            let path = runtime::path_of(&resources);
            call.args.splice(0..0, ["--resources".into(), path.into()]);
            call
        }
    };
    call.run().map(drop)
}

/// Executes a further program in the container.
pub fn exec(request: Exec, fds: ProcessFds) -> Result<i32, Error> {
    let Exec { id, bundle, process, time, .. } = request;
    let recorded = record::recorded(&bundle).ok_or(Error::Gone { process: "container" })?;
    // Each call has a directory of its own, because several can run at the same time.
    let directory = record::directory(&bundle).join(format!("exec-{}", std::process::id()));
    fs::create_dir_all(&directory).map_err(Error::io(format!("create {}", directory.display())))?;
    let process = in_file(&process)?;
    let executed = execute(&recorded, &id, &directory, fds, &process, time);
    let _ = fs::remove_dir_all(&directory);
    executed.map(Pid::as_raw)
}

fn execute(
    recorded: &Recorded,
    id: &str,
    directory: &Path,
    fds: ProcessFds,
    process: &impl AsFd,
    time: Duration,
) -> Result<Pid, Error> {
    let ProcessFds { stdio, console, guest } = fds;
    guest.finish()?;
    let console = console.map(|fd| Console::listen(directory, fd)).transpose()?;
    let pid_file = directory.join(PID);
    let mut call = by_id(recorded, "exec", id)?;
    let mut args = vec!["--detach".into(), "--pid-file".into(), pid_file.clone().into()];
    args.extend(["--process".into(), runtime::path_of(process).into()]);
    if let Some(console) = &console {
        args.extend(["--console-socket".into(), console.address().into()]);
    }
    call.args.splice(0..0, args);
    call.stdio = stdio;
    call.limit = time;
    call.run()?;
    let pid = read_pid(&pid_file)?;
    let forwarded = console.map_or(Ok(()), Console::forward);
    forwarded.inspect_err(|_| drop(pidfd::signal(pid, libc::SIGKILL)))?;
    Ok(pid)
}

/// Ends the container's processes and lets the runtime remove the rest. It skips what does not exist. Returns a warning for a
/// failure that does not prevent the removal.
pub fn destroy(
    recorded: &Recorded,
    directory: &Path,
    id: &str,
    cgroup: &Cgroup,
) -> Result<Option<String>, Error> {
    let Recorded { record, spec } = recorded;
    let runtime = runtime_of(&record.create)?;
    let state = runtime.state(id);
    build_lock::kill_builders(directory)?;
    // `delete` would kill it as well, but then wait for the shim to reap it, and the shim waits for this call.
    build_lock::kill_holders_of(&state.join(EXEC_FIFO));
    match record::members(directory, spec) {
        Some(members) => members.kill(cgroup)?,
        // Create was killed before it recorded the first process.
        None if cgroup.is_named_after_container() => cgroup.kill()?,
        None => {}
    }
    let by_systemd = is_by_systemd(&record.create, cgroup);
    let mut call = call(runtime, "delete", limits::DELETE_TIME, by_systemd);
    call.args = vec!["--force".into(), id.into()];
    // For a container without a pid namespace of its own runc kills all processes in the cgroup, and fails if it cannot
    // remove the cgroup. If others may be in the cgroup, the rules of `members` apply instead.
    call.hides_cgroups = !by_systemd && !record.is_alone_in(cgroup);
    let deleted = call.run();
    runtime::remove_state(&state)?;
    cgroup.remove(&record.not_ours)?;
    record::remove(directory)?;
    Ok(match deleted {
        Ok(errors) => (!errors.is_empty()).then(|| errors.join("; ")),
        Err(error) => Some(error.to_string()),
    })
}

/// Whether the runtime must ask systemd for the cgroup.
fn is_by_systemd(request: &Create, cgroup: &Cgroup) -> bool {
    request.systemd_cgroup || cgroup.by_systemd()
}

fn by_id<'a>(recorded: &'a Recorded, verb: &'static str, id: &str) -> Result<Call<'a>, Error> {
    let request = &recorded.record.create;
    let cgroup = recorded.cgroup(id)?;
    let by_systemd = is_by_systemd(request, &cgroup);
    let mut call = call(runtime_of(request)?, verb, limits::RUNTIME_TIME, by_systemd);
    call.args = vec![id.into()];
    Ok(call)
}

fn call<'a>(
    runtime: &'a Runtime,
    verb: &'static str,
    limit: Duration,
    by_systemd: bool,
) -> Call<'a> {
    let mut call = Call::of(runtime, verb, limit);
    call.systemd = by_systemd;
    call
}

fn runtime_of(request: &Create) -> Result<&Runtime, Error> {
    request.runtime.as_ref().ok_or(Error::Gone { process: "container" })
}

/// File in memory with JSON.
fn in_file(value: &Value) -> Result<fs::File, Error> {
    let bytes = serde_json::to_vec(value).map_err(Error::malformed("encode for the runtime"))?;
    let mut file = runtime::in_memory(c"runtime-input")?;
    file.write_all(&bytes).map_err(Error::io("write for the runtime"))?;
    Ok(file)
}
