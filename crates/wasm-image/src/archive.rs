//! An OCI image layout in one tar file (OCI image specification, "Image Layout").
//!
//! The index does not state a platform: the config does, and an importer that was not told to look
//! for wasm would otherwise pass the image over.

use anyhow::Result;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A blob's identity, as manifests state it.
#[derive(Clone, Debug)]
pub struct Descriptor {
    /// What kind of blob it is.
    pub media_type: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// In bytes.
    pub size: usize,
}

impl Descriptor {
    fn json(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.size })
    }
}

/// The blobs of one image while it is put together.
#[derive(Default)]
pub struct Archive {
    blobs: std::collections::BTreeMap<String, Vec<u8>>,
}

impl Archive {
    /// Adds a blob; adding it twice keeps one.
    pub fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Descriptor {
        let (digest, size) = (digest(&bytes), bytes.len());
        self.blobs.insert(digest.clone(), bytes);
        Descriptor { media_type: media_type.into(), digest, size }
    }

    /// The archive of the image `name`, with `tag` for tools that name it otherwise.
    pub fn finish(
        mut self,
        name: &str,
        tag: &str,
        config: &Descriptor,
        layers: &[Descriptor],
    ) -> Result<Vec<u8>> {
        let layers: Vec<Value> = layers.iter().map(Descriptor::json).collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.json(),
            "layers": layers,
        });
        let mut manifest = self.add(MANIFEST, manifest.to_string().into_bytes()).json();
        manifest["annotations"] = json!({
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": tag,
        });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [manifest] });
        self.tar(&index)
    }

    fn tar(self, index: &Value) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        append(&mut tar, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        append(&mut tar, "index.json", index.to_string().as_bytes())?;
        for (digest, bytes) in &self.blobs {
            append(&mut tar, &format!("blobs/{}", digest.replace(':', "/")), bytes)?;
        }
        Ok(tar.into_inner()?)
    }
}

/// `sha256:…` of some bytes.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".into(), |text, byte| format!("{text}{byte:02x}"))
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o444);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    tar.append_data(&mut header, path, bytes)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_as_oci_does() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest(b""), empty);
    }

    #[test]
    fn a_blob_added_twice_is_kept_once() {
        let mut archive = Archive::default();
        let first = archive.add("a", b"x".to_vec());
        let second = archive.add("b", b"x".to_vec());
        assert_eq!(first.digest, second.digest);
        assert_eq!(archive.blobs.len(), 1);
    }
}
