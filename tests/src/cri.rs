//! Client of CRI, the protocol between kubelet and containerd, with plain blocking calls.

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::*;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

use crate::command::Output;
use crate::wait::patient;

/// A client of one containerd. Clones share the connection, which survives a restart of containerd.
#[derive(Debug, Clone)]
pub struct Client {
    runtime: Arc<Runtime>,
    service: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    limit: Duration,
}

/// Time limit of a call. The creation of a container may compile its guest.
pub const LIMIT: Duration = Duration::from_secs(120);

/// CRI's information about a container, with the runtime's additional information (a JSON text by key).
#[derive(Debug, Clone)]
pub struct ContainerState {
    /// The status.
    pub status: ContainerStatus,
    /// The runtime's additional information.
    pub info: HashMap<String, String>,
}

impl Client {
    /// Makes a client of the containerd at that socket, which need not run yet.
    pub fn new(socket: &Path) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map(Arc::new)
            .context("start the client's threads")?;
        let _inside = runtime.enter();
        let channel = connect(socket.to_owned());
        let service = RuntimeServiceClient::new(channel.clone());
        let images = ImageServiceClient::new(channel);
        Ok(Self { service, images, runtime: Arc::clone(&runtime), limit: LIMIT })
    }

    /// Returns the same client with another time limit.
    pub fn within(&self, limit: Duration) -> Self {
        Self { limit, ..self.clone() }
    }

    /// Returns whether containerd answers, and can run Pods with a network.
    pub fn is_ready(&self) -> bool {
        let mut service = self.service.clone();
        let request = StatusRequest { verbose: false };
        let answer = self.call("Status", async move { service.status(request).await });
        let conditions =
            answer.ok().and_then(|answer| answer.status).unwrap_or_default().conditions;
        ["RuntimeReady", "NetworkReady"].iter().all(|name| {
            conditions.iter().any(|condition| condition.r#type == *name && condition.status)
        })
    }

    /// Returns whether containerd has an image of that name.
    pub fn has_image(&self, image: &str) -> Result<bool> {
        Ok(self.image_status(image)?.is_some())
    }

    fn image_status(&self, image: &str) -> Result<Option<Image>> {
        let mut images = self.images.clone();
        let image = Some(ImageSpec { image: image.to_owned(), ..Default::default() });
        let request = ImageStatusRequest { image, verbose: false };
        let call = async move { images.image_status(request).await };
        Ok(self.call("ImageStatus", call)?.image)
    }

    /// Returns CRI's id of an image: the digest of its config.
    pub fn image_id(&self, image: &str) -> Result<Option<String>> {
        Ok(self.image_status(image)?.map(|image| image.id))
    }

    /// Deletes an image, as kubelet does when the disk fills up.
    pub fn remove_image(&self, image: &str) -> Result<()> {
        let mut images = self.images.clone();
        let image = Some(ImageSpec { image: image.to_owned(), ..Default::default() });
        let request = RemoveImageRequest { image };
        self.call("RemoveImage", async move { images.remove_image(request).await }).map(drop)
    }

    /// Pulls an image, with a user name and password if given, and returns the reference for containers.
    pub fn pull(&self, image: &str, login: Option<(&str, &str)>) -> Result<String> {
        let mut images = self.images.clone();
        let auth = login.map(|(username, password)| AuthConfig {
            username: username.into(),
            password: password.into(),
            ..Default::default()
        });
        let image = Some(ImageSpec { image: image.to_owned(), ..Default::default() });
        let request = PullImageRequest { image, auth, sandbox_config: None };
        let call = async move { images.pull_image(request).await };
        Ok(self.call("PullImage", call)?.image_ref)
    }

    /// Starts a Pod and returns its id.
    pub fn run_pod(&self, handler: &str, config: PodSandboxConfig) -> Result<String> {
        let mut service = self.service.clone();
        let request =
            RunPodSandboxRequest { config: Some(config), runtime_handler: handler.to_owned() };
        let call = async move { service.run_pod_sandbox(request).await };
        Ok(self.call("RunPodSandbox", call)?.pod_sandbox_id)
    }

    /// Returns the runtime's additional information about a Pod.
    pub fn pod_info(&self, pod: &str) -> Result<HashMap<String, String>> {
        let mut service = self.service.clone();
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.to_owned(), verbose: true };
        let call = async move { service.pod_sandbox_status(request).await };
        Ok(self.call("PodSandboxStatus", call)?.info)
    }

    /// Returns the address of a Pod, such as 10.244.0.7.
    pub fn pod_address(&self, pod: &str) -> Result<String> {
        let mut service = self.service.clone();
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.to_owned(), verbose: false };
        let call = async move { service.pod_sandbox_status(request).await };
        let status = self.call("PodSandboxStatus", call)?.status.unwrap_or_default();
        Ok(status.network.context("the Pod has no network")?.ip)
    }

    /// Returns the ids of all Pods.
    pub fn pods(&self) -> Result<Vec<String>> {
        Ok(self.list(None)?.into_iter().map(|pod| pod.id).collect())
    }

    /// Returns the ids of the Pods of that name.
    pub fn pods_named(&self, name: &str) -> Result<Vec<String>> {
        let is_it = |pod: &PodSandbox| pod.metadata.as_ref().is_some_and(|it| it.name == name);
        Ok(self.list(None)?.into_iter().filter(is_it).map(|pod| pod.id).collect())
    }

    /// Returns the ids of the Ready Pods in a Kubernetes namespace.
    pub fn ready_pods(&self, namespace: &str) -> Result<Vec<String>> {
        let ready = PodSandboxStateValue { state: PodSandboxState::SandboxReady.into() };
        self.pods_in(namespace, Some(ready))
    }

    /// Returns the ids of all Pods in a Kubernetes namespace.
    pub fn pods_of(&self, namespace: &str) -> Result<Vec<String>> {
        self.pods_in(namespace, None)
    }

    fn pods_in(&self, namespace: &str, state: Option<PodSandboxStateValue>) -> Result<Vec<String>> {
        let label = ("io.kubernetes.pod.namespace".to_owned(), namespace.to_owned());
        let filter =
            PodSandboxFilter { state, label_selector: [label].into(), ..Default::default() };
        Ok(self.list(Some(filter))?.into_iter().map(|pod| pod.id).collect())
    }

    fn list(&self, filter: Option<PodSandboxFilter>) -> Result<Vec<PodSandbox>> {
        let mut service = self.service.clone();
        let request = ListPodSandboxRequest { filter };
        let call = async move { service.list_pod_sandbox(request).await };
        Ok(self.call("ListPodSandbox", call)?.items)
    }

    /// Stops everything in a Pod at once, and removes its network.
    pub fn stop_pod(&self, pod: &str) -> Result<()> {
        let mut service = self.service.clone();
        let request = StopPodSandboxRequest { pod_sandbox_id: pod.to_owned() };
        self.call("StopPodSandbox", async move { service.stop_pod_sandbox(request).await })?;
        Ok(())
    }

    /// Removes a Pod and its containers.
    pub fn remove_pod(&self, pod: &str) -> Result<()> {
        let mut service = self.service.clone();
        let request = RemovePodSandboxRequest { pod_sandbox_id: pod.to_owned() };
        self.call("RemovePodSandbox", async move { service.remove_pod_sandbox(request).await })?;
        Ok(())
    }

    /// Creates a container and returns its id.
    pub fn create(
        &self,
        pod: &str,
        config: ContainerConfig,
        pod_config: PodSandboxConfig,
    ) -> Result<String> {
        let mut service = self.service.clone();
        let request = CreateContainerRequest {
            pod_sandbox_id: pod.to_owned(),
            config: Some(config),
            sandbox_config: Some(pod_config),
        };
        let call = async move { service.create_container(request).await };
        Ok(self.call("CreateContainer", call)?.container_id)
    }

    /// Starts a created container, and waits for at most `limit`.
    pub fn start(&self, container: &str, limit: Duration) -> Result<()> {
        let mut service = self.service.clone();
        let mut request =
            Request::new(StartContainerRequest { container_id: container.to_owned() });
        request.set_timeout(patient(limit));
        self.call("StartContainer", async move { service.start_container(request).await })?;
        Ok(())
    }

    /// Stops a container with SIGTERM, and with SIGKILL if it still runs after `grace`.
    pub fn stop(&self, container: &str, grace: Duration) -> Result<()> {
        let mut service = self.service.clone();
        let timeout = i64::try_from(grace.as_secs())?;
        let request = StopContainerRequest { container_id: container.to_owned(), timeout };
        self.call("StopContainer", async move { service.stop_container(request).await })?;
        Ok(())
    }

    /// Executes a command in a container and waits for its end: ExecSync, as an exec probe does.
    pub fn exec_sync(&self, container: &str, command: &[&str], limit: Duration) -> Result<Output> {
        let mut service = self.service.clone();
        let request = ExecSyncRequest {
            container_id: container.to_owned(),
            cmd: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: i64::try_from(patient(limit).as_secs())?,
        };
        let call = async move { service.exec_sync(request).await };
        let answer = self.call("ExecSync", call)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let (stdout, stderr) = (text(answer.stdout), text(answer.stderr));
        Ok(Output { code: answer.exit_code, stdout, stderr })
    }

    /// Removes a stopped container.
    pub fn remove(&self, container: &str) -> Result<()> {
        let mut service = self.service.clone();
        let request = RemoveContainerRequest { container_id: container.to_owned() };
        self.call("RemoveContainer", async move { service.remove_container(request).await })?;
        Ok(())
    }

    /// Returns the state of a container.
    pub fn status(&self, container: &str) -> Result<ContainerState> {
        let mut service = self.service.clone();
        let request = ContainerStatusRequest { container_id: container.to_owned(), verbose: true };
        let call = async move { service.container_status(request).await };
        let answer = self.call("ContainerStatus", call)?;
        let status = answer.status.context("ContainerStatus answered without a status")?;
        Ok(ContainerState { status, info: answer.info })
    }

    /// Changes the limits of a container. A value of 0 leaves a limit as it is.
    pub fn update(&self, container: &str, linux: LinuxContainerResources) -> Result<()> {
        let mut service = self.service.clone();
        let request = UpdateContainerResourcesRequest {
            container_id: container.to_owned(),
            linux: Some(linux),
            ..Default::default()
        };
        let call = async move { service.update_container_resources(request).await };
        self.call("UpdateContainerResources", call)?;
        Ok(())
    }

    /// Informs containerd that a container's log was renamed.
    pub fn reopen_log(&self, container: &str) -> Result<()> {
        let mut service = self.service.clone();
        let request = ReopenContainerLogRequest { container_id: container.to_owned() };
        let call = async move { service.reopen_container_log(request).await };
        self.call("ReopenContainerLog", call).map(drop)
    }

    /// Returns what a container uses.
    pub fn stats(&self, container: &str) -> Result<ContainerStats> {
        let mut service = self.service.clone();
        let request = ContainerStatsRequest { container_id: container.to_owned() };
        let call = async move { service.container_stats(request).await };
        self.call("ContainerStats", call)?.stats.context("ContainerStats without stats")
    }

    /// Returns what a Pod uses.
    pub fn pod_stats(&self, pod: &str) -> Result<LinuxPodSandboxStats> {
        let mut service = self.service.clone();
        let request = PodSandboxStatsRequest { pod_sandbox_id: pod.to_owned() };
        let call = async move { service.pod_sandbox_stats(request).await };
        let stats = self.call("PodSandboxStats", call)?.stats.unwrap_or_default();
        stats.linux.context("PodSandboxStats without stats")
    }

    /// Waits for the answer. An error has the text that kubelet would put into an event.
    fn call<T>(
        &self,
        name: &str,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T> {
        let limited = async { tokio::time::timeout(patient(self.limit), call).await };
        let answer =
            self.runtime.block_on(limited).with_context(|| format!("{name}: no answer"))?;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| anyhow!("{name}: {}", status.message()))
    }
}

/// Makes a connection that opens at the first call, and again after a restart of containerd.
fn connect(socket: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    });
    Endpoint::from_static("http://containerd").connect_with_connector_lazy(connector)
}
