//! Compiled code in containerd's content store, as content that a label of the wasm layer refers to.
//!
//! containerd's garbage collection follows that label (`containerd.io/gc.ref.content.`), so that it removes the code
//! with the layer. The label is set before the code is written. So something refers to the code at any moment, and no
//! lease can be left behind. If a writer is killed, containerd removes the half-written content within a day. Such
//! content has no digest, so it is never found.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::introspection_client::IntrospectionClient;
use containerd_client::services::v1::{
    AbortRequest, Info, InfoRequest, PluginsRequest, UpdateRequest, WriteAction,
    WriteContentRequest,
};
use oci_spec::image::{Descriptor, Digest};
use provided::CODE_LABEL;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Response};

use super::artefact::{Artefact, WholeFile};
use super::{Key, directory};
use crate::Error;
use crate::store::Store;

/// Filter for the plugin that stores content on this machine's disk.
const LOCAL_CONTENT: &str = "type==io.containerd.content.v1,id==content";

/// Maximum number of attempts to write code, if another process writes the same.
const WRITE_ATTEMPTS: u32 = 20;
/// Time between two attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// containerd's codes if another process has written, or is writing, the same content.
const CONCURRENT_WRITE: [Code; 2] = [Code::AlreadyExists, Code::Unavailable];

/// Number of parts that are read ahead while containerd receives earlier ones.
const PARTS_AHEAD: usize = 2;

/// Export of that plugin with the path of its root directory.
const ROOT_EXPORT: &str = "root";

impl Store {
    /// Returns the path of the layers' code, if a label of the first layer refers to it.
    pub(super) async fn find_code(
        &self,
        key: &Key,
        layers: &[Descriptor],
    ) -> Result<Option<PathBuf>, Error> {
        let Some(layer) = layers.first() else { return Ok(None) };
        let mut content = ContentClient::new(self.channel.clone());
        let request = self.request(InfoRequest { digest: layer.digest().to_string() })?;
        // Both calls run at the same time, so that a container whose code exists starts faster.
        let (info, blobs) = tokio::join!(self.answer(content.info(request)), self.blobs());
        let info = info?.and_then(|answer| answer.info);
        let digest = info.and_then(|info| info.labels.get(&label(key)).cloned());
        let digest = digest.and_then(|digest| digest.parse::<Digest>().ok());
        Ok(blobs?.zip(digest).map(|(blobs, digest)| blobs.join(digest.digest())))
    }

    /// Writes the layers' code, and returns its path.
    pub(super) async fn write_code(
        &self,
        key: &Key,
        layers: &[Descriptor],
        artefact: &Artefact,
        whole: &WholeFile,
    ) -> Result<PathBuf, Error> {
        let layer = layers.first().ok_or_else(|| self.failed("the image has no layers"))?;
        let blobs = self.blobs().await?;
        let blobs =
            blobs.ok_or_else(|| self.failed("its content is not on this machine's disk"))?;
        directory::allowed_bytes(&blobs, whole.size, 0)
            .map_err(|error| self.failed(&error.to_string()))?;
        self.refer(layer, key, &whole.sha256).await?;
        let written = self.write_with_retries(key, artefact, whole).await;
        if written.is_err()
            && let Err(error) = self.abort(key).await
        {
            log::warn!("half-written compiled code stays for up to a day: {error}");
        }
        written.map(|()| blobs.join(&whole.sha256))
    }

    /// Writes the code. Retries because containerd needs some time to notice that a writer was killed. Each attempt first
    /// removes an unfinished write and does not continue it, because its length may be different.
    async fn write_with_retries(
        &self,
        key: &Key,
        artefact: &Artefact,
        whole: &WholeFile,
    ) -> Result<(), Error> {
        for _ in 0..WRITE_ATTEMPTS {
            self.abort(key).await?;
            if self.write(key, artefact, whole).await? {
                return Ok(());
            }
            sleep(RETRY_INTERVAL).await;
        }
        Err(self.failed("another process is writing the same code"))
    }

    /// Removes an unfinished write of this key.
    async fn abort(&self, key: &Key) -> Result<(), Error> {
        let mut content = ContentClient::new(self.channel.clone());
        let abort = self.request(AbortRequest { r#ref: reference(key) })?;
        self.answer(content.abort(abort)).await.map(drop)
    }

    /// Returns the directory with the content, whose files are named by their SHA-256. Takes its path from the plugin's
    /// exports.
    async fn blobs(&self) -> Result<Option<PathBuf>, Error> {
        let mut introspection = IntrospectionClient::new(self.channel.clone());
        let filters = vec![LOCAL_CONTENT.to_owned()];
        let request = self.request(PluginsRequest { filters })?;
        let plugins = self.answer(introspection.plugins(request)).await?.unwrap_or_default();
        let root = plugins.plugins.iter().find_map(|plugin| plugin.exports.get(ROOT_EXPORT));
        Ok(root.map(|root| PathBuf::from(root).join("blobs/sha256")))
    }

    /// Sets the label of the layer that refers to the code.
    async fn refer(&self, layer: &Descriptor, key: &Key, sha256: &str) -> Result<(), Error> {
        let mut content = ContentClient::new(self.channel.clone());
        let labels = HashMap::from([(label(key), format!("sha256:{sha256}"))]);
        let info = Info { digest: layer.digest().to_string(), labels, ..Default::default() };
        let paths = vec![format!("labels.{}", label(key))];
        let update_mask = Some(prost_types::FieldMask { paths });
        let request = self.request(UpdateRequest { info: Some(info), update_mask })?;
        let updated = self.answer(content.update(request)).await?;
        updated.map(drop).ok_or_else(|| self.failed("the layer is not in its content store"))
    }

    /// Writes the code. Returns `true` if it is stored now, and `false` if another process is writing it.
    async fn write(
        &self,
        key: &Key,
        artefact: &Artefact,
        whole: &WholeFile,
    ) -> Result<bool, Error> {
        let first = WriteContentRequest {
            action: WriteAction::Write.into(),
            r#ref: reference(key),
            total: i64::try_from(whole.size).map_err(|_| self.failed("the code is too large"))?,
            expected: format!("sha256:{}", whole.sha256),
            ..Default::default()
        };
        let parts = artefact.parts().map_err(Error::read("the compiled code"))?;
        let (sender, requests) = mpsc::channel(PARTS_AHEAD);
        // A separate thread reads the file. It ends when the receiver is dropped.
        drop(spawn_blocking(move || send(first, parts, &sender)));
        let request = self.request(ReceiverStream::new(requests))?;
        let mut content = ContentClient::new(self.channel.clone());
        // containerd may refuse the stream at once or in its first message.
        let mut answers = match self.answer_or(&CONCURRENT_WRITE, content.write(request)).await? {
            Ok(answers) => answers,
            Err(code) => return Ok(code == Code::AlreadyExists),
        };
        loop {
            let next = async { answers.message().await.map(Response::new) };
            match self.answer_or(&CONCURRENT_WRITE, next).await? {
                Err(code) => return Ok(code == Code::AlreadyExists),
                Ok(Some(answer)) if answer.action == i32::from(WriteAction::Commit) => {
                    return Ok(true);
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(self.failed("it ended the write before the commit")),
            }
        }
    }
}

/// Name of the label that refers to the code.
fn label(key: &Key) -> String {
    format!("{CODE_LABEL}{}", key.name)
}

/// Reference of an unfinished write. It is the same for each attempt, so that the next attempt replaces the previous one.
fn reference(key: &Key) -> String {
    format!("wasmtime-shim-{}", key.name)
}

/// Sends a message for each part, and then one that commits them. If a part cannot be read, sends no commit.
fn send(
    mut message: WriteContentRequest,
    parts: impl Iterator<Item = io::Result<Vec<u8>>>,
    to: &mpsc::Sender<WriteContentRequest>,
) {
    for part in parts {
        let data = match part {
            Ok(data) => data,
            Err(error) => return log::warn!("read the compiled code: {error}"),
        };
        let length = data.len() as i64;
        if to.blocking_send(WriteContentRequest { data, ..message.clone() }).is_err() {
            return;
        }
        message.offset += length;
    }
    message.action = WriteAction::Commit.into();
    // If the receiver was dropped, nothing waits for the commit.
    let _ = to.blocking_send(message);
}
