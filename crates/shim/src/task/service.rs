//! What the verbs share, and the table from ttrpc call to verb.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use containerd_shim::api::{
    CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse,
    DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PidsRequest,
    PidsResponse, ShutdownRequest, StartRequest, StartResponse, StateRequest, StateResponse,
    StatsRequest, StatsResponse, WaitRequest, WaitResponse,
};
use containerd_shim::protos::ttrpc::{self, r#async::TtrpcContext};
use nix::unistd::Pid;
use sandbox::Zygote;
use tokio::sync::{Notify, RwLock};

use super::{create, delete, kill, query, start};
use crate::container::Container;
use crate::errors::Error;
use crate::events::Events;

/// The task service of one Pod.
#[derive(Clone)]
pub struct Service(Arc<Shared>);

/// What the verbs share.
pub struct Shared {
    /// containerd's namespace.
    pub namespace: String,
    /// containerd's gRPC socket.
    pub containerd: PathBuf,
    /// Where processes come from.
    pub zygote: Zygote,
    /// Where events go.
    pub events: Events,
    /// Held for reading while processes are made or waited for by others than their watchers, so that
    /// [`Service::reap_orphans`] does not take a child that somebody is about to claim.
    pub forking: RwLock<()>,
    containers: Mutex<HashMap<String, Arc<Container>>>,
    done: Notify,
}

impl Shared {
    /// The containers by id.
    pub fn containers(&self) -> MutexGuard<'_, HashMap<String, Arc<Container>>> {
        // A panic cannot leave it half changed: each use inserts, removes or reads once.
        self.containers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container of that id.
    ///
    /// # Errors
    /// [`Error::NoSuchContainer`]; [`Error::Unsupported`] when `exec_id` asks for a process other than the first.
    pub fn container(&self, id: &str, exec_id: &str) -> Result<Arc<Container>, Error> {
        if !exec_id.is_empty() {
            return Err(Error::Unsupported("exec"));
        }
        let found = self.containers().get(id).cloned();
        found.ok_or_else(|| Error::NoSuchContainer(id.to_owned()))
    }
}

impl Service {
    /// A service without containers.
    pub fn new(namespace: String, containerd: PathBuf, zygote: Zygote, events: Events) -> Service {
        Service(Arc::new(Shared {
            namespace,
            containerd,
            zygote,
            events,
            forking: RwLock::new(()),
            containers: Mutex::default(),
            done: Notify::new(),
        }))
    }

    /// Waits until containerd has shut the empty service down.
    pub async fn wait(&self) {
        self.0.done.notified().await;
    }

    /// Reaps ended children that belong to no container.
    pub fn reap_orphans(&self) {
        let Ok(_nobody_forks) = self.0.forking.try_write() else {
            return;
        };
        let claimed =
            |pid: Pid| self.0.containers().values().any(|container| container.claims(pid));
        while let Some(pid) = sandbox::pidfd::reap_orphan(claimed) {
            if pid == self.0.zygote.pid() {
                log::error!("the zygote ended; this Pod can make no more containers");
            }
        }
    }
}

/// Runs what blocks (fork, mount, cgroup files) beside the service's one thread.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(panicked) => Err(Error::io("a step of the shim")(panicked.into())),
    }
}

type Answer<T> = ttrpc::Result<T>;

#[async_trait]
impl containerd_shim::Task for Service {
    async fn create(
        &self,
        _: &TtrpcContext,
        request: CreateTaskRequest,
    ) -> Answer<CreateTaskResponse> {
        Ok(create::create(&self.0, request).await?)
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> Answer<StartResponse> {
        Ok(start::start(&self.0, request).await?)
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
        Ok(delete::delete(&self.0, request).await?)
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> Answer<PidsResponse> {
        Ok(query::pids(&self.0, request).await?)
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> Answer<StatsResponse> {
        Ok(query::stats(&self.0, request).await?)
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> Answer<ConnectResponse> {
        Ok(query::connect(&self.0, request))
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> Answer<Empty> {
        let container = self.0.container(&request.id, &request.exec_id)?;
        if request.stdin {
            container.close_stdin();
        }
        Ok(Empty::new())
    }

    async fn exec(&self, _: &TtrpcContext, _: ExecProcessRequest) -> Answer<Empty> {
        Err(Error::Unsupported("exec").into())
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> Answer<Empty> {
        // containerd asks after every Delete; the Pod's other containers go on.
        if self.0.containers().is_empty() {
            self.0.done.notify_one();
        }
        Ok(Empty::new())
    }
}
