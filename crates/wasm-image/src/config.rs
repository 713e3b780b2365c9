//! What is read of an image's config (OCI image specification, "Image Configuration"). An artifact's has none of it.

use std::collections::HashMap;

use oci_spec::image::Descriptor;
use serde::Deserialize;

/// The config of an image, as far as it is looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    /// For which system; empty if it does not say.
    pub os: String,
    /// For which processor; empty if it does not say.
    pub architecture: String,
    /// How it is run.
    pub config: Settings,
    /// Its files.
    pub rootfs: Rootfs,
}

/// How an image is run.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Settings {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    labels: Option<HashMap<String, String>>,
}

/// The files of an image.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Rootfs {
    /// The digests of its layers, uncompressed, from below.
    pub diff_ids: Vec<String>,
}

impl Settings {
    /// The program and its arguments; empty where the image does not say.
    pub fn args(&self) -> Vec<String> {
        [&self.entrypoint, &self.cmd].into_iter().flatten().flatten().cloned().collect()
    }

    /// The environment, each `KEY=VALUE`.
    pub fn env(&self) -> &[String] {
        self.env.as_deref().unwrap_or_default()
    }

    /// A label, with its name.
    pub fn label(&self, name: &str) -> Option<(String, String)> {
        let value = self.labels.as_ref()?.get(name)?;
        Some((name.to_owned(), value.clone()))
    }

    /// The working directory.
    pub fn cwd(&self) -> &str {
        self.working_dir.as_deref().filter(|it| !it.is_empty()).unwrap_or("/")
    }
}

/// Whether a layer is a module or a component.
pub fn is_wasm(layer: &Descriptor) -> bool {
    provided::WASM_LAYERS.contains(&layer.media_type().as_ref())
}
