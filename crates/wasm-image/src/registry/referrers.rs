//! Finds and lists what refers to an image: signatures, bills of materials (OCI distribution specification, "Listing
//! Referrers").
//!
//! Older registries do not list referrers. There, the client that pushes one keeps an index of them under a tag
//! ("Referrers Tag Schema").

use anyhow::{Result, bail};
use oci_client::RegistryOperation::Pull;
use oci_spec::image::Descriptor;
use reqwest::header::{ACCEPT, LINK};
use reqwest::{Response, Url};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Remote, Task, answers};
use crate::errors::Error;
use crate::limits;
use crate::store::layout::describe;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An index. Each entry is kept with all its fields.
#[derive(Default, Deserialize)]
struct Index {
    manifests: Option<Vec<Value>>,
}

impl Remote {
    /// Returns the manifests that refer to the one of that digest.
    pub async fn referrers(&self, digest: &str) -> Result<Vec<Descriptor>> {
        let entries = match self.listed(digest).await? {
            Some(entries) => entries,
            None => self.tagged(digest).await?,
        };
        let read = |it| serde_json::from_value(it).map_err(|_| self.no_list(digest));
        Ok(entries.into_iter().map(read).collect::<Result<_, _>>()?)
    }

    /// Returns the list of the registry, or `None` if it keeps none.
    async fn listed(&self, digest: &str) -> Result<Option<Vec<Value>>> {
        let what = format!("look for what refers to {digest}");
        let task = Task { what: &what, subject: "list of referrers", operation: Pull };
        let mut next = Some(self.url(&format!("referrers/{digest}"))?);
        let mut all = Vec::new();
        while let Some(url) = next {
            let answer =
                match self.send(&task, |it| it.get(url.clone()).header(ACCEPT, INDEX)).await {
                    Err(error) if is_unknown(&error) => return Ok(None),
                    other => other?,
                };
            next = following(&answer, &url);
            let (_, bytes) = self.small(&what, answer).await?;
            match serde_json::from_slice::<Index>(&bytes) {
                Ok(index) => all.extend(index.manifests.unwrap_or_default()),
                Err(_) => return Err(answers::no_manifest(self.registry(), &what, &bytes).into()),
            }
            if all.len() > limits::BLOBS {
                bail!(
                    "more than {} manifests of {} refer to {digest}",
                    limits::BLOBS,
                    self.title()
                );
            }
        }
        Ok(Some(all))
    }

    /// Returns the list under the tag that replaces the registry's own.
    async fn tagged(&self, digest: &str) -> Result<Vec<Value>> {
        let (_, bytes) = match self.manifest(&tag(digest)).await {
            Err(error) if is_unknown(&error) => return Ok(Vec::new()),
            other => other?,
        };
        let index: Index = serde_json::from_slice(&bytes).map_err(|_| self.no_list(digest))?;
        Ok(index.manifests.unwrap_or_default())
    }

    /// Sends a manifest that refers to another, and makes sure that it is listed.
    pub async fn put_referrer(
        &self,
        manifest: &Descriptor,
        bytes: &[u8],
        subject: &str,
    ) -> Result<()> {
        let digest = manifest.digest().as_ref();
        if self.put_manifest(manifest, digest, bytes).await? {
            return Ok(());
        }
        let mut entries = self.tagged(subject).await?;
        if entries.iter().any(|it| it["digest"] == digest) {
            return Ok(());
        }
        entries.push(entry(manifest, bytes)?);
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        let index = index.to_string();
        self.put_manifest(&describe(INDEX, index.as_bytes())?, &tag(subject), index.as_bytes())
            .await
            .map(drop)
    }

    fn no_list(&self, digest: &str) -> Error {
        let (registry, what) =
            (self.registry().to_owned(), format!("list what refers to {digest}"));
        let reason = format!("{}:{} is not an index of manifests", self.title(), tag(digest));
        Error::NoRegistry { registry, what, reason }
    }
}

/// Returns the list entry of a manifest. It includes kind and annotations, so that a reader does not have to fetch the
/// manifest.
fn entry(manifest: &Descriptor, bytes: &[u8]) -> Result<Value> {
    let content: Value = serde_json::from_slice(bytes)?;
    let mut entry = json!({
        "mediaType": manifest.media_type(),
        "digest": manifest.digest(),
        "size": manifest.size(),
    });
    // If a manifest does not state its kind, its config does.
    let kind = content.get("artifactType").or_else(|| content["config"].get("mediaType"));
    for (key, value) in [("artifactType", kind), ("annotations", content.get("annotations"))] {
        if let Some(value) = value.filter(|it| !it.is_null()) {
            entry[key] = value.clone();
        }
    }
    Ok(entry)
}

/// Turns `sha256:…` into `sha256-…`.
fn tag(digest: &str) -> String {
    digest.replacen(':', "-", 1)
}

/// Returns whether the registry does not have the thing, or does not have this part of the API.
fn is_unknown(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::NotFound { .. } | Error::Refused { .. }))
}

/// Returns the URL of the next page: `Link: <…>; rel="next"` (RFC 8288).
fn following(answer: &Response, base: &Url) -> Option<Url> {
    let link = answer.headers().get(LINK)?.to_str().ok()?;
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    let next = base.join(target).ok()?;
    (parameters.contains("next") && super::origin::same(&next, base)).then_some(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_referrer_is_listed_with_its_kind_or_else_that_of_its_config() {
        let list = |content: Value| {
            let text = content.to_string();
            let manifest = describe("application/vnd.oci.image.manifest.v1+json", text.as_bytes());
            entry(&manifest.unwrap(), text.as_bytes()).unwrap()
        };
        let config = json!({ "mediaType": "a/config" });
        let listed =
            list(json!({ "config": config, "artifactType": "a/b", "annotations": { "k": "v" } }));
        assert_eq!(
            (&listed["artifactType"], &listed["annotations"]),
            (&json!("a/b"), &json!({ "k": "v" }))
        );
        let listed = list(json!({ "config": config, "annotations": null }));
        assert_eq!(listed["artifactType"], "a/config");
        assert_eq!(listed.get("annotations"), None);
    }
}
