//! What the fuzz targets call of this crate that is no interface of it.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use oci_spec::image::{ImageIndex, ImageManifest};

use crate::blob;
use crate::header;
use crate::manifest::{self, Config};
use crate::rootfs::{Found, Root};

/// Recognises a file with this content, under names of each kind.
pub fn header(bytes: &[u8]) {
    let mut file = blob::anonymous().expect("a file");
    file.write_all(bytes).expect("written");
    for name in ["app.wasm", "app.wat", "app"] {
        let _ = header::recognise(&file, name);
        let _ = header::require_wasm(&file, name);
    }
}

/// Reads a manifest, and an index.
pub fn manifest(bytes: &[u8]) {
    if let Ok(manifest) = serde_json::from_slice::<ImageManifest>(bytes) {
        let layers = manifest::wasm_layers(&manifest).unwrap_or_default();
        layers.into_iter().for_each(|layer| drop(manifest::name(layer)));
    }
    if let Ok(index) = serde_json::from_slice::<ImageIndex>(bytes) {
        assert!(manifest::by_preference(&index).len() <= index.manifests().len());
    }
}

/// Reads an image's config.
pub fn config(bytes: &[u8]) {
    if let Ok(config) = serde_json::from_slice::<Config>(bytes) {
        assert_ne!(config.exposed_port(), Some(0));
    }
}

/// The file that is at a path of a root file system, links followed.
pub fn find(root: PathBuf, path: &Path) -> Option<File> {
    match Root::new(root, &[]).and_then(|root| root.first(&[path.to_owned()])) {
        Ok(Found::File(file)) => Some(file),
        _ => None,
    }
}
