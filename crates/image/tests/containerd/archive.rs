//! Archives of images for `ctr image import`: an OCI image layout in one tar file.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub const WASM: &str = "application/wasm";
pub const WASM_CONTENT: &str = "application/vnd.wasm.content.layer.v1+wasm";

/// Blobs of a layout that is being built.
#[derive(Default)]
pub struct Archive {
    blobs: BTreeMap<String, Vec<u8>>,
}

impl Archive {
    /// Adds a blob, and returns its descriptor.
    pub fn add(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = digest(bytes);
        self.blobs.insert(digest.clone(), bytes.to_vec());
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() })
    }

    /// Adds an image with these layers, for a platform such as `wasip1/wasm`.
    pub fn image(&mut self, config: &str, platform: &str, layers: &[(&str, &[u8])]) -> Value {
        let (os, architecture) = platform.split_once('/').unwrap();
        let layers: Vec<_> = layers.iter().map(|(kind, bytes)| self.add(kind, bytes)).collect();
        let text = json!({
            "os": os, "architecture": architecture, "config": {},
            "rootfs": { "type": "layers", "diff_ids": [] }
        });
        let config = self.add(config, text.to_string().as_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers
        });
        let mut manifest = self.add(MANIFEST, manifest.to_string().as_bytes());
        manifest["platform"] = json!({ "os": os, "architecture": architecture });
        manifest
    }

    /// Adds the manifest of an image with `null` for its layers, as BuildKit writes it.
    pub fn without_layers(&mut self, image: &Value) -> Value {
        let digest = image["digest"].as_str().unwrap().trim_start_matches("sha256:");
        let mut manifest: Value = serde_json::from_slice(&self.blobs[digest]).unwrap();
        manifest["layers"] = Value::Null;
        self.add(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Returns the digest of an image's config.
    pub fn config_of(&self, image: &Value) -> String {
        let digest = image["digest"].as_str().unwrap().trim_start_matches("sha256:");
        let manifest: Value = serde_json::from_slice(&self.blobs[digest]).unwrap();
        manifest["config"]["digest"].as_str().unwrap().to_owned()
    }

    /// Adds an index of these images.
    pub fn index(&mut self, manifests: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        self.add(INDEX, index.to_string().as_bytes())
    }

    /// Removes a blob, as if it had not been pulled.
    pub fn forget(&mut self, descriptor: &Value) {
        let digest = descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:");
        self.blobs.remove(digest).unwrap();
    }

    /// Returns the tar file, in which `target` is the image `name`.
    pub fn finish(self, name: &str, mut target: Value) -> Vec<u8> {
        target["annotations"] = json!({ "io.containerd.image.name": name });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [target] });
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        append(&mut tar, "index.json", index.to_string().as_bytes());
        for (digest, bytes) in &self.blobs {
            append(&mut tar, &format!("blobs/sha256/{digest}"), bytes);
        }
        tar.into_inner().unwrap()
    }
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o444);
    tar.append_data(&mut header, path, bytes).unwrap();
}

/// SHA-256 of some bytes, in hexadecimal digits.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
