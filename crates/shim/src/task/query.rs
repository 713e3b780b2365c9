//! Verbs that change nothing: State, Wait, Pids, Stats and Connect.

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

/// State: the state of a process.
pub fn state(shared: &Shared, request: StateRequest) -> Result<StateResponse, Error> {
    let container = shared.container(&request.id)?;
    let process = container.process(&request.exec_id)?;
    let stdio = process.stdio().clone();
    let mut response = StateResponse {
        id: request.id,
        exec_id: request.exec_id,
        bundle: container.bundle().display().to_string(),
        pid: process.raw_pid(),
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

/// Wait: answers when the process has ended.
pub async fn wait(shared: &Shared, request: WaitRequest) -> Result<WaitResponse, Error> {
    let exit = shared.container(&request.id)?.process(&request.exec_id)?.wait().await;
    Ok(WaitResponse {
        exit_status: exit.code.into(),
        exited_at: Some(timestamp(exit.at)).into(),
        ..Default::default()
    })
}

/// Pids: all processes of the container. A container that has ended and is not deleted still has its first process here,
/// because a containerd that was restarted regards a shim without processes as leaked, and the exit code would be lost.
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

/// Stats: counters of the container's cgroup. containerd asks every second. The files are in memory, so they are read without a
/// thread for blocking work.
pub fn stats(shared: &Shared, request: StatsRequest) -> Result<StatsResponse, Error> {
    let container = shared.container(&request.id)?;
    let metrics = stats::collect(container.cgroup())?;
    Ok(StatsResponse { stats: Some(metrics).into(), ..Default::default() })
}

/// Connect: the pids of the shim and the container.
pub fn connect(shared: &Shared, request: ConnectRequest) -> ConnectResponse {
    let task = shared.container(&request.id).map(|container| container.first().raw_pid());
    ConnectResponse {
        shim_pid: std::process::id(),
        task_pid: task.unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..Default::default()
    }
}
