//! Index, manifest and config, as far as this project reads them (OCI image specification).
//!
//! They are read as containerd reads them. A list or object that is `null`, as BuildKit writes an empty one, or that is
//! missing, is empty.

use std::collections::HashMap;

use oci_spec::image::Descriptor;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// Media types of indexes: OCI's, and Docker's name for the same.
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Media types of manifests of one image: OCI's, and Docker's name for the same.
const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Media types of configs of images that can run: OCI's, and Docker's name for the same.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The kind of a document, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An [`Index`].
    Index,
    /// A [`Manifest`].
    Manifest,
    /// Not an image that can have wasm layers.
    Other,
}

/// Returns the kind of a document.
pub fn kind(media_type: &str) -> Kind {
    match media_type {
        _ if INDEXES.contains(&media_type) => Kind::Index,
        _ if MANIFESTS.contains(&media_type) => Kind::Manifest,
        _ => Kind::Other,
    }
}

/// An image for several platforms ("Image Index").
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Index {
    /// The images for the platforms.
    #[serde(default, deserialize_with = "or_empty")]
    pub manifests: Vec<Descriptor>,
}

/// The manifest of an image for one platform, of an artifact, or of something that refers to one ("Image Manifest").
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    /// The config, which says how an image is run, or what an artifact is.
    pub config: Descriptor,
    /// The layers, the lowest first.
    #[serde(default, deserialize_with = "or_empty")]
    pub layers: Vec<Descriptor>,
    /// The manifest to which this one refers.
    pub subject: Option<Descriptor>,
    /// Annotations of the manifest.
    pub annotations: Option<HashMap<String, String>>,
}

impl Manifest {
    /// Returns whether the config's type says that this is an image that can run. Otherwise it is an artifact.
    pub fn is_image(&self) -> bool {
        IMAGE_CONFIGS.contains(&self.config.media_type().as_ref())
    }
}

/// The config of an image ("Image Configuration"). An artifact's config has few of these fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Operating system. Empty if the config has none.
    #[serde(deserialize_with = "or_empty")]
    pub os: String,
    /// Processor architecture. Empty if the config has none.
    #[serde(deserialize_with = "or_empty")]
    pub architecture: String,
    /// Variant of the architecture. Empty if the config has none.
    #[serde(deserialize_with = "or_empty")]
    pub variant: String,
    /// How to run the image.
    #[serde(deserialize_with = "or_empty")]
    pub config: Settings,
    /// The files of the image.
    #[serde(deserialize_with = "or_empty")]
    pub rootfs: Rootfs,
}

/// How to run an image.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Settings {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    labels: Option<HashMap<String, String>>,
    exposed_ports: Option<HashMap<String, IgnoredAny>>,
}

/// The files of an image.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Rootfs {
    /// Digests of the uncompressed layers, the lowest first.
    #[serde(deserialize_with = "or_empty")]
    pub diff_ids: Vec<String>,
}

/// The `PATH` that containerd sets if an image sets none (`oci.WithDefaultPathEnv`).
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Settings {
    /// Returns the program and its arguments. Empty if the image has none.
    pub fn args(&self) -> Vec<String> {
        [&self.entrypoint, &self.cmd].into_iter().flatten().flatten().cloned().collect()
    }

    /// Returns the environment of a container of the image, each entry as `KEY=VALUE`.
    pub fn env(&self) -> Vec<String> {
        let own = self.env.as_deref().unwrap_or_default();
        [DEFAULT_PATH.to_owned()].into_iter().chain(own.iter().cloned()).collect()
    }

    /// Returns a label with its name.
    pub fn label(&self, name: &str) -> Option<(String, String)> {
        let value = self.labels.as_ref()?.get(name)?;
        Some((name.to_owned(), value.clone()))
    }

    /// Returns the labels whose names begin with `prefix`, in the order of their names.
    pub fn labels(&self, prefix: &str) -> Vec<(String, String)> {
        let all = self.labels.iter().flatten().filter(|(name, _)| name.starts_with(prefix));
        let mut found: Vec<_> = all.map(|(name, value)| (name.clone(), value.clone())).collect();
        found.sort();
        found
    }

    /// Returns the working directory.
    pub fn cwd(&self) -> &str {
        self.working_dir.as_deref().filter(|it| !it.is_empty()).unwrap_or("/")
    }

    /// Returns the lowest exposed TCP port, because the ports are not in the order in which they were written.
    pub fn exposed_port(&self) -> Option<u16> {
        let ports = self.exposed_ports.as_ref()?.keys();
        let tcp = ports.filter_map(|port| port.strip_suffix("/tcp").unwrap_or(port).parse().ok());
        tcp.filter(|port| *port > 0).min()
    }
}

/// Reads `null` as an empty value.
fn or_empty<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn descriptor() -> Value {
        let digest = format!("sha256:{:064}", 0);
        json!({ "mediaType": "application/json", "size": 1, "digest": digest })
    }

    #[test]
    fn a_list_that_is_null_or_left_out_is_empty() {
        let null = json!({ "schemaVersion": 2, "config": descriptor(), "layers": null });
        let left_out = json!({ "config": descriptor() });
        for text in [null, left_out] {
            assert_eq!(from_value::<Manifest>(text).unwrap().layers, []);
        }
        for text in [json!({ "manifests": null }), json!({})] {
            assert_eq!(from_value::<Index>(text).unwrap().manifests, []);
        }
        for text in [
            json!({ "os": null, "config": null, "rootfs": null }),
            json!({ "config": { "Env": null, "Cmd": null }, "rootfs": { "diff_ids": null } }),
            json!({}),
        ] {
            let config: Config = from_value(text).unwrap();
            assert!(config.rootfs.diff_ids.is_empty() && config.config.args().is_empty());
        }
    }

    #[test]
    fn the_lowest_tcp_port_is_the_one_that_is_exposed() {
        let exposed = |ports: Value| {
            let config = json!({ "config": { "ExposedPorts": ports } });
            from_value::<Config>(config).unwrap().config.exposed_port()
        };
        assert_eq!(exposed(json!({ "9090/tcp": {}, "80/udp": {}, "443": {} })), Some(443));
        assert_eq!(exposed(json!({ "8000-8010/tcp": {}, "0/tcp": {}, "x": {} })), None);
        assert_eq!(exposed(Value::Null), None);
    }

    #[test]
    fn the_media_type_distinguishes_an_index_from_a_manifest() {
        assert!(INDEXES.iter().all(|it| kind(it) == Kind::Index));
        assert!(MANIFESTS.iter().all(|it| kind(it) == Kind::Manifest));
        assert_eq!(kind("application/json"), Kind::Other);
    }
}
