//! Exec processes: Exec adds one to a container, Start makes it, and Delete removes it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use containerd_shim::api::{DeleteResponse, Empty, ExecProcessRequest, StartResponse};
use containerd_shim::protos::events::task::{TaskExecAdded, TaskExecStarted};
use nix::libc::SIGKILL;
use oci_spec::runtime;
use sandbox::pidfd::Ticks;
use sandbox::{Kind, ProcessFds};
use serde::Deserialize;
use serde_json::Value;

use super::{config, workload};
use crate::container::{Container, Exec};
use crate::errors::Error;
use crate::events::timestamp;
use crate::lifecycle::{Refusal, State};
use crate::pod::{Caller, Shared, blocking};
use crate::process::Process;
use crate::stdio::{Owner, Paths, PreparedEnds};

/// Runs Exec: adds the exec process, and publishes that. Nothing runs before Start.
pub fn exec(shared: &Arc<Shared>, request: ExecProcessRequest) -> Result<Empty, Error> {
    let container = shared.container(&request.id)?;
    if container.kind() == Kind::Pause {
        return Err(Error::Sandboxed);
    }
    container.first().lifecycle().may_exec()?;
    let unreadable = |error: serde_json::Error| Error::Process(error.to_string());
    let json: Value = serde_json::from_slice(&request.spec.value).map_err(unreadable)?;
    let spec = runtime::Process::deserialize(&json).map_err(unreadable)?;
    let stdio = Paths {
        terminal: request.terminal,
        stdin: request.stdin,
        stdout: request.stdout,
        stderr: request.stderr,
    };
    let process = Arc::new(Process::new(stdio));
    let exec = Exec { spec: Arc::new(spec), json: Arc::new(json), process };
    container.add(&request.exec_id, exec)?;
    shared.events.publish(TaskExecAdded {
        container_id: request.id,
        exec_id: request.exec_id,
        ..Default::default()
    });
    Ok(Empty::new())
}

/// Runs Start of an exec process, and publishes it before its exit can be published.
pub async fn start(
    shared: &Arc<Shared>,
    container: Arc<Container>,
    exec_id: String,
    caller: &Caller,
) -> Result<StartResponse, Error> {
    let exec = container.exec(&exec_id)?;
    let _transition = exec.process.transition.lock().await;
    // It may have been deleted in the meantime.
    container.exec(&exec_id)?;
    let begun = exec.process.begin_start()?;
    container.first().lifecycle().may_exec()?;
    let prepared = prepare(shared, &container, &exec_id, &exec, caller).await?;
    // The process must not be reaped before its watcher claims it.
    let forking = shared.forking.read().await;
    let (is_guest, then) = (prepared.is_guest, Ticks::now());
    let made = prepared.make(shared, &exec.process).await;
    drop(forking);
    // A failure leaves processes, too.
    shared.reap_orphans();
    // An OCI runtime that fails without being killed leaves nothing.
    let was_killed =
        |error: &Error| matches!(error, Error::Sandbox(error) if error.may_have_left_processes());
    if made.as_ref().is_err_and(was_killed) && !is_guest {
        let (shared, container, exec) = (shared.clone(), container.clone(), exec.clone());
        tokio::spawn(async move {
            let args = exec.spec.args().as_deref().unwrap_or_default();
            shared.end_strays(&container, then, args).await;
        });
    }
    made?;
    begun.succeeded();
    let pid = exec.process.raw_pid();
    shared.events.publish(TaskExecStarted {
        container_id: container.id().into(),
        exec_id: exec_id.clone(),
        pid,
        ..Default::default()
    });
    tokio::spawn(container.watch_exec(exec_id, exec.clone(), shared.events.clone()));
    Ok(StartResponse { pid, ..Default::default() })
}

/// Runs Delete of an exec process.
pub async fn delete(container: &Container, exec_id: &str) -> Result<DeleteResponse, Error> {
    let process = container.process(exec_id)?;
    // A start may still be running, even if its caller does not wait any more.
    let _transition = process.transition.lock().await;
    process.lifecycle().may_delete()?;
    process.read_to_the_end().await;
    let mut response = DeleteResponse { pid: process.raw_pid(), ..Default::default() };
    // A process that was never started has no exit.
    if let State::Stopped(exit) = process.lifecycle().state() {
        response.exit_status = exit.code.into();
        response.exited_at = Some(timestamp(exit.at)).into();
    }
    container.forget(exec_id);
    Ok(response)
}

/// Everything that an exec process needs before it is made.
struct Prepared {
    is_guest: bool,
    request: sandbox::Exec,
    /// The container's first process.
    first: OwnedFd,
    fds: ProcessFds,
    shim_ends: PreparedEnds,
}

async fn prepare(
    shared: &Arc<Shared>,
    container: &Container,
    exec_id: &str,
    exec: &Exec,
    caller: &Caller,
) -> Result<Prepared, Error> {
    let first = container.first().child().ok_or(Refusal::NotRunning)?;
    let config = config::read(shared, container.bundle()).await?;
    let found = tokio::select! {
        found = workload::find_exec(shared, container, &config, &exec.spec, caller) => found?,
        // The container has ended, so a compilation is of no use any more.
        _ = container.first().wait() => return Err(Refusal::NotRunning.into()),
    };
    let kind = found.workload.kind();
    let (is_program, is_guest) = (kind == Kind::Program, kind == Kind::Guest);
    // Only a program's container has a devpts, for a terminal of its own.
    let own_terminal = is_program && container.kind() == Kind::Program;
    let stdio = exec.process.stdio();
    let user = match is_program {
        true => container.options().owner_of_stdio(exec.spec.user()),
        false => exec.spec.user().clone(),
    };
    let (fds, shim_ends) =
        shared.connect(exec_id, stdio, Owner::Executed, own_terminal, &user).await?;
    let request = sandbox::Exec {
        id: container.id().into(),
        bundle: container.bundle().to_owned(),
        pid: first.pid().as_raw(),
        process: (*exec.json).clone(),
        time: caller.time(),
        workload: found.workload,
    };
    let fds = ProcessFds { guest: found.files, ..fds };
    Ok(Prepared { is_guest, request, first: first.try_clone()?, fds, shim_ends })
}

impl Prepared {
    async fn make(self, shared: &Arc<Shared>, process: &Process) -> Result<(), Error> {
        let Prepared { is_guest, request, first, fds, shim_ends } = self;
        let shared = shared.clone();
        let child = blocking(move || Ok(shared.zygote.exec(request, first, fds)?)).await?;
        match shim_ends.connect() {
            Ok(connected) => {
                process.made(child, connected, is_guest);
                Ok(())
            }
            Err(error) => {
                child.signal(SIGKILL)?;
                Err(error)
            }
        }
    }
}
