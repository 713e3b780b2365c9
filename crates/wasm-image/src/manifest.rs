//! What is read of manifests and indexes (OCI image specification, "Image Manifest" and "Image Index"). Where a list has
//! nothing in it, programs in Go may write `null`.

use std::collections::HashMap;

use oci_spec::image::{Descriptor, Platform};
use serde::{Deserialize, Deserializer};

/// Configs of images that are run: OCI's, and Docker's name for the same.
const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// The manifest of an image, an artifact, or of what refers to one.
#[derive(Debug, Deserialize)]
pub struct Manifest {
    /// How it is run, or what it is.
    pub config: Descriptor,
    /// Its content, from below.
    #[serde(deserialize_with = "list")]
    pub layers: Vec<Descriptor>,
    /// What it refers to.
    pub subject: Option<Descriptor>,
    /// What else is said of it.
    pub annotations: Option<HashMap<String, String>>,
}

impl Manifest {
    /// Whether it is that of an image that can be run.
    pub fn is_image(&self) -> bool {
        IMAGE_CONFIGS.contains(&self.config.media_type().as_ref())
    }
}

/// A list of manifests.
#[derive(Debug, Deserialize)]
pub struct Index {
    /// Its entries.
    #[serde(deserialize_with = "list")]
    pub manifests: Vec<Descriptor>,
}

/// What a platform is called: `linux/amd64`, `linux/arm/v7`.
pub fn platform(platform: &Platform) -> String {
    let variant = platform.variant().iter().map(|it| format!("/{it}")).collect::<String>();
    format!("{}/{}{variant}", platform.os(), platform.architecture())
}

fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Descriptor>, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_list_may_be_null_and_not_missing() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let config = json!({ "mediaType": IMAGE_CONFIGS[1], "digest": digest, "size": 2 });
        let read = |manifest: Value| serde_json::from_value::<Manifest>(manifest).ok();
        let manifest =
            read(json!({ "config": config, "layers": null, "annotations": null })).unwrap();
        assert!(manifest.layers.is_empty() && manifest.is_image());
        assert!(read(json!({ "config": config })).is_none());
        let read = |index: Value| serde_json::from_value::<Index>(index).ok();
        assert_eq!(read(json!({ "manifests": null })).unwrap().manifests, []);
        assert!(read(json!({})).is_none());
    }
}
