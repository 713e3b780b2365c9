//! Images of any form, put together blob by blob: an OCI image layout in a folder, as other tools than `wasm-image` would
//! leave it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// The media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Of an image's config.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Of the config of what `oras push` makes.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Of a layer of files.
pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// Of a wasm layer.
pub const WASM: &str = "application/wasm";

/// A layout that is being put together.
#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// An empty one, in a folder that is made.
    pub fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.join("blobs/sha256"))?;
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Adds a blob, and returns its descriptor.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let digest = digest(bytes);
        let digits = digest.trim_start_matches("sha256:");
        fs::write(self.folder.join("blobs/sha256").join(digits), bytes)?;
        Ok(json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() }))
    }

    /// Adds an image with these layers, a list or `null`.
    pub fn image(&self, config_type: &str, config: &Value, layers: Value) -> Result<Value> {
        let config = self.blob(config_type, config.to_string().as_bytes())?;
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers
        });
        self.blob(MANIFEST, manifest.to_string().as_bytes())
    }

    /// Adds an index of images, each for a platform such as `linux/amd64`.
    pub fn index(&self, images: &[(&str, Value)]) -> Result<Value> {
        let entry = |(platform, image): &(&str, Value)| {
            let (os, architecture) = platform.split_once('/').unwrap_or((platform, ""));
            let mut image = image.clone();
            image["platform"] = json!({ "os": os, "architecture": architecture });
            image
        };
        let entries: Vec<_> = images.iter().map(entry).collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
        self.blob(INDEX, index.to_string().as_bytes())
    }

    /// Lists an image under a name: the one that the layout is of.
    pub fn finish(&self, name: &str, mut image: Value) -> Result<()> {
        image["annotations"] = json!({ "io.containerd.image.name": name });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [image] });
        Ok(fs::write(self.folder.join("index.json"), index.to_string())?)
    }

    /// The same in one tar file, as `ctr images import` takes it.
    pub fn archive(&self, file: &Path) -> Result<()> {
        let mut tar = tar::Builder::new(fs::File::create(file)?);
        tar.append_dir_all(".", &self.folder)?;
        Ok(tar.finish()?)
    }
}

/// A layer of files, uncompressed. Folders end in a slash, links are `from -> to`, hard links `from => to`; anybody may
/// execute a file.
pub fn tar(entries: &[(&str, &[u8])]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, bytes) in entries {
        let mut header = Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(0);
        if let Some((from, to)) = path.split_once(" -> ") {
            header.set_entry_type(EntryType::Symlink);
            tar.append_link(&mut header, from, to)?;
        } else if let Some((from, to)) = path.split_once(" => ") {
            header.set_entry_type(EntryType::Link);
            tar.append_link(&mut header, from, to)?;
        } else if path.ends_with('/') {
            header.set_entry_type(EntryType::Directory);
            tar.append_data(&mut header, path, std::io::empty())?;
        } else {
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, *bytes)?;
        }
    }
    Ok(tar.into_inner()?)
}

/// Compressed as most layers are.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}

/// Compressed with Zstandard.
pub fn zstd(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(zstd::bulk::compress(bytes, 1)?)
}

/// `sha256:…` of some bytes; of an uncompressed layer its `diff_id`.
pub fn digest(bytes: &[u8]) -> String {
    let digits = Sha256::digest(bytes);
    digits.iter().fold("sha256:".into(), |text, byte| format!("{text}{byte:02x}"))
}
