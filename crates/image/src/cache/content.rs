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

use super::artefact::{Artefact, Whole};
use super::{Key, directory};
use crate::Error;
use crate::store::Store;

/// The plugin that has content on this machine's disk.
const LOCAL_CONTENT: &str = "type==io.containerd.content.v1,id==content";

/// How often, and after which pause, the turn of another writer is waited out.
const TURNS: u32 = 20;
const TURN: Duration = Duration::from_millis(100);

/// What containerd says when others have written, or are writing, the same.
const OTHERS: [Code; 2] = [Code::AlreadyExists, Code::Unavailable];

/// Parts that are read ahead of what containerd takes.
const AHEAD: usize = 2;

/// What that plugin says of its root.
const ROOT: &str = "root";

impl Store {
    /// Where the code of these layers is, if the first one's label tells.
    pub(super) async fn find_code(
        &self,
        key: &Key,
        layers: &[Descriptor],
    ) -> Result<Option<PathBuf>, Error> {
        let Some(layer) = layers.first() else { return Ok(None) };
        let mut content = ContentClient::new(self.channel.clone());
        let request = self.request(InfoRequest { digest: layer.digest().to_string() })?;
        // What is asked beside it is needed by those who start fast.
        let (info, blobs) = tokio::join!(self.answer(content.info(request)), self.blobs());
        let info = info?.and_then(|answer| answer.info);
        let digest = info.and_then(|info| info.labels.get(&label(key)).cloned());
        let digest = digest.and_then(|digest| digest.parse::<Digest>().ok());
        Ok(blobs?.zip(digest).map(|(blobs, digest)| blobs.join(digest.digest())))
    }

    /// Writes the code of these layers, and returns where it is.
    pub(super) async fn keep_code(
        &self,
        key: &Key,
        layers: &[Descriptor],
        artefact: &Artefact,
        whole: &Whole,
    ) -> Result<PathBuf, Error> {
        let layer = layers.first().ok_or_else(|| self.failed("the image has no layers"))?;
        let blobs = self.blobs().await?;
        let blobs =
            blobs.ok_or_else(|| self.failed("its content is not on this machine's disk"))?;
        directory::room(&blobs, whole.size, 0).map_err(|error| self.failed(&error.to_string()))?;
        self.refer(layer, key, &whole.sha256).await?;
        let written = self.write_in_turn(key, artefact, whole).await;
        if written.is_err()
            && let Err(error) = self.abort(key).await
        {
            log::warn!("compiled code that is half written stays for a day: {error}");
        }
        written.map(|()| blobs.join(&whole.sha256))
    }

    /// Somebody who was killed while they wrote is missed by containerd a little later. What they left is not gone on
    /// with: it may be of another length.
    async fn write_in_turn(
        &self,
        key: &Key,
        artefact: &Artefact,
        whole: &Whole,
    ) -> Result<(), Error> {
        for _ in 0..TURNS {
            self.abort(key).await?;
            if self.write(key, artefact, whole).await? {
                return Ok(());
            }
            sleep(TURN).await;
        }
        Err(self.failed("another one is writing the same"))
    }

    async fn abort(&self, key: &Key) -> Result<(), Error> {
        let mut content = ContentClient::new(self.channel.clone());
        let abort = self.request(AbortRequest { r#ref: reference(key) })?;
        self.answer(content.abort(abort)).await.map(drop)
    }

    /// Where content is on the disk, by its SHA-256, as the plugin that has it says of itself.
    async fn blobs(&self) -> Result<Option<PathBuf>, Error> {
        let mut introspection = IntrospectionClient::new(self.channel.clone());
        let filters = vec![LOCAL_CONTENT.to_owned()];
        let request = self.request(PluginsRequest { filters })?;
        let plugins = self.answer(introspection.plugins(request)).await?.unwrap_or_default();
        let root = plugins.plugins.iter().find_map(|plugin| plugin.exports.get(ROOT));
        Ok(root.map(|root| PathBuf::from(root).join("blobs/sha256")))
    }

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

    /// Returns whether it is there now; if not, somebody else is writing it.
    async fn write(&self, key: &Key, artefact: &Artefact, whole: &Whole) -> Result<bool, Error> {
        let first = WriteContentRequest {
            action: WriteAction::Write.into(),
            r#ref: reference(key),
            total: i64::try_from(whole.size).map_err(|_| self.failed("the code is too large"))?,
            expected: format!("sha256:{}", whole.sha256),
            ..Default::default()
        };
        let parts = artefact.parts().map_err(Error::read("the compiled code"))?;
        let (sender, requests) = mpsc::channel(AHEAD);
        // The file is read on a thread of its own. It ends when nobody takes what it reads.
        drop(spawn_blocking(move || send(first, parts, &sender)));
        let request = self.request(ReceiverStream::new(requests))?;
        let mut content = ContentClient::new(self.channel.clone());
        // A stream's refusal may come at once or as its first message.
        let mut answers = match self.answer_or(&OTHERS, content.write(request)).await? {
            Ok(answers) => answers,
            Err(code) => return Ok(code == Code::AlreadyExists),
        };
        loop {
            let next = async { answers.message().await.map(Response::new) };
            match self.answer_or(&OTHERS, next).await? {
                Err(code) => return Ok(code == Code::AlreadyExists),
                Ok(Some(answer)) if answer.action == i32::from(WriteAction::Commit) => {
                    return Ok(true);
                }
                Ok(Some(_)) => {}
                Ok(None) => return Err(self.failed("it ended the writing before it was done")),
            }
        }
    }
}

fn label(key: &Key) -> String {
    format!("{CODE_LABEL}{}", key.name)
}

/// The name of what is being written: the same for each attempt, so that the next one takes the place of the last.
fn reference(key: &Key) -> String {
    format!("wasmtime-shim-{}", key.name)
}

/// A message for each part, and the last to commit them. Where a part cannot be read there is no last one.
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
    // Whoever is gone waits for no answer.
    let _ = to.blocking_send(message);
}
