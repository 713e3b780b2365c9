//! Assembles images of any form blob by blob, as an OCI image layout in a directory, so that a test can make images as
//! tools other than `wasm-image` do.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

/// Media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an image's config.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of the config in artifacts of `oras push`.
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// Media type of a layer of files.
pub const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
/// Media type of a wasm layer.
pub const WASM: &str = "application/wasm";

/// A layout that is being assembled.
#[derive(Debug)]
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// Makes an empty layout in a new directory.
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

    /// Lists an image under a name. It is the image of the layout.
    pub fn finish(&self, name: &str, mut image: Value) -> Result<()> {
        image["annotations"] = json!({ "io.containerd.image.name": name });
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [image] });
        Ok(fs::write(self.folder.join("index.json"), index.to_string())?)
    }

    /// Writes the layout into one tar file, as `ctr images import` accepts it.
    pub fn archive(&self, file: &Path) -> Result<()> {
        let mut tar = tar::Builder::new(fs::File::create(file)?);
        tar.append_dir_all(".", &self.folder)?;
        Ok(tar.finish()?)
    }
}

/// Makes an uncompressed layer of files. Directories end in a slash, links are `from -> to`, hard links are
/// `from => to`. Any user may execute a file.
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

/// Compresses with gzip, as most layers are.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes)?;
    Ok(gzip.finish()?)
}

/// Compresses with Zstandard.
pub fn zstd(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(zstd::bulk::compress(bytes, 1)?)
}

/// Returns the digest of bytes as `sha256:…`. For an uncompressed layer, it is the `diff_id`.
pub fn digest(bytes: &[u8]) -> String {
    let digits = Sha256::digest(bytes);
    digits.iter().fold("sha256:".into(), |text, byte| format!("{text}{byte:02x}"))
}
