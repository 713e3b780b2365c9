//! The verbs that change nothing: State, Wait, Pids, Stats, Connect.

use containerd_shim::api::{
    ConnectRequest, ConnectResponse, PidsRequest, PidsResponse, StateRequest, StateResponse,
    StatsRequest, StatsResponse, Status, WaitRequest, WaitResponse,
};
use containerd_shim::protos::types::task::ProcessInfo;

use crate::errors::Error;
use crate::events::timestamp;
use crate::lifecycle::State;
use crate::pod::Shared;
use crate::stats;

/// State: where in its life a process is.
pub fn state(shared: &Shared, request: StateRequest) -> Result<StateResponse, Error> {
    let container = shared.container(&request.id)?;
    let process = container.process(&request.exec_id)?;
    let stdio = process.stdio().clone();
    let mut response = StateResponse {
        id: request.id,
        exec_id: request.exec_id,
        bundle: container.bundle().display().to_string(),
        pid: process.number(),
        terminal: stdio.terminal,
        stdin: stdio.stdin,
        stdout: stdio.stdout,
        stderr: stdio.stderr,
        ..Default::default()
    };
    let status = match process.lifecycle().state() {
        State::Created | State::Starting => Status::CREATED,
        State::Running => Status::RUNNING,
        State::Pausing => Status::PAUSING,
        State::Paused => Status::PAUSED,
        State::Stopped(exit) => {
            response.exit_status = exit.code.into();
            response.exited_at = Some(timestamp(exit.at)).into();
            Status::STOPPED
        }
    };
    response.status = status.into();
    Ok(response)
}

/// Wait: answers once the process has ended.
pub async fn wait(shared: &Shared, request: WaitRequest) -> Result<WaitResponse, Error> {
    let exit = shared.container(&request.id)?.process(&request.exec_id)?.wait().await;
    Ok(WaitResponse {
        exit_status: exit.code.into(),
        exited_at: Some(timestamp(exit.at)).into(),
        ..Default::default()
    })
}

/// Pids: every process of the container. One that has ended and is not deleted still has its first: a containerd
/// that was restarted takes a shim without processes for a leaked one, and the exit code would be lost.
pub fn pids(shared: &Shared, request: PidsRequest) -> Result<PidsResponse, Error> {
    let container = shared.container(&request.id)?;
    let first = container.first().pid();
    let mut pids = container.cgroup().pids()?;
    if pids.is_empty() {
        pids.extend(first);
    }
    let process =
        |pid: nix::unistd::Pid| ProcessInfo { pid: pid.as_raw() as u32, ..Default::default() };
    Ok(PidsResponse { processes: pids.into_iter().map(process).collect(), ..Default::default() })
}

/// Stats: what the kernel counted for the container's cgroup. containerd asks every second, and the files are in
/// memory: no thread is woken for it.
pub fn stats(shared: &Shared, request: StatsRequest) -> Result<StatsResponse, Error> {
    let container = shared.container(&request.id)?;
    let metrics = stats::collect(container.cgroup())?;
    Ok(StatsResponse { stats: Some(metrics).into(), ..Default::default() })
}

/// Connect: which processes to look at.
pub fn connect(shared: &Shared, request: ConnectRequest) -> ConnectResponse {
    let task = shared.container(&request.id).map(|container| container.first().number());
    ConnectResponse {
        shim_pid: std::process::id(),
        task_pid: task.unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..Default::default()
    }
}
