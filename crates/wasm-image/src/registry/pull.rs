//! Fetches manifests and blobs (OCI distribution specification, "Pull").

use anyhow::Result;
use oci_client::RegistryOperation::Pull;
use oci_spec::image::Descriptor;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, RANGE};
use reqwest::{Response, StatusCode};
use serde_json::{Map, Value};

use super::{CONTENT_DIGEST, Remote, Task, answers};
use crate::errors::{Error, within};
use crate::limits;
use crate::progress::Bar;
use crate::store::Layout;
use crate::store::blob::{self, Writer};
use crate::store::layout::describe;

/// Media types of manifests and indexes: OCI's, and Docker's names for the same.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

impl Remote {
    /// Returns the manifest or index of a tag or digest, and its bytes. The digest is checked.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Digest`], [`Error::TooLarge`].
    pub async fn manifest(&self, name: &str) -> Result<(Descriptor, Vec<u8>)> {
        let subject = if name.contains(':') { name.to_owned() } else { format!("tag {name}") };
        let what = format!("pull {}", self.reference.whole());
        let task = Task { what: &what, subject: &subject, operation: Pull };
        let url = self.url(&format!("manifests/{name}"))?;
        let mut retries = self.retries();
        let (header, bytes) = loop {
            let answer =
                self.send(&task, |it| it.get(url.clone()).header(ACCEPT, MANIFESTS)).await?;
            match self.small(&what, answer).await {
                Ok(done) => break done,
                Err(error) => retries.wait(error).await?,
            }
        };
        let found = blob::digest(&bytes);
        if name.contains(':') && name != found {
            let (place, expected) = (self.title(), name.to_owned());
            return Err(Error::Digest { place, expected, found }.into());
        }
        let media_type = match serde_json::from_slice(&bytes) {
            Ok(Value::Object(manifest)) => media_type(&manifest).unwrap_or(header),
            _ => return Err(answers::no_manifest(self.registry(), &what, &bytes).into()),
        };
        Ok((describe(&media_type, &bytes)?, bytes))
    }

    /// Returns the media type and all bytes of a small answer.
    pub(super) async fn small(
        &self,
        what: &str,
        mut answer: Response,
    ) -> Result<(String, Vec<u8>)> {
        let media_type = answer.headers().get(CONTENT_TYPE).and_then(|it| it.to_str().ok());
        let media_type = media_type.unwrap_or_default().to_owned();
        let mut bytes = Vec::new();
        while let Some(part) = self.part(what, &mut answer).await? {
            bytes.extend_from_slice(&part);
            let size = bytes.len() as u64;
            within(limits::JSON_BYTES, || format!("the manifest of {}", self.title()), size)?;
        }
        Ok((media_type, bytes))
    }

    /// Downloads a blob into a layout. After a cut, it continues where it was.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Digest`], [`Error::Size`], [`Error::TooLarge`].
    pub async fn download(&self, blob: &Descriptor, layout: &Layout, bar: &Bar) -> Result<()> {
        let mut writer = layout.writer(blob, &self.title())?;
        let mut retries = self.retries();
        loop {
            if writer.length() > 0 && writer.length() == blob.size() {
                return writer.finish();
            }
            match self.download_rest(blob, &mut writer, bar).await {
                Ok(()) => return writer.finish(),
                Err(error) => {
                    retries.reached(writer.length());
                    retries.wait(error).await?;
                }
            }
        }
    }

    async fn download_rest(&self, blob: &Descriptor, writer: &mut Writer, bar: &Bar) -> Result<()> {
        let what = format!("pull {}", blob.digest());
        let subject = format!("blob {}", blob.digest());
        let task = Task { what: &what, subject: &subject, operation: Pull };
        let url = self.url(&format!("blobs/{}", blob.digest()))?;
        let from = writer.length();
        let request = |it: &reqwest::Client| match from {
            0 => it.get(url.clone()),
            _ => it.get(url.clone()).header(RANGE, format!("bytes={from}-")),
        };
        let mut answer = self.send_once(&task, request).await?;
        if from > 0 && answer.status() != StatusCode::PARTIAL_CONTENT {
            writer.restart()?;
        }
        bar.at(writer.length());
        while let Some(part) = self.part(&what, &mut answer).await? {
            writer.write(&part)?;
            bar.at(writer.length());
        }
        if writer.length() < blob.size() && answer.content_length().is_none() {
            return Err(self.ended_early(&what).into());
        }
        Ok(())
    }

    /// Returns the next part of an answer.
    async fn part(&self, what: &str, answer: &mut Response) -> Result<Option<bytes::Bytes>, Error> {
        let part = answer.chunk().await;
        part.map_err(|error| answers::unreachable(self.registry(), what, &error))
    }

    /// Makes the error for an answer that ended too early. Without a stated length, this would look like any other end.
    fn ended_early(&self, what: &str) -> Error {
        Error::Unavailable {
            registry: self.registry().into(),
            what: what.into(),
            reason: "the answer ended too early".into(),
            wait: None,
            attempts: String::new(),
        }
    }

    /// Returns whether the repository has a blob.
    pub async fn has_blob(&self, blob: &Descriptor) -> Result<bool> {
        let what = format!("look for {}", blob.digest());
        let subject = format!("blob {}", blob.digest());
        // This uses the rights to push, because a token for them will be needed anyway.
        let operation = oci_client::RegistryOperation::Push;
        let task = Task { what: &what, subject: &subject, operation };
        let url = self.url(&format!("blobs/{}", blob.digest()))?;
        self.is_there(&task, blob, self.send(&task, |it| it.head(url.clone())).await).await
    }

    /// Returns whether the repository has a manifest of that digest.
    pub async fn has_manifest(&self, manifest: &Descriptor) -> Result<bool> {
        let what = format!("look for {}", manifest.digest());
        let operation = oci_client::RegistryOperation::Push;
        let task = Task { what: &what, subject: "such manifest", operation };
        let url = self.url(&format!("manifests/{}", manifest.digest()))?;
        let answer = self.send(&task, |it| it.head(url.clone()).header(ACCEPT, MANIFESTS)).await;
        self.is_there(&task, manifest, answer).await
    }

    /// Returns whether the answer to HEAD says that the content exists: by the digest, or by the size if there is no
    /// digest, as with the storage behind some registries. A success with neither is not sufficient.
    async fn is_there(
        &self,
        task: &Task<'_>,
        what: &Descriptor,
        answer: Result<Response>,
    ) -> Result<bool> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => match error.downcast_ref::<Error>() {
                Some(Error::NotFound { .. }) => return Ok(false),
                _ => return Err(error),
            },
        };
        let header = |name: &str| answer.headers().get(name).and_then(|it| it.to_str().ok());
        match header(CONTENT_DIGEST) {
            Some(digest) if digest == what.digest().as_ref() => Ok(true),
            Some(_) => {
                let expected = format!("the digest {}", what.digest());
                Err(answers::no_registry(self, task, answer, &expected).await.into())
            }
            None => {
                let size = header(CONTENT_LENGTH.as_str()).and_then(|it| it.parse().ok());
                Ok(size == Some(what.size()))
            }
        }
    }
}

/// Returns the media type that a manifest states for itself.
fn media_type(manifest: &Map<String, Value>) -> Option<String> {
    Some(manifest.get("mediaType")?.as_str()?.to_owned())
}
