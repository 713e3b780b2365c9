//! Client of the node's containerd, in one namespace.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow};
use containerd_client::services::v1::container::Runtime;
use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::leases_client::LeasesClient;
use containerd_client::services::v1::snapshots::snapshots_client::SnapshotsClient;
use containerd_client::services::v1::snapshots::{PrepareSnapshotRequest, RemoveSnapshotRequest};
use containerd_client::services::v1::tasks_client::TasksClient;
use containerd_client::services::v1::{
    Container, CreateContainerRequest, CreateRequest, CreateTaskRequest, DeleteContainerRequest,
    DeleteRequest, DeleteTaskRequest, GetImageRequest, InfoRequest, KillRequest,
    ListContainersRequest, ReadContentRequest,
};
use containerd_client::tonic::transport::Channel;
use containerd_client::tonic::{Code, Request, Response, Status};
use containerd_client::types::Mount;
use oci_spec::image::{Descriptor, Digest, MediaType};
use prost_types::{Any, Timestamp};
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::image::Image;
use crate::errors::{Error, within};
use crate::limits;

/// containerd's name for the shim.
const RUNTIME: &str = "io.containerd.wasmtime.v1";

/// Type of a container's spec in containerd.
const SPEC: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// Type of CRI's record of a container.
const RECORD: &str = "github.com/containerd/cri/pkg/store/container/Metadata";

/// Number of the signal on all Linux machines (signal(7)).
const SIGKILL: u32 = 9;

/// Label with the time when a lease expires (containerd, "Garbage Collection").
const EXPIRES: &str = "containerd.io/gc.expire";

/// A connection to containerd.
#[derive(Debug)]
pub struct Node {
    channel: Channel,
    socket: PathBuf,
    namespace: String,
    snapshotter: String,
}

impl Node {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Unavailable`].
    pub async fn connect(socket: &Path, namespace: &str, snapshotter: String) -> Result<Self> {
        let connected = timeout(limits::CONNECT_TIME, containerd_client::connect(socket)).await;
        let reason = match connected {
            Ok(Ok(channel)) => {
                let (socket, namespace) = (socket.to_owned(), namespace.to_owned());
                return Ok(Self { channel, socket, namespace, snapshotter });
            }
            Ok(Err(error)) => format!("{:#}", anyhow!(error)),
            Err(_) => "it does not accept a connection".into(),
        };
        let (registry, what) =
            (format!("containerd at {}", socket.display()), "warm an image".into());
        Err(Error::Unavailable { registry, what, reason, wait: None, attempts: String::new() })?
    }

    /// Returns the name of the node, for messages.
    pub fn title(&self) -> String {
        format!("containerd at {}, namespace {},", self.socket.display(), self.namespace)
    }

    /// Returns the target of an image, or `None` if there is no image of that name.
    pub async fn image(&self, name: &str) -> Result<Option<Descriptor>> {
        let mut images = ImagesClient::new(self.channel.clone());
        let request = self.request(GetImageRequest { name: name.to_owned() })?;
        let answer = found(images.get(request).await).context("ask containerd for the image")?;
        let target = answer.and_then(|it| it.image).and_then(|it| it.target);
        let Some(target) = target else { return Ok(None) };
        let digest: Digest = target.digest.parse().context("the digest of the image")?;
        let size = target.size.try_into().context("the size of the image's manifest")?;
        Ok(Some(Descriptor::new(MediaType::from(target.media_type.as_str()), size, digest)))
    }

    /// Returns the bytes of a manifest or config, or `None` if they are not on the node.
    pub async fn content(&self, entry: &Descriptor) -> Result<Option<Vec<u8>>> {
        let name = || format!("{} of {}", entry.digest(), self.title());
        within(limits::JSON_BYTES, name, entry.size())?;
        let mut content = ContentClient::new(self.channel.clone());
        let digest = entry.digest().to_string();
        let request = self.request(ReadContentRequest { digest, ..Default::default() })?;
        let Some(mut parts) = found(content.read(request).await).with_context(name)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        loop {
            // The error of a stream may come as its first message.
            match found(parts.message().await.map(Response::new)).with_context(name)? {
                Some(Some(part)) => bytes.extend(part.data),
                Some(None) => return Ok(Some(bytes)),
                None => return Ok(None),
            }
            within(limits::JSON_BYTES, name, bytes.len() as u64)?;
        }
    }

    /// Returns the labels of content. Content that is not on the node has none.
    pub async fn labels(&self, digest: &str) -> Result<HashMap<String, String>> {
        let mut content = ContentClient::new(self.channel.clone());
        let request = self.request(InfoRequest { digest: digest.to_owned() })?;
        let answer = found(content.info(request).await).context("ask containerd for a layer")?;
        Ok(answer.and_then(|it| it.info).map(|it| it.labels).unwrap_or_default())
    }

    /// Returns the containers whose ids begin with `stem`.
    pub async fn containers(&self, stem: &str) -> Result<Vec<String>> {
        let mut containers = ContainersClient::new(self.channel.clone());
        let filters = vec![format!("id~=\"^{stem}\"")];
        let request = self.request(ListContainersRequest { filters })?;
        let answer = containers.list(request).await.map_err(error_of).context("list containers")?;
        let containers = answer.into_inner().containers.into_iter().map(|it| it.id);
        Ok(containers.filter(|id| id.starts_with(stem)).collect())
    }

    /// Creates a container with its task, but does not start it.
    ///
    /// # Errors
    /// The error of containerd. For the task's creation, it is the shim's error, unchanged.
    pub async fn create(&self, id: &str, image: &Image) -> Result<()> {
        self.hold(id).await.context("make a lease")?;
        let rootfs = self.files(id, &image.snapshot).await.with_context(|| {
            let (image, snapshotter) = (&image.name, &self.snapshotter);
            format!("{image} is not unpacked by the snapshotter {snapshotter}: pull it anew")
        })?;
        let container = self.container(id, image);
        let request = self.request(CreateContainerRequest { container: Some(container) })?;
        let mut containers = ContainersClient::new(self.channel.clone());
        containers.create(request).await.map_err(error_of).context("make a container")?;
        let container_id = id.to_owned();
        let task = CreateTaskRequest { container_id, rootfs, ..Default::default() };
        let created = TasksClient::new(self.channel.clone()).create(self.request(task)?).await;
        created.map(drop).map_err(error_of)
    }

    /// Keeps what is made under that id for a while, in case nothing is left to remove it.
    async fn hold(&self, id: &str) -> Result<()> {
        let end = Timestamp::from(SystemTime::now() + limits::LEASE_TIME);
        let labels = HashMap::from([(EXPIRES.to_owned(), end.to_string())]);
        let request = self.request(CreateRequest { id: id.to_owned(), labels })?;
        let created = LeasesClient::new(self.channel.clone()).create(request).await;
        created.map(drop).map_err(error_of)
    }

    /// Prepares the image's files. What the shim creates beside them is removed with the container.
    async fn files(&self, id: &str, parent: &str) -> Result<Vec<Mount>> {
        let prepare = PrepareSnapshotRequest {
            snapshotter: self.snapshotter.clone(),
            key: id.to_owned(),
            parent: parent.to_owned(),
            ..Default::default()
        };
        let mut request = self.request(prepare)?;
        request.metadata_mut().insert("containerd-lease", id.parse()?);
        let prepared = SnapshotsClient::new(self.channel.clone()).prepare(request).await;
        Ok(prepared.map_err(error_of)?.into_inner().mounts)
    }

    fn container(&self, id: &str, image: &Image) -> Container {
        let namespaces = ["pid", "ipc", "uts", "mount", "network"];
        let namespaces: Vec<_> = namespaces.iter().map(|it| json!({ "type": it })).collect();
        let spec = json!({
            "ociVersion": "1.0.2",
            "process": {
                "user": { "uid": 0, "gid": 0 }, "noNewPrivileges": true,
                "args": image.args, "env": image.env, "cwd": image.cwd,
            },
            "mounts": [{
                "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            }],
            "root": { "path": "rootfs", "readonly": true },
            "linux": { "cgroupsPath": format!("/{id}"), "namespaces": namespaces },
        });
        Container {
            id: id.to_owned(),
            image: image.name.clone(),
            labels: image.labels.clone(),
            runtime: Some(Runtime { name: RUNTIME.into(), options: None }),
            spec: Some(Any { type_url: SPEC.into(), value: spec.to_string().into_bytes() }),
            snapshotter: self.snapshotter.clone(),
            snapshot_key: id.to_owned(),
            extensions: HashMap::from([(provided::CRI_RECORD.to_owned(), record(image))]),
            ..Default::default()
        }
    }

    /// Removes everything of a container. It is no error if there is nothing. While containerd is busy with something
    /// that was interrupted, it refuses, so it is asked again for ten seconds.
    pub async fn remove(&self, id: &str) -> Result<()> {
        let mut turns = limits::ENDING_TURNS;
        loop {
            turns -= 1;
            match self.try_to_remove(id).await {
                Err(_) if turns > 0 => sleep(limits::ENDING_TURN).await,
                done => return done,
            }
        }
    }

    async fn try_to_remove(&self, id: &str) -> Result<()> {
        self.remove_task(id).await.context("remove its task")?;
        let container = self.request(DeleteContainerRequest { id: id.to_owned() })?;
        found(ContainersClient::new(self.channel.clone()).delete(container).await)?;
        let (snapshotter, key) = (self.snapshotter.clone(), id.to_owned());
        let snapshot = self.request(RemoveSnapshotRequest { snapshotter, key })?;
        found(SnapshotsClient::new(self.channel.clone()).remove(snapshot).await)?;
        let lease = self.request(DeleteRequest { id: id.to_owned(), sync: false })?;
        found(LeasesClient::new(self.channel.clone()).delete(lease).await).map(drop)
    }

    /// Removes the task. If somebody has started it, it is killed first, and exists a little longer.
    async fn remove_task(&self, id: &str) -> Result<()> {
        let mut tasks = TasksClient::new(self.channel.clone());
        let container_id = id.to_owned();
        let deleted = tasks.delete(self.request(DeleteTaskRequest { container_id })?).await;
        if let Err(status) = &deleted
            && status.code() == Code::FailedPrecondition
        {
            let container_id = id.to_owned();
            let kill = KillRequest { container_id, signal: SIGKILL, ..Default::default() };
            found(tasks.kill(self.request(kill)?).await)?;
        }
        found(deleted).map(drop)
    }

    /// Adds the namespace to a message.
    fn request<T>(&self, message: T) -> Result<Request<T>> {
        let mut request = Request::new(message);
        let namespace = self.namespace.parse();
        let namespace = namespace
            .map_err(|_| Error::Usage(format!("{:?} is not a namespace", self.namespace)))?;
        request.metadata_mut().insert("containerd-namespace", namespace);
        Ok(request)
    }
}

/// Returns CRI's record of a container of that image. The shim then takes the image of an index that a Pod would get.
/// CRI itself ignores the container, because its own containers have a label.
fn record(image: &Image) -> Any {
    let asked = json!({ "image": image.config, "user_specified_image": image.name });
    let metadata = json!({ "ImageRef": image.config, "Config": { "image": asked } });
    let record = json!({ "Version": "v1", "Metadata": metadata });
    Any { type_url: RECORD.into(), value: record.to_string().into_bytes() }
}

/// Returns the answer, or `None` if the requested thing does not exist.
fn found<T>(answer: Result<Response<T>, Status>) -> Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer.into_inner())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(error_of(status)),
    }
}

/// Returns containerd's message without the text that gRPC adds.
fn error_of(status: Status) -> anyhow::Error {
    anyhow!("{}", status.message())
}
