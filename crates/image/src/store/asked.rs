//! The image that a Pod asked for, by CRI's own record of its container.
//!
//! CRI identifies an image by the digest of its config, and knows one image for all that have the same config.
//! containerd's record of a container names the alphabetically first of them, whichever one the Pod names (containerd,
//! internal package `cri/store/image`). The config alone decides which files a container has, but not which wasm
//! layers.

use std::collections::HashMap;

use containerd_client::services::v1::Container as Record;
use serde::Deserialize;

use crate::Error;

/// How the digests begin that CRI and registries use.
const SHA256: &str = "sha256:";

/// Where containerd takes a name from that says no registry, and no tag.
const REGISTRY: &str = "docker.io";
const TAG: &str = "latest";

/// An image as a Pod asks for it.
#[derive(Debug, PartialEq)]
pub struct Asked {
    /// The digest of its config.
    pub config: String,
    /// Its name, if the record has one.
    pub name: Option<Name>,
}

/// A name as containerd's image store has it.
#[derive(Debug, PartialEq)]
pub struct Name {
    /// With registry, and tag or digest.
    pub text: String,
    /// The digest, if it is pinned.
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
    /// What CRI was given: by kubelet the id, the digest of the config.
    image: String,
    /// What the Pod's author has written; kubelet hands it over since 1.29, and containerd notes it since 2.0.
    user_specified_image: String,
}

impl Asked {
    /// What is asked for; none where it is not CRI that made the container.
    ///
    /// # Errors
    /// [`Error::Record`].
    pub fn of(record: &Record) -> Result<Option<Self>, Error> {
        match record.extensions.get(provided::CRI_RECORD) {
            Some(noted) => Self::read(&noted.value).map(Some),
            None => Ok(None),
        }
    }

    fn read(text: &[u8]) -> Result<Self, Error> {
        let noted: Versioned =
            serde_json::from_slice(text).map_err(|reason| Error::Record { reason })?;
        let Metadata { image_ref, config } = noted.metadata;
        let image = config.and_then(|config| config.image).unwrap_or_default();
        let names = [image.user_specified_image, image.image];
        let name = names.iter().find_map(|name| Name::parse(name));
        Ok(Self { config: image_ref, name })
    }
}

impl Name {
    /// The form in which containerd's CRI looks for a name (`reference.ParseDockerRef`); none of an image's id.
    fn parse(text: &str) -> Option<Self> {
        if text.is_empty() || text.starts_with(SHA256) {
            return None;
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (repository, tag) = match name.rsplit_once(':') {
            // A colon before a slash is that of a port.
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (name, TAG),
        };
        let repository = with_registry(repository);
        Some(match digest {
            Some(digest) => {
                Self { text: format!("{repository}@{digest}"), digest: Some(digest.to_owned()) }
            }
            None => Self { text: format!("{repository}:{tag}"), digest: None },
        })
    }
}

/// The repository with its registry.
fn with_registry(repository: &str) -> String {
    match repository.split_once('/') {
        Some(("index.docker.io", path)) => with_registry(path),
        Some((REGISTRY, path)) if !path.contains('/') => format!("{REGISTRY}/library/{path}"),
        Some((host, _)) if is_host(host) => repository.to_owned(),
        Some(_) => format!("{REGISTRY}/{repository}"),
        None => format!("{REGISTRY}/library/{repository}"),
    }
}

/// Whether the first part of a name is a registry.
fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':']) || part.contains(char::is_uppercase)
}

/// Names for people: those with a tag first, and no ids.
pub fn shown(names: &HashMap<String, Vec<String>>) -> String {
    let shown = |digest: &String, names: &Vec<String>| {
        let mut names: Vec<_> = names.iter().filter(|it| !it.starts_with(SHA256)).collect();
        names.sort_by_key(|name| (name.contains('@'), (*name).clone()));
        names.first().map_or_else(|| digest.clone(), |name| (*name).clone())
    };
    let mut all: Vec<_> = names.iter().map(|(digest, names)| shown(digest, names)).collect();
    all.sort();
    all.join(" and ")
}

#[cfg(test)]
mod tests {
    use oci_spec::distribution::Reference;
    use serde_json::json;

    use super::*;

    fn read(image: serde_json::Value) -> Asked {
        let config = json!({ "metadata": { "name": "app" }, "image": image });
        let metadata = json!({ "ID": "1", "ImageRef": "sha256:c0", "Config": config });
        let noted = json!({ "Version": "v1", "Metadata": metadata });
        Asked::read(noted.to_string().as_bytes()).unwrap()
    }

    fn name(text: &str) -> String {
        Name::parse(text).unwrap().text
    }

    #[test]
    fn what_the_pod_s_author_wrote_counts_before_what_kubelet_made_of_it() {
        let both = json!({ "image": "sha256:c0", "user_specified_image": "r.example/app:2" });
        assert_eq!(read(both).name.unwrap().text, "r.example/app:2");
        let id = read(json!({ "image": "sha256:c0" }));
        assert_eq!(id, Asked { config: "sha256:c0".into(), name: None });
        assert_eq!(
            read(json!({ "image": "r.example/app" })).name.unwrap().text,
            "r.example/app:latest"
        );
    }

    #[test]
    fn a_record_in_another_form_is_refused() {
        let error = Asked::read(br#"{"Version":"v9"}"#).unwrap_err().to_string();
        assert!(
            error.starts_with("cannot tell which image") && error.contains("Metadata"),
            "{error}"
        );
    }

    #[test]
    fn a_name_has_the_form_that_containerd_gives_it() {
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
            // As another implementation has it.
            assert_eq!(text.parse::<Reference>().unwrap().whole(), whole);
        }
        let pinned = Name::parse(&format!("r.example/app:1@{digest}")).unwrap();
        assert_eq!(pinned.text, format!("r.example/app@{digest}"));
        assert_eq!(pinned.digest, Some(digest));
    }
}
