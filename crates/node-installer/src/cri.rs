//! Asks containerd by CRI, as kubelet does, for its handlers and Pods.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{
    ListPodSandboxRequest, PodSandboxFilter, PodSandboxState, PodSandboxStateValue, StatusRequest,
};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::config::HANDLER;

/// Time limit for an answer.
const LIMIT: Duration = Duration::from_secs(10);

/// The handler that containerd has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// Type, such as `io.containerd.wasmtime.v1`.
    pub runtime: String,
    /// Path of the shim, if the configuration names it.
    pub path: PathBuf,
    /// Whether it has runtime options.
    pub has_options: bool,
}

impl Served {
    /// Returns the shim that the configuration names, by its path or as the type. It is not a path if containerd finds
    /// the shim in PATH.
    pub fn program(&self) -> &Path {
        if self.path.as_os_str().is_empty() { Path::new(&self.runtime) } else { &self.path }
    }
}

/// Asks the containerd at that socket for our handler. Returns `None` if it has no such handler.
///
/// # Errors
/// Fails if containerd does not answer.
pub fn handler(socket: &Path) -> Result<Option<Served>> {
    let info = call(socket, |mut client| async move {
        Ok(client.status(StatusRequest { verbose: true }).await?.into_inner().info)
    })?;
    let config = info.get("config").context("containerd does not say what its configuration is")?;
    let config: Value = serde_json::from_str(config).context("containerd's configuration")?;
    let served = &config["containerd"]["runtimes"][HANDLER];
    let text = |key: &str| served[key].as_str().unwrap_or_default().to_owned();
    Ok(served.is_object().then(|| Served {
        runtime: text("runtimeType"),
        path: text("runtimePath").into(),
        has_options: served["options"].as_object().is_some_and(|options| !options.is_empty()),
    }))
}

/// Returns the names of the running Pods of our handler.
pub fn pods(socket: &Path) -> Result<Vec<String>> {
    let state = Some(PodSandboxStateValue { state: PodSandboxState::SandboxReady.into() });
    let filter = Some(PodSandboxFilter { state, ..Default::default() });
    let pods = call(socket, |mut client| async move {
        Ok(client.list_pod_sandbox(ListPodSandboxRequest { filter }).await?.into_inner().items)
    })?;
    let ours = pods.into_iter().filter(|pod| pod.runtime_handler == HANDLER);
    let name = |pod: k8s_cri::v1::PodSandbox| {
        let metadata = pod.metadata.unwrap_or_default();
        format!("{}/{}", metadata.namespace, metadata.name)
    };
    Ok(ours.map(name).collect())
}

fn call<T, F>(socket: &Path, ask: impl FnOnce(RuntimeServiceClient<Channel>) -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    runtime()?.block_on(async {
        let client = RuntimeServiceClient::new(connect(socket.to_owned()));
        let answer = timeout(LIMIT, ask(client)).await;
        let late = || format!("containerd at {} does not answer", socket.display());
        answer.with_context(late)?.with_context(late)
    })
}

/// Makes a runtime without threads of its own, because only a process with one thread can change its mount namespace.
pub fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the client")
}

fn connect(socket: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    });
    Endpoint::from_static("http://containerd").connect_with_connector_lazy(connector)
}
