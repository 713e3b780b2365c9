//! Maps ttrpc calls to verbs.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use containerd_shim::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest,
    CreateTaskResponse, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest,
    PauseRequest, PidsRequest, PidsResponse, ResizePtyRequest, ResumeRequest, ShutdownRequest,
    StartRequest, StartResponse, StateRequest, StateResponse, StatsRequest, StatsResponse,
    UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim::protos::ttrpc::{self, r#async::TtrpcContext};
use sandbox::Zygote;
use sandbox::console::Size;
use tokio::time::Instant;

use super::{create, delete, exec, kill, pause, query, start, update};
use crate::errors::Error;
use crate::events::Events;
use crate::pod::{Caller, Shared};

/// Task service of one Pod.
#[derive(Clone)]
pub struct Service(Arc<Shared>);

impl Service {
    /// A service without containers.
    pub fn new(namespace: String, containerd: PathBuf, zygote: Zygote, events: Events) -> Service {
        Service(Arc::new(Shared::new(namespace, containerd, zygote, events)))
    }

    /// State of the Pod.
    pub fn pod(&self) -> &Shared {
        &self.0
    }
}

/// Runs a verb that changes something to its end. ttrpc drops the future of a call when the caller's time is up or its connection
/// ends, which would leave the verb half done.
async fn to_the_end<T: Send + 'static>(
    verb: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Answer<T> {
    match tokio::spawn(verb).await {
        Ok(result) => Ok(result?),
        Err(panicked) => Err(Error::io("complete a step of the shim")(panicked.into()).into()),
    }
}

/// Deadline of a call, if its caller does not wait for ever. A tenth of the caller's time is left to transmit the answer.
fn deadline(context: &TtrpcContext) -> Option<Instant> {
    let time = Some(context.timeout_nano).filter(|time| *time != 0)?;
    // A negative timeout is over.
    let time = u64::try_from(time).unwrap_or_default();
    Some(Instant::now() + Duration::from_nanos(time / 10 * 9))
}

type Answer<T> = ttrpc::Result<T>;

#[async_trait]
impl containerd_shim::Task for Service {
    async fn create(
        &self,
        context: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> Answer<CreateTaskResponse> {
        let caller = Caller::new(deadline(context));
        to_the_end(create::create(self.0.clone(), request, caller)).await
    }

    async fn start(&self, context: &TtrpcContext, request: StartRequest) -> Answer<StartResponse> {
        to_the_end(start::start(self.0.clone(), request, Caller::new(deadline(context)))).await
    }

    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> Answer<StateResponse> {
        Ok(query::state(&self.0, request)?)
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> Answer<WaitResponse> {
        Ok(query::wait(&self.0, request).await?)
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> Answer<Empty> {
        Ok(kill::kill(&self.0, request).await?)
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> Answer<DeleteResponse> {
        to_the_end(delete::delete(self.0.clone(), request)).await
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Answer<PidsResponse> {
        Ok(query::pids(&self.0, request)?)
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> Answer<StatsResponse> {
        Ok(query::stats(&self.0, request)?)
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> Answer<ConnectResponse> {
        Ok(query::connect(&self.0, request))
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Answer<Empty> {
        let process = self.0.container(&request.id)?.process(&request.exec_id)?;
        if request.stdin {
            process.close_stdin();
        }
        Ok(Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> Answer<Empty> {
        Ok(exec::exec(&self.0, request)?)
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> Answer<Empty> {
        let process = self.0.container(&request.id)?.process(&request.exec_id)?;
        let cut = |characters: u32| u16::try_from(characters).unwrap_or(u16::MAX);
        process.resize(Size { width: cut(request.width), height: cut(request.height) })?;
        Ok(Empty::new())
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> Answer<Empty> {
        to_the_end(pause::pause(self.0.clone(), request)).await
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> Answer<Empty> {
        to_the_end(pause::resume(self.0.clone(), request)).await
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> Answer<Empty> {
        to_the_end(update::update(self.0.clone(), request)).await
    }

    async fn checkpoint(&self, _: &TtrpcContext, _: CheckpointTaskRequest) -> Answer<Empty> {
        Err(Error::Checkpoint.into())
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> Answer<Empty> {
        // containerd asks after every Delete. The Pod's other containers keep running.
        self.0.shut_down();
        Ok(Empty::new())
    }
}
