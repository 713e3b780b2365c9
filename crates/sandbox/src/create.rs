//! Makes an isolated process from an OCI bundle, which then waits for Start, and removes it again. [`crate::record`]
//! describes the files that are kept about the container. Beside them is the fifo at which a guest waits for Start
//! (`start`).

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::guests::Guests;
use crate::isolate::{self, Made};
use crate::record::{self, Recorded};
use crate::{Change, Create, Error, ProcessFds, Workload, build_lock, program, spec};

/// Builds the container and returns the pid of its first process, which waits for Start. If it fails, nothing is left.
pub fn create(request: Create, fds: ProcessFds, guests: &Guests) -> Result<i32, Error> {
    let reading = trace::span("spec");
    let until = Instant::now() + request.time;
    let directory = record::directory(&request.bundle);
    let original = spec::load(&request.bundle.join("config.json"))?;
    let cgroup = record::cgroup(&original, &request.id, request.systemd_cgroup)?;
    let spec = spec::fit(original, &request.bundle, &request.workload, &cgroup);
    // The bundle must exist: containerd may have given up and removed it in the meantime.
    fs::create_dir(&directory).map_err(Error::io(format!("create {}", directory.display())))?;
    let lock = build_lock::take(&directory)?;
    let Recorded { record, spec } = record::begin(request, spec, &cgroup, &directory)?;
    drop(reading);
    let made =
        isolate::isolate(&record.create, spec.clone(), &directory, fds, guests, &cgroup, until)
            .and_then(|made| record::note(made.pid, &spec, &directory, &cgroup).map(|()| made));
    drop(lock);
    let Made { pid, page_map } = made.inspect_err(|_| {
        let _ = destroy(&record.create.bundle, &record.create.id);
    })?;
    // This must be the last step, because this process gives up a capability for it and could not clean up any more.
    if let Some(sender) = page_map {
        sender.send(pid.as_raw());
    }
    Ok(pid.as_raw())
}

/// Releases a guest or the built-in pause, whose container has no `poststart` hooks.
///
/// # Errors
/// [`Error::Isolation`] if its process has ended.
pub fn release(bundle: &Path) -> Result<(), Error> {
    Ok(isolate::release(&record::directory(bundle))?)
}

/// Starts a created container by its OCI runtime, or releases it and runs its `poststart` hooks, within `time`.
pub fn start(bundle: &Path, id: &str, time: Duration) -> Result<(), Error> {
    match record::recorded(bundle) {
        Some(recorded) if recorded.is_program() => program::start(&recorded, id, time),
        recorded => {
            let until = Instant::now() + time;
            isolate::start(recorded.as_ref(), &record::directory(bundle), until)
        }
    }
}

/// Changes a container. For a program's container the OCI runtime does it.
pub fn change(bundle: &Path, id: &str, change: &Change) -> Result<(), Error> {
    let recorded = record::recorded(bundle).ok_or(Error::Gone { process: "container" })?;
    if recorded.is_program() {
        return program::change(&recorded, id, change);
    }
    let cgroup = recorded.cgroup(id)?;
    match change {
        Change::Pause => cgroup.freeze(),
        Change::Resume => cgroup.thaw(),
        Change::Update(limits) => {
            let limits = serde_json::from_value(limits.clone());
            cgroup.update(&limits.map_err(Error::malformed("read the limits"))?)
        }
    }
}

/// Ends the container's processes, removes its cgroup and state, and runs its `poststop` hooks. It skips what does not
/// exist (any more), so that it cleans up after a killed shim, too. Returns a warning for a failure that does not prevent
/// the removal, such as that of a hook (OCI runtime spec, "Lifecycle").
pub fn destroy(bundle: &Path, id: &str) -> Result<Option<String>, Error> {
    let directory = record::directory(bundle);
    let Some(recorded) = record::recorded(bundle) else {
        build_lock::kill_builders(&directory)?;
        let warning = end_other(bundle, id, &directory)?;
        return record::remove(&directory).map(|()| warning);
    };
    let cgroup = recorded.cgroup(id)?;
    if recorded.is_program() {
        return program::destroy(&recorded, &directory, id, &cgroup);
    }
    let Recorded { record, spec } = recorded;
    build_lock::kill_builders(&directory)?;
    if let Some(members) = record::members(&directory, &spec) {
        members.kill(&cgroup)?;
    }
    // Compile workers run in the cgroup of a Pod's sandbox, in which nothing else is. Their results are not needed any more.
    if matches!(record.create.workload, Workload::Pause) && cgroup.is_named_after_container() {
        cgroup.kill()?;
    }
    cgroup.remove(&record.not_ours)?;
    let stopped = if cgroup.by_systemd() { cgroup.stop_scope() } else { Ok(()) };
    let undone = stopped.and(isolate::after(&record.create, &spec, &directory));
    record::remove(&directory).map(|()| undone.err().map(|error| error.to_string()))
}

/// Ends the processes of a container whose record another version of the shim has written in a form that this one cannot read,
/// and removes its cgroup if no other container is meant to be in it. Which they are is in the container's spec. What the OCI
/// runtime keeps about a program stays. Returns a warning if there is such a record.
fn end_other(bundle: &Path, id: &str, directory: &Path) -> Result<Option<String>, Error> {
    if !record::exists(directory) {
        return Ok(None);
    }
    let spec = spec::load(&bundle.join("config.json"))?;
    let cgroup = record::cgroup(&spec, id, false)?;
    if let Some(members) = record::members(directory, &spec) {
        members.kill(&cgroup)?;
    }
    if cgroup.is_named_after_container() {
        cgroup.kill()?;
        cgroup.remove(&[])?;
    }
    if cgroup.by_systemd() {
        cgroup.stop_scope()?;
    }
    Ok(Some(
        "another version of the shim made this container; its poststop hooks do not run".into(),
    ))
}
