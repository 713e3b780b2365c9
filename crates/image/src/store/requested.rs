//! The image that a Pod asks for, from CRI's own record of its container.
//!
//! CRI identifies an image by the digest of its config. It knows all images with the same config as one image.
//! containerd's record of a container names the alphabetically first of them, even if the Pod names another (containerd,
//! internal package `cri/store/image`). The config alone decides which files a container has, but not which wasm
//! layers.

use std::collections::HashMap;

use containerd_client::services::v1::Container as Record;
use serde::Deserialize;

use crate::Error;

/// Prefix of the digests that CRI and registries use.
const SHA256: &str = "sha256:";

/// Registry and tag that containerd uses for a name without them.
const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";

/// Image that a Pod asks for.
#[derive(Debug, PartialEq)]
pub struct RequestedImage {
    /// Digest of the image's config.
    pub config: String,
    /// Name of the image, if the record has one.
    pub name: Option<Name>,
}

/// Image name, in the form of containerd's image store.
#[derive(Debug, PartialEq)]
pub struct Name {
    /// Name with registry, and with tag or digest.
    pub text: String,
    /// Digest, if the Pod pins the image by its digest.
    pub digest: Option<String>,
}

#[derive(Deserialize)]
struct Versioned {
    #[serde(rename = "Metadata")]
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "ImageRef")]
    image_ref: String,
    #[serde(rename = "Config")]
    config: Option<Config>,
}

#[derive(Deserialize)]
struct Config {
    image: Option<Image>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Image {
    /// Image in CRI's request. kubelet sends the image's id, which is the digest of the config.
    image: String,
    /// Image name from the Pod. kubelet sends it since 1.29, and containerd records it since 2.0.
    user_specified_image: String,
}

impl RequestedImage {
    /// Reads the requested image from a container's record. Returns `None` if CRI did not make the container.
    ///
    /// # Errors
    /// [`Error::Record`] if CRI's record has an unknown form.
    pub fn of(record: &Record) -> Result<Option<Self>, Error> {
        match record.extensions.get(provided::CRI_RECORD) {
            Some(record) => Self::read(&record.value).map(Some),
            None => Ok(None),
        }
    }

    fn read(text: &[u8]) -> Result<Self, Error> {
        let record: Versioned =
            serde_json::from_slice(text).map_err(|reason| Error::Record { reason })?;
        let Metadata { image_ref, config } = record.metadata;
        let image = config.and_then(|config| config.image).unwrap_or_default();
        let names = [image.user_specified_image, image.image];
        let name = names.iter().find_map(|name| Name::parse(name));
        Ok(Self { config: image_ref, name })
    }
}

impl Name {
    /// Converts a name to the form in which containerd's CRI looks for it (`reference.ParseDockerRef`). Returns `None`
    /// for an image's id.
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.starts_with(SHA256) {
            return None;
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (repository, tag) = match name.rsplit_once(':') {
            // A colon before a slash belongs to a port.
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (name, DEFAULT_TAG),
        };
        let repository = add_registry(repository);
        Some(match digest {
            Some(digest) => {
                Self { text: format!("{repository}@{digest}"), digest: Some(digest.to_owned()) }
            }
            None => Self { text: format!("{repository}:{tag}"), digest: None },
        })
    }
}

/// Adds the default registry to a repository without one.
fn add_registry(repository: &str) -> String {
    match repository.split_once('/') {
        Some(("index.docker.io", path)) => add_registry(path),
        Some((DEFAULT_REGISTRY, path)) if !path.contains('/') => {
            format!("{DEFAULT_REGISTRY}/library/{path}")
        }
        Some((host, _)) if is_host(host) => repository.to_owned(),
        Some(_) => format!("{DEFAULT_REGISTRY}/{repository}"),
        None => format!("{DEFAULT_REGISTRY}/library/{repository}"),
    }
}

/// Whether the first part of a name is the host of a registry.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.contains(char::is_uppercase)
}

/// Names of manifests for error messages. Prefers names with a tag to names with a digest, and never uses an id as a name.
pub fn readable_names(names: &HashMap<String, Vec<String>>) -> String {
    let readable = |digest: &String, names: &Vec<String>| {
        let mut names: Vec<_> = names.iter().filter(|it| !it.starts_with(SHA256)).collect();
        names.sort_by_key(|name| (name.contains('@'), (*name).clone()));
        names.first().map_or_else(|| digest.clone(), |name| (*name).clone())
    };
    let mut all: Vec<_> = names.iter().map(|(digest, names)| readable(digest, names)).collect();
    all.sort();
    all.join(" and ")
}

#[cfg(test)]
mod tests {
    use oci_spec::distribution::Reference;
    use serde_json::json;

    use super::*;

    fn read(image: serde_json::Value) -> RequestedImage {
        let config = json!({ "metadata": { "name": "app" }, "image": image });
        let metadata = json!({ "ID": "1", "ImageRef": "sha256:c0", "Config": config });
        let record = json!({ "Version": "v1", "Metadata": metadata });
        RequestedImage::read(record.to_string().as_bytes()).unwrap()
    }

    fn name(text: &str) -> String {
        Name::parse(text).unwrap().text
    }

    #[test]
    fn the_name_from_the_pod_takes_precedence_over_kubelets_id() {
        let both = json!({ "image": "sha256:c0", "user_specified_image": "r.example/app:2" });
        assert_eq!(read(both).name.unwrap().text, "r.example/app:2");
        let id = read(json!({ "image": "sha256:c0" }));
        assert_eq!(id, RequestedImage { config: "sha256:c0".into(), name: None });
        assert_eq!(
            read(json!({ "image": "r.example/app" })).name.unwrap().text,
            "r.example/app:latest"
        );
    }

    #[test]
    fn a_record_of_unknown_form_is_refused() {
        let error = RequestedImage::read(br#"{"Version":"v9"}"#).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot tell which image") && error.contains("Metadata"),
            "{error}"
        );
    }

    #[test]
    fn a_name_is_normalised_as_in_containerd() {
        let digest = format!("sha256:{}", "0".repeat(64));
        for (text, whole) in [
            ("app", "docker.io/library/app:latest"),
            ("you/app:1", "docker.io/you/app:1"),
            ("index.docker.io/app", "docker.io/library/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("r.example:5000/a/b/c:v1.2", "r.example:5000/a/b/c:v1.2"),
            ("r:5000/app", "r:5000/app:latest"),
        ] {
            assert_eq!(name(text), whole);
            // Another implementation must return the same.
            assert_eq!(text.parse::<Reference>().unwrap().whole(), whole);
        }
        let pinned = Name::parse(&format!("r.example/app:1@{digest}")).unwrap();
        assert_eq!(pinned.text, format!("r.example/app@{digest}"));
        assert_eq!(pinned.digest, Some(digest));
    }
}
