//! An image's wasm layers, from containerd: container → image → manifest → content.
//!
//! `requested` finds the image that a Pod asks for, and `manifests` finds the manifest. `pod` reads a Pod's annotations.
//!
//! The content is read through containerd's content service and not from the directory behind it. The service is
//! containerd's API, a proxy plugin may provide it, and it keeps namespaces apart.

mod calls;
mod manifests;
mod pod;
mod requested;

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_client::services::v1::containers_client::ContainersClient;
use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::images_client::ImagesClient;
use containerd_client::services::v1::{
    Container as Record, GetContainerRequest, GetImageRequest, ReadContentRequest,
};
use containerd_client::types::Descriptor as Target;
use oci_spec::image::{Descriptor, Digest, MediaType};
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tonic::Response;
use tonic::transport::Channel;

use calls::failed;
pub use pod::annotations as pod_annotations;

use crate::blob::{self, Checked};
use crate::{Container, Error, head, limits};

/// Wasm layers of a container's image, if it has any.
pub enum Layers {
    /// The image has wasm layers, at least one.
    Wasm {
        /// Connection to the containerd that has the layers.
        store: Box<Store>,
        /// Wasm layers, in the image's order.
        layers: Vec<Descriptor>,
        /// Config of the image. `None` for an artifact, because its config does not describe how to run it. Also `None`
        /// for an existing container, which does not need it.
        config: Option<Box<Descriptor>>,
        /// Labels of the container, which include those of the image's config.
        labels: HashMap<String, String>,
    },
    /// There are no wasm layers, for this reason.
    None(&'static str),
}

/// Time limits for containerd's answers.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Time limit for one answer.
    pub answer: Duration,
    /// Time limit for all answers together.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts { answer: limits::ANSWER_TIME, total: limits::LOOK_UP_TIME }
    }
}

/// Asks containerd for the container's wasm layers. If containerd does not know the container or its image, as under
/// Docker, there are none.
pub async fn wasm_layers(
    container: &Container<'_>,
    entrypoint: &str,
    timeouts: Timeouts,
) -> Result<Layers, Error> {
    let Some(socket) = container.containerd else {
        return Ok(Layers::None("there is no containerd to ask for wasm layers"));
    };
    let ask = async |store: Store| store.wasm_layers(container.id, container.layers).await;
    query(socket, container.namespace, entrypoint, timeouts, ask).await
}

/// Asks containerd for the container's labels. There are none if containerd does not know the container, or if there is no
/// containerd.
pub async fn labels(
    container: &Container<'_>,
    entrypoint: &str,
    timeouts: Timeouts,
) -> Result<HashMap<String, String>, Error> {
    let Some(socket) = container.containerd.filter(|socket| socket.exists()) else {
        return Ok(HashMap::new());
    };
    let ask = async |store: Store| {
        let known = store.container(container.id).await?;
        Ok(known.map(|known| known.labels).unwrap_or_default())
    };
    let answered = query(socket, container.namespace, entrypoint, timeouts, ask).await;
    answered.map_err(|error| match error {
        Error::Containerd { socket, reason, .. } => Error::Labels { socket, reason },
        other => other,
    })
}

/// Asks containerd for the port that the container's image exposes. Returns `None` if containerd does not know the
/// container or its image, or if there is no containerd.
pub async fn exposed_port(
    container: &Container<'_>,
    entrypoint: &str,
    timeouts: Timeouts,
) -> Result<Option<u16>, Error> {
    let Some(socket) = container.containerd.filter(|socket| socket.exists()) else {
        return Ok(None);
    };
    let ask = async |store: Store| {
        let record = store.container(container.id).await?.unwrap_or_default();
        match store.config(&record).await? {
            Some(config) => store.exposed_port(&config).await,
            None => Ok(None),
        }
    };
    query(socket, container.namespace, entrypoint, timeouts, ask).await
}

/// Connects to containerd, and calls `ask` with the connection, within the time limits.
async fn query<T>(
    socket: &Path,
    namespace: &str,
    entrypoint: &str,
    timeouts: Timeouts,
    ask: impl AsyncFnOnce(Store) -> Result<T, Error>,
) -> Result<T, Error> {
    let failed = |reason: &str| failed(socket, entrypoint, reason);
    let look_up = async {
        match timeout(timeouts.answer, containerd_client::connect(socket)).await {
            Ok(Ok(channel)) => {
                let (socket, entrypoint) = (socket.to_owned(), entrypoint.to_owned());
                let namespace = namespace.to_owned();
                ask(Store { channel, socket, namespace, entrypoint, timeouts }).await
            }
            Ok(Err(error)) => Err(failed(&text::with_causes(&error))),
            Err(_) => Err(failed("it does not accept a connection")),
        }
    };
    let answered = timeout(timeouts.total, look_up).await;
    answered.unwrap_or_else(|_| Err(failed("it took too long to answer all calls")))
}

/// Connection to containerd, for the image of one container.
#[derive(Debug)]
pub struct Store {
    /// Channel of containerd's gRPC API.
    pub channel: Channel,
    socket: PathBuf,
    namespace: String,
    /// Entrypoint that is looked for. Errors name it.
    entrypoint: String,
    timeouts: Timeouts,
}

impl Store {
    /// Returns the wasm layers that the container was created with, or else those of its image.
    async fn wasm_layers(self, container: &str, created: &[Descriptor]) -> Result<Layers, Error> {
        let record = self.container(container).await?.unwrap_or_default();
        if !created.is_empty() {
            let (store, layers) = (Box::new(self), created.to_vec());
            return Ok(Layers::Wasm { store, layers, config: None, labels: record.labels });
        }
        let manifest = match self.manifest_of(&record).await? {
            Ok(manifest) => manifest,
            Err(why) => return Ok(Layers::None(why)),
        };
        let layers = rule::wasm_layers(&manifest)?;
        if layers.is_empty() {
            return Ok(Layers::None(rule::NO_LAYERS));
        }
        let layers = layers.into_iter().cloned().collect();
        let config = manifest.is_image().then(|| Box::new(manifest.config.clone()));
        Ok(Layers::Wasm { store: Box::new(self), layers, config, labels: record.labels })
    }

    /// Returns the port that an image's config exposes. Returns `None` if the config was not pulled.
    pub async fn exposed_port(&self, config: &Descriptor) -> Result<Option<u16>, Error> {
        let config = self.json::<rule::Config>(config).await?;
        Ok(config.and_then(|config| config.config.exposed_port()))
    }

    /// Returns containerd's record of the container.
    async fn container(&self, id: &str) -> Result<Option<Record>, Error> {
        let mut containers = ContainersClient::new(self.channel.clone())
            .max_decoding_message_size(limits::ANSWER_BYTES);
        let request = self.request(GetContainerRequest { id: id.to_owned() })?;
        let answer = self.answer(containers.get(request)).await?;
        Ok(answer.and_then(|answer| answer.container))
    }

    /// Returns the descriptor that the image of this name points at.
    async fn image(&self, name: String) -> Result<Option<Descriptor>, Error> {
        if name.is_empty() {
            return Ok(None);
        }
        let mut images = ImagesClient::new(self.channel.clone());
        let request = self.request(GetImageRequest { name })?;
        let answer = self.answer(images.get(request)).await?;
        let target = answer.and_then(|answer| answer.image).and_then(|image| image.target);
        target.map(descriptor).transpose()
    }

    /// Reads content as JSON. Returns `None` if it was not pulled.
    async fn json<T: DeserializeOwned>(&self, entry: &Descriptor) -> Result<Option<T>, Error> {
        let (digest, size, limit) = (entry.digest(), entry.size(), limits::JSON_BYTES);
        if size > limit {
            let reason = format!("{size} bytes of JSON; at most {limit} are allowed");
            return Err(Error::content(digest, reason));
        }
        match self.copy(entry, Vec::new()).await? {
            Some(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| Error::content(digest, error)),
            None => Ok(None),
        }
    }

    /// Returns checked and sealed copies of layers, each read from its start.
    pub async fn layers(&self, layers: &[Descriptor]) -> Result<Vec<File>, Error> {
        let mut files = Vec::new();
        for layer in layers {
            files.push(self.layer(layer).await?);
        }
        Ok(files)
    }

    async fn layer(&self, layer: &Descriptor) -> Result<File, Error> {
        let name = format!("layer {}", layer.digest());
        let file = blob::anonymous().map_err(Error::read(&name))?;
        let Some(file) = self.copy(layer, file).await? else {
            let reason = "a wasm layer that is not in containerd's content store; was it pulled \
                          with discard_unpacked_layers?";
            return Err(Error::content(layer.digest(), reason));
        };
        let file = blob::seal(file).map_err(Error::read(&name))?;
        rule::check_layer(layer, &head::read(&file).map_err(Error::read(&name))?)?;
        Ok(file)
    }

    /// Copies content part by part, as containerd sends it. Returns `None` if it was not pulled.
    async fn copy<W: Write>(&self, entry: &Descriptor, to: W) -> Result<Option<W>, Error> {
        let mut checked = Checked::new(to, entry.digest(), entry.size())?;
        let mut content = ContentClient::new(self.channel.clone());
        let digest = entry.digest().to_string();
        let request = self.request(ReadContentRequest { digest, ..Default::default() })?;
        let Some(mut parts) = self.answer(content.read(request)).await? else {
            return Ok(None);
        };
        loop {
            // containerd may refuse a stream in its first message.
            let next = async { parts.message().await.map(Response::new) };
            match self.answer(next).await? {
                Some(Some(part)) => checked.write(&part.data)?,
                Some(None) => return checked.finish().map(Some),
                None => return Ok(None),
            }
        }
    }
}

/// Converts containerd's form of a descriptor to OCI's.
fn descriptor(target: Target) -> Result<Descriptor, Error> {
    let refused = |reason: String| Error::content(&target.digest, reason);
    let digest: Digest = target.digest.parse().map_err(|error| refused(format!("{error}")))?;
    let size = target.size.try_into().map_err(|_| refused(format!("{} bytes", target.size)))?;
    Ok(Descriptor::new(MediaType::from(target.media_type.as_str()), size, digest))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Error text for a containerd that accepts connections and never answers.
    async fn error_of_silent_containerd(timeouts: Timeouts) -> String {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("c.sock");
        let _silent = UnixListener::bind(&socket).unwrap();
        let container = Container {
            containerd: Some(&socket),
            namespace: "k8s.io",
            id: "c",
            rootfs: directory.path(),
            args: &[],
            cwd: Path::new("/"),
            env: &[],
            mounts: &[],
            preinit: None,
            layers: &[],
        };
        let labels = labels(&container, "app", timeouts).await.expect_err("is not answered");
        assert!(labels.to_string().contains("the image's labels: it"), "{labels}");
        match wasm_layers(&container, "app", timeouts).await {
            Err(error @ Error::Containerd { .. }) => error.to_string(),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("an answer"),
        }
    }

    #[tokio::test]
    async fn waiting_for_a_silent_containerd_ends_at_each_time_limit() {
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(600));
        let text = error_of_silent_containerd(Timeouts { answer: short, total: long }).await;
        assert!(text.contains("it does not answer"), "{text}");
        let text = error_of_silent_containerd(Timeouts { answer: long, total: short }).await;
        assert!(text.contains("it took too long"), "{text}");
    }

    #[test]
    fn all_time_limits_together_are_less_than_kubelets() {
        // An entrypoint with a # is looked for twice. Code is also looked for twice: before and after the wait for the lock.
        let found = 2 * limits::FILE_TIME + 2 * limits::CACHE_TIME;
        let of_image = Timeouts::default().total + limits::READ_TIME;
        let of_file = 2 * limits::READ_TIME;
        assert!(found + of_image.max(of_file) < Duration::from_secs(120));
    }
}
