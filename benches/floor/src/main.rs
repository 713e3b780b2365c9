//! A shim that answers every call at once and runs nothing. It shows the cost of containerd and its client.

#![forbid(unsafe_code)]

use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim::api::{
    ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse, DeleteRequest,
    DeleteResponse, Empty, KillRequest, ShutdownRequest, StartRequest, StartResponse, StateRequest,
    StateResponse, Status, WaitRequest, WaitResponse,
};
use containerd_shim::asynchronous::{ExitSignal, Shim, run, spawn};
use containerd_shim::protos::shim_async::Task;
use containerd_shim::protos::ttrpc::r#async::TtrpcContext;
use containerd_shim::publisher::RemotePublisher;
use containerd_shim::{Config, Error, Flags, StartOpts, TtrpcResult};
use tokio::sync::Notify;

#[derive(Clone, Default)]
struct Floor {
    exit: Arc<ExitSignal>,
    started: Arc<Notify>,
}

#[async_trait]
impl Shim for Floor {
    type T = Floor;

    async fn new(_: &str, _: &Flags, config: &mut Config) -> Floor {
        config.no_setup_logger = true;
        Floor::default()
    }

    async fn start_shim(&mut self, options: StartOpts) -> Result<String, Error> {
        let id = options.id.clone();
        spawn(options, &id, Vec::new()).await
    }

    async fn delete_shim(&mut self) -> Result<DeleteResponse, Error> {
        Ok(DeleteResponse::new())
    }

    async fn wait(&mut self) {
        self.exit.wait().await;
    }

    async fn create_task_service(&self, _: RemotePublisher) -> Floor {
        self.clone()
    }
}

/// Returns its own pid, which stands for the container's process.
fn pid() -> u32 {
    std::process::id()
}

#[async_trait]
impl Task for Floor {
    async fn connect(&self, _: &TtrpcContext, _: ConnectRequest) -> TtrpcResult<ConnectResponse> {
        Ok(ConnectResponse { shim_pid: pid(), task_pid: pid(), ..Default::default() })
    }

    async fn create(
        &self,
        _: &TtrpcContext,
        _: CreateTaskRequest,
    ) -> TtrpcResult<CreateTaskResponse> {
        Ok(CreateTaskResponse { pid: pid(), ..Default::default() })
    }

    async fn start(&self, _: &TtrpcContext, _: StartRequest) -> TtrpcResult<StartResponse> {
        self.started.notify_one();
        Ok(StartResponse { pid: pid(), ..Default::default() })
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> TtrpcResult<StateResponse> {
        let status = Status::STOPPED.into();
        Ok(StateResponse { id: request.id, pid: pid(), status, ..Default::default() })
    }

    async fn wait(&self, _: &TtrpcContext, _: WaitRequest) -> TtrpcResult<WaitResponse> {
        self.started.notified().await;
        Ok(WaitResponse::new())
    }

    async fn kill(&self, _: &TtrpcContext, _: KillRequest) -> TtrpcResult<Empty> {
        Ok(Empty::new())
    }

    async fn delete(&self, _: &TtrpcContext, _: DeleteRequest) -> TtrpcResult<DeleteResponse> {
        Ok(DeleteResponse { pid: pid(), ..Default::default() })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> TtrpcResult<Empty> {
        self.exit.signal();
        Ok(Empty::new())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    run::<Floor>("io.containerd.floor.v1", None).await;
}
