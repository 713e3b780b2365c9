//! Compiled code in containerd's content store, as content that a label of the wasm layer refers to.
//!
//! The label is one that containerd's garbage collection follows (`containerd.io/gc.ref.content.`): the code goes with
//! the layer. It is set before the code is there, so that there is no moment at which nothing refers to the code, and
//! no lease to be left behind. What is half written when its writer is killed is containerd's to clean up, within a
//! day; it has no digest, and so is never found.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use containerd_client::services::v1::content_client::ContentClient;
use containerd_client::services::v1::introspection_client::IntrospectionClient;
use containerd_client::services::v1::{
    AbortRequest, Info, InfoRequest, PluginsRequest, UpdateRequest, WriteAction,
    WriteContentRequest,
};
use oci_spec::image::{Descriptor, Digest};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Response};

use super::Key;
use super::artefact::Artefact;
use crate::Error;
use crate::blob::hex;
use crate::store::Store;

/// What containerd's garbage collection follows, and a name of ours.
const LABEL: &str = "containerd.io/gc.ref.content.wasmtime-shim.";

/// The plugin that has content on this machine's disk.
const LOCAL_CONTENT: &str = "type==io.containerd.content.v1,id==content";

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
    ) -> Result<PathBuf, Error> {
        let (size, digest) = whole(artefact).map_err(Error::read("the compiled code"))?;
        let layer = layers.first().ok_or_else(|| self.failed("the image has no layers"))?;
        let blobs = self.blobs().await?;
        let blobs =
            blobs.ok_or_else(|| self.failed("its content is not on this machine's disk"))?;
        self.refer(layer, key, &digest).await?;
        let written = self.write(key, artefact, size, &digest).await;
        if written.is_err() {
            let mut content = ContentClient::new(self.channel.clone());
            let abort = self.request(AbortRequest { r#ref: reference(key) })?;
            self.answer(content.abort(abort)).await?;
        }
        written.map(|()| blobs.join(digest))
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

    async fn write(
        &self,
        key: &Key,
        artefact: &Artefact,
        size: u64,
        sha256: &str,
    ) -> Result<(), Error> {
        let parts = artefact.parts().map_err(Error::read("the compiled code"))?;
        let total = i64::try_from(size).map_err(|_| self.failed("the code is too large"))?;
        let (name, expected) = (reference(key), format!("sha256:{sha256}"));
        let mut offset = 0;
        let message = move |data: Vec<u8>, action: WriteAction| {
            let at = offset;
            offset += data.len() as i64;
            WriteContentRequest {
                action: action.into(),
                r#ref: name.clone(),
                total,
                expected: expected.clone(),
                offset: at,
                data,
                labels: HashMap::new(),
            }
        };
        // A part that cannot be read ends the stream early, and containerd refuses what it then has.
        let parts = parts.map_while(Result::ok).map(|data| (data, WriteAction::Write));
        let requests = parts
            .chain([(Vec::new(), WriteAction::Commit)])
            .scan(message, |message, it| Some(message(it.0, it.1)));
        let request = self.request(tokio_stream::iter(requests))?;
        let mut content = ContentClient::new(self.channel.clone());
        let there = Code::AlreadyExists;
        let opened = self.answer_unless(there, content.write(request)).await?;
        let Some(mut answers) = opened else { return Ok(()) };
        loop {
            let next = async { answers.message().await.map(Response::new) };
            match self.answer_unless(there, next).await? {
                None => return Ok(()),
                Some(Some(answer)) if answer.action == i32::from(WriteAction::Commit) => {
                    return Ok(());
                }
                Some(Some(_)) => {}
                Some(None) => return Err(self.failed("it ended the writing before it was done")),
            }
        }
    }
}

fn label(key: &Key) -> String {
    format!("{LABEL}{}", key.0)
}

/// The name of what is being written: the same for each attempt, so that the next one takes the place of the last.
fn reference(key: &Key) -> String {
    format!("wasmtime-shim-{}", key.0)
}

fn whole(artefact: &Artefact) -> io::Result<(u64, String)> {
    let (mut size, mut hash) = (0, Sha256::new());
    for part in artefact.parts()? {
        let part = part?;
        size += part.len() as u64;
        hash.update(part);
    }
    Ok((size, hex(&hash.finalize())))
}
