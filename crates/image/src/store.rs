//! An image's wasm layers, from containerd: container → image → manifest → content.
//!
//! `asked` finds the image that a Pod asked for, and `manifests` finds the manifest.
//!
//! The content is read through containerd's content service and not from the directory behind it. The service is
//! containerd's API, a proxy plugin may provide it, and it keeps namespaces apart.

mod asked;
mod calls;
mod manifests;
mod pod;

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

/// What an image has for a guest.
pub enum Layers {
    /// Its wasm layers, at least one.
    Wasm {
        /// Where they are.
        store: Box<Store>,
        /// In their order.
        layers: Vec<Descriptor>,
        /// The image's config; none of an artifact, whose own says nothing of how it is run, and of a container that is
        /// there, of which it is not asked.
        config: Option<Box<Descriptor>>,
        /// The labels of the image's config, which its containers have from it.
        labels: HashMap<String, String>,
    },
    /// None, and why.
    None(&'static str),
}

/// How long containerd is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For one answer.
    pub answer: Duration,
    /// For all of them.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { answer: limits::ANSWER_TIME, whole: limits::LOOK_UP_TIME }
    }
}

/// Asks containerd for the container's wasm layers. That it does not know the container or its image,
/// as under Docker, means there are none.
pub async fn wasm_layers(
    container: &Container<'_>,
    entrypoint: &str,
    patience: Patience,
) -> Result<Layers, Error> {
    let Some(socket) = container.containerd else {
        return Ok(Layers::None("there is no containerd to ask for wasm layers"));
    };
    let ask = async |store: Store| store.wasm_layers(container.id, container.layers).await;
    asked(socket, container.namespace, entrypoint, patience, ask).await
}

/// Asks containerd for the container's labels: none where it does not know the container, or where there is none.
pub async fn labels(
    container: &Container<'_>,
    entrypoint: &str,
    patience: Patience,
) -> Result<HashMap<String, String>, Error> {
    let Some(socket) = container.containerd.filter(|socket| socket.exists()) else {
        return Ok(HashMap::new());
    };
    let ask = async |store: Store| {
        let known = store.container(container.id).await?;
        Ok(known.map(|known| known.labels).unwrap_or_default())
    };
    let asked = asked(socket, container.namespace, entrypoint, patience, ask).await;
    asked.map_err(|error| match error {
        Error::Containerd { socket, reason, .. } => Error::Labels { socket, reason },
        other => other,
    })
}

/// Asks containerd for the port that the container's image exposes: none where it does not know the container, or its
/// image, or where there is no containerd.
pub async fn exposed_port(
    container: &Container<'_>,
    entrypoint: &str,
    patience: Patience,
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
    asked(socket, container.namespace, entrypoint, patience, ask).await
}

/// What containerd answers, within that time.
async fn asked<T>(
    socket: &Path,
    namespace: &str,
    entrypoint: &str,
    patience: Patience,
    ask: impl AsyncFnOnce(Store) -> Result<T, Error>,
) -> Result<T, Error> {
    let failed = |reason: &str| failed(socket, entrypoint, reason);
    let look_up = async {
        match timeout(patience.answer, containerd_client::connect(socket)).await {
            Ok(Ok(channel)) => {
                let (socket, entrypoint) = (socket.to_owned(), entrypoint.to_owned());
                let namespace = namespace.to_owned();
                ask(Store { channel, socket, namespace, entrypoint, patience }).await
            }
            Ok(Err(error)) => Err(failed(&text::with_causes(&error))),
            Err(_) => Err(failed("it does not accept a connection")),
        }
    };
    let whole = timeout(patience.whole, look_up).await;
    whole.unwrap_or_else(|_| Err(failed("it took too long for all of them")))
}

/// A connection to containerd, for one container's image.
#[derive(Debug)]
pub struct Store {
    /// containerd's gRPC API.
    pub channel: Channel,
    socket: PathBuf,
    namespace: String,
    /// What is looked for, for errors.
    entrypoint: String,
    patience: Patience,
}

impl Store {
    /// Those of the container's image, or those that it was created with.
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

    /// What an image's config exposes; none where it was not pulled.
    pub async fn exposed_port(&self, config: &Descriptor) -> Result<Option<u16>, Error> {
        let config = self.json::<rule::Config>(config).await?;
        Ok(config.and_then(|config| config.config.exposed_port()))
    }

    /// What containerd has on record of the container.
    async fn container(&self, id: &str) -> Result<Option<Record>, Error> {
        let mut containers = ContainersClient::new(self.channel.clone())
            .max_decoding_message_size(limits::ANSWER_BYTES);
        let request = self.request(GetContainerRequest { id: id.to_owned() })?;
        let answer = self.answer(containers.get(request)).await?;
        Ok(answer.and_then(|answer| answer.container))
    }

    /// The content that the image of that name points at.
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

    /// Content of a known form; none if it was not pulled.
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

    /// Checked copies of layers, at their start.
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

    /// Copies content part by part, as containerd sends it; none if it was not pulled.
    async fn copy<W: Write>(&self, entry: &Descriptor, to: W) -> Result<Option<W>, Error> {
        let mut checked = Checked::new(to, entry.digest(), entry.size())?;
        let mut content = ContentClient::new(self.channel.clone());
        let digest = entry.digest().to_string();
        let request = self.request(ReadContentRequest { digest, ..Default::default() })?;
        let Some(mut parts) = self.answer(content.read(request)).await? else {
            return Ok(None);
        };
        loop {
            // A stream's refusal may come as its first message.
            let next = async { parts.message().await.map(Response::new) };
            match self.answer(next).await? {
                Some(Some(part)) => checked.write(&part.data)?,
                Some(None) => return checked.finish().map(Some),
                None => return Ok(None),
            }
        }
    }
}

/// containerd's form of a descriptor in OCI's.
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

    /// What is said of a containerd that accepts connections and is silent.
    async fn given_up(patience: Patience) -> String {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("c.sock");
        let _silent = UnixListener::bind(&socket).unwrap();
        let container = Container {
            containerd: Some(&socket),
            namespace: "k8s.io",
            id: "c",
            rootfs: folder.path(),
            args: &[],
            cwd: Path::new("/"),
            env: &[],
            mounts: &[],
            preinit: None,
            layers: &[],
        };
        let labels = labels(&container, "app", patience).await.expect_err("is not answered");
        assert!(labels.to_string().contains("the image's labels: it"), "{labels}");
        match wasm_layers(&container, "app", patience).await {
            Err(error @ Error::Containerd { .. }) => error.to_string(),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("an answer"),
        }
    }

    #[tokio::test]
    async fn a_containerd_that_does_not_answer_is_not_waited_for_for_ever() {
        let (short, long) = (Duration::from_millis(20), Duration::from_secs(600));
        let text = given_up(Patience { answer: short, whole: long }).await;
        assert!(text.contains("it does not answer"), "{text}");
        let text = given_up(Patience { answer: long, whole: short }).await;
        assert!(text.contains("it took too long"), "{text}");
    }

    #[test]
    fn all_waiting_together_ends_before_kubelet_gives_up() {
        // An entrypoint with a # is looked for twice, and so is code: before and after others have compiled.
        let found = 2 * limits::FILE_TIME + 2 * limits::CACHE_TIME;
        let of_image = Patience::default().whole + limits::READ_TIME;
        let of_file = 2 * limits::READ_TIME;
        assert!(found + of_image.max(of_file) < Duration::from_secs(120));
    }
}
