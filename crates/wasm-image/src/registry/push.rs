//! Sends blobs and manifests (OCI distribution specification, "Push").
//!
//! A blob of up to [`CHUNK_BYTES`] is sent as a whole, which every registry accepts. A larger one is sent in parts,
//! each in a request of its own. After a failure, the registry is asked how much it has; if it does not know, the blob
//! is sent from its beginning. A success status of HTTP does not mean that a registry answered, so [`is_stored`]
//! decides whether the content is stored.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use oci_client::RegistryOperation::Push;
use oci_spec::image::Descriptor;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, LOCATION, RANGE};
use reqwest::{Response, StatusCode, Url};

use super::{CONTENT_DIGEST, Remote, Retries, Task, answers, origin};
use crate::errors::Error;
use crate::limits::CHUNK_BYTES;
use crate::progress::Bar;

const BYTES: &str = "application/octet-stream";

/// Statuses of a begun upload, of an accepted part, and of an accepted manifest. The specification's status comes
/// first, then those that some registries use instead (Amazon's for parts, Quay's for manifests).
const BEGUN: [StatusCode; 2] = [StatusCode::ACCEPTED, StatusCode::CREATED];
const TAKEN: [StatusCode; 3] = [StatusCode::ACCEPTED, StatusCode::CREATED, StatusCode::NO_CONTENT];
const MANIFEST_STORED: [StatusCode; 2] = [StatusCode::CREATED, StatusCode::ACCEPTED];

/// The state of an upload.
struct Upload {
    /// URL for the rest.
    location: Url,
    /// Number of bytes that the registry has.
    offset: u64,
}

/// The state of an upload that is kept between attempts.
struct Progress {
    retries: Retries,
    /// The upload that was cut, if the registry may still know it.
    upload: Option<Upload>,
}

impl Remote {
    /// Sends a blob that the repository does not have, from a file with its content.
    pub async fn upload(&self, blob: &Descriptor, file: &Path, bar: &Bar) -> Result<()> {
        let what = format!("push {} to {}", blob.digest(), self.title());
        let task = Task { what: &what, subject: "such repository or upload", operation: Push };
        let file = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        let mut progress = Progress { retries: self.retries(), upload: None };
        loop {
            let sent = match blob.size() <= CHUNK_BYTES {
                true => self.send_whole(&task, blob, &file).await,
                false => self.send_parts(&task, blob, &file, bar, &mut progress).await,
            };
            match sent {
                Ok(()) => {
                    bar.at(blob.size());
                    return Ok(());
                }
                Err(error) => progress.retries.wait(error).await?,
            }
        }
    }

    /// Asks the registry to take a blob from another of its repositories. Returns whether it did.
    pub async fn mount(&self, blob: &Descriptor, from: &str) -> Result<bool> {
        let what = format!("take {} over from {from}", blob.digest());
        let task = Task { what: &what, subject: "such repository", operation: Push };
        let mut url = self.url("blobs/uploads/")?;
        url.query_pairs_mut()
            .append_pair("mount", blob.digest().as_ref())
            .append_pair("from", from);
        match self.send(&task, |it| it.post(url.clone()).header(CONTENT_LENGTH, 0)).await {
            // Otherwise an upload was begun (distribution specification, "Mounting a blob"), to which nothing is sent.
            Ok(answer) => Ok(is_stored(&answer, blob, &[StatusCode::CREATED])),
            Err(error) => match error.downcast_ref::<Error>() {
                Some(refusal) if !refusal.is_passing() => Ok(false),
                _ => Err(error),
            },
        }
    }

    async fn send_whole(&self, task: &Task<'_>, blob: &Descriptor, file: &File) -> Result<()> {
        let bytes = read(file, 0, blob.size())?;
        let upload = self.begin(task).await?;
        self.commit(task, upload, blob, bytes).await
    }

    /// Sends the missing parts. `progress` keeps what the next attempt must know.
    async fn send_parts(
        &self,
        task: &Task<'_>,
        blob: &Descriptor,
        file: &File,
        bar: &Bar,
        progress: &mut Progress,
    ) -> Result<()> {
        let mut upload = match progress.upload.take() {
            Some(cut) => self.resume(task, &cut, blob).await?,
            None => self.begin(task).await?,
        };
        while upload.offset < blob.size() {
            bar.at(upload.offset);
            let end = blob.size().min(upload.offset + CHUNK_BYTES);
            let bytes = read(file, upload.offset, end)?;
            match self.send_part(task, &upload, bytes).await {
                Ok(next) => upload = next,
                Err(error) => {
                    progress.upload = Some(upload);
                    return Err(error);
                }
            }
            progress.retries.reached(upload.offset);
        }
        self.commit(task, upload, blob, Bytes::new()).await
    }

    async fn begin(&self, task: &Task<'_>) -> Result<Upload> {
        let url = self.url("blobs/uploads/")?;
        let answer =
            self.send_once(task, |it| it.post(url.clone()).header(CONTENT_LENGTH, 0)).await?;
        match (BEGUN.contains(&answer.status()), self.location(task, &answer, &url)?) {
            (true, Some(location)) => Ok(Upload { location, offset: 0 }),
            _ => {
                let expected = "HTTP 202 with the location of an upload";
                Err(answers::no_registry(self, task, answer, expected).await.into())
            }
        }
    }

    async fn send_part(&self, task: &Task<'_>, upload: &Upload, bytes: Bytes) -> Result<Upload> {
        let next = upload.offset + bytes.len() as u64;
        let range = format!("{}-{}", upload.offset, next - 1);
        let request = |it: &reqwest::Client| {
            let request = it.patch(upload.location.clone()).header(CONTENT_TYPE, BYTES);
            request.header(CONTENT_RANGE, &range).body(bytes.clone())
        };
        let answer = self.send_once(task, request).await?;
        if !TAKEN.contains(&answer.status()) {
            let expected = "HTTP 202 to a part of an upload";
            return Err(answers::no_registry(self, task, answer, expected).await.into());
        }
        let location = self.location(task, &answer, &upload.location)?;
        Ok(Upload { location: location.unwrap_or_else(|| upload.location.clone()), offset: next })
    }

    /// Asks the registry how far the upload is. Begins a new one if the registry does not know it.
    ///
    /// # Errors
    /// [`Error::Size`] if the registry claims to have more bytes than the blob has.
    async fn resume(&self, task: &Task<'_>, upload: &Upload, blob: &Descriptor) -> Result<Upload> {
        let answer = self.send_once(task, |it| it.get(upload.location.clone())).await;
        let Ok(answer) = answer else { return self.begin(task).await };
        let location = self.location(task, &answer, &upload.location)?;
        match (answer.status(), received(answer.headers()), location) {
            (StatusCode::NO_CONTENT, Some(offset), _) if offset > blob.size() => {
                Err(self.has_too_much(blob, offset).into())
            }
            (StatusCode::NO_CONTENT, Some(offset), Some(location)) => {
                Ok(Upload { location, offset })
            }
            _ => self.begin(task).await,
        }
    }

    fn has_too_much(&self, blob: &Descriptor, offset: u64) -> Error {
        let (digest, found) = (blob.digest().to_string(), format!("{offset} bytes"));
        Error::Size { place: self.title(), digest, stated: blob.size(), found }
    }

    /// Returns where the upload continues, as the answer says.
    ///
    /// # Errors
    /// [`Error::Unencrypted`].
    fn location(&self, task: &Task<'_>, answer: &Response, base: &Url) -> Result<Option<Url>> {
        let found = location(answer.headers(), base)?;
        if let Some(url) = &found {
            let checked = origin::check(url, self.is_plain());
            checked.map_err(|plain| answers::unencrypted(self.registry(), task.what, &plain))?;
        }
        Ok(found)
    }

    async fn commit(
        &self,
        task: &Task<'_>,
        upload: Upload,
        blob: &Descriptor,
        bytes: Bytes,
    ) -> Result<()> {
        let mut url = upload.location;
        url.query_pairs_mut().append_pair("digest", blob.digest().as_ref());
        let request = |it: &reqwest::Client| {
            let request = it.put(url.clone()).header(CONTENT_TYPE, BYTES);
            request.header(CONTENT_LENGTH, bytes.len()).body(bytes.clone())
        };
        let answer = self.send_once(task, request).await?;
        self.stored(task, answer, blob, &[StatusCode::CREATED]).await?;
        Ok(())
    }

    /// Returns the answer if it says that the registry has stored something.
    async fn stored(
        &self,
        task: &Task<'_>,
        answer: Response,
        what: &Descriptor,
        statuses: &[StatusCode],
    ) -> Result<Response, Error> {
        if is_stored(&answer, what, statuses) {
            return Ok(answer);
        }
        let expected = format!("HTTP 201 with a location or the digest {}", what.digest());
        Err(answers::no_registry(self, task, answer, &expected).await)
    }

    /// Sends a manifest or index under a tag or its own digest. What it names must be there already. Returns whether
    /// the registry keeps a list of what refers to an image (distribution specification, "Pushing Manifests with
    /// Subject").
    pub async fn put_manifest(
        &self,
        manifest: &Descriptor,
        name: &str,
        bytes: &[u8],
    ) -> Result<bool> {
        let what = format!("push {}:{name}", self.title());
        let task = Task { what: &what, subject: "such repository", operation: Push };
        let url = self.url(&format!("manifests/{name}"))?;
        let media_type = manifest.media_type().to_string();
        let bytes = Bytes::copy_from_slice(bytes);
        let request = |it: &reqwest::Client| {
            it.put(url.clone()).header(CONTENT_TYPE, &media_type).body(bytes.clone())
        };
        let answer = self.send(&task, request).await?;
        let answer = self.stored(&task, answer, manifest, &MANIFEST_STORED).await?;
        Ok(answer.headers().contains_key("OCI-Subject"))
    }
}

/// Returns whether an answer says that the registry has what was sent, by its digest or by its location.
fn is_stored(answer: &Response, what: &Descriptor, statuses: &[StatusCode]) -> bool {
    let headers = answer.headers();
    let said = match headers.get(CONTENT_DIGEST) {
        Some(digest) => digest == what.digest().as_ref(),
        None => headers.contains_key(LOCATION),
    };
    said && statuses.contains(&answer.status())
}

/// Reads `Location`, which may be relative.
fn location(headers: &HeaderMap, base: &Url) -> Result<Option<Url>> {
    let Some(location) = headers.get(LOCATION) else { return Ok(None) };
    let location = location.to_str().context("the registry names a location that is not text")?;
    Ok(Some(base.join(location).context("the registry names a location that is not a URL")?))
}

/// Returns the number of bytes in `Range: 0-<last>`.
fn received(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(RANGE)?.to_str().ok()?;
    let last: u64 = range.trim_start_matches("bytes=").strip_prefix("0-")?.parse().ok()?;
    // `0-0` stands for nothing and for one byte. If a byte were sent twice, the digest would not match.
    if last == 0 { Some(0) } else { last.checked_add(1) }
}

fn read(file: &File, from: u64, to: u64) -> Result<Bytes> {
    let mut bytes = vec![0; usize::try_from(to - from)?];
    file.read_exact_at(&mut bytes, from).context("the blob changed while it was sent")?;
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_registry_has_is_read_from_its_range() {
        let has = |range: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, range.parse().unwrap());
            received(&headers)
        };
        assert_eq!((has("0-99"), has("bytes=0-99"), has("0-0")), (Some(100), Some(100), Some(0)));
        assert_eq!((has("5-99"), has("all")), (None, None));
        assert_eq!(has("0-18446744073709551615"), None);
    }
}
