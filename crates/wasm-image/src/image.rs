//! From what was asked on the command line to the bytes of an archive.
//!
//! Three forms are known, and containerd meets all three in the wild: an ordinary image with the
//! guest in its root file system, an image with wasm layers, and the CNCF Wasm OCI artifact.

use anyhow::{Context, Result, bail, ensure};

use crate::archive::{Archive, Descriptor};
use crate::args::Build;
use crate::config::{self, Platform};
use crate::layer;

/// Media types this packer writes, beside those of its caller.
mod media_type {
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
}

/// The archive of the image described by `build`, the same bytes for the same input.
pub fn build(build: &Build) -> Result<Vec<u8>> {
    let reference = build.reference()?;
    let mut archive = Archive::default();
    let (config, layers) = match build.artifact {
        true => artifact(build, &mut archive)?,
        false => image(build, &mut archive)?,
    };
    let tag = reference.tag().unwrap_or("latest");
    archive.finish(&reference.whole(), tag, &config, &layers)
}

/// A CNCF Wasm OCI artifact: its config says what the one layer imports and exports.
fn artifact(build: &Build, archive: &mut Archive) -> Result<(Descriptor, Vec<Descriptor>)> {
    let [path] = build.wasm_layers.as_slice() else {
        bail!(
            "an artifact has exactly one --wasm-layer, but {} were given",
            build.wasm_layers.len()
        );
    };
    let wasm = crate::read(path)?;
    let layer = archive.add(&build.layer_media_type, wasm.clone());
    let config = config::of_artifact(&wasm, &layer.digest)
        .with_context(|| format!("{} is not WebAssembly", path.display()))?;
    Ok((archive.add(media_type::WASM_CONFIG, config), vec![layer]))
}

/// An image: at most one tar layer with the root file system, then the wasm layers.
///
/// Only the tar layer is counted in `rootfs.diff_ids`: containerd 2 leaves layers it cannot unpack
/// out of the count and refuses an image where the rest does not match.
fn image(build: &Build, archive: &mut Archive) -> Result<(Descriptor, Vec<Descriptor>)> {
    let mut layers = Vec::new();
    if build.rootfs.is_some() || !build.files.is_empty() {
        let tar = layer::pack(build.rootfs.as_deref(), &build.files)?;
        layers.push(archive.add(media_type::LAYER, tar));
    }
    let diff_ids: Vec<String> = layers.iter().map(|it| it.digest.clone()).collect();
    for path in &build.wasm_layers {
        layers.push(archive.add(&build.layer_media_type, crate::read(path)?));
    }
    ensure!(!layers.is_empty(), "the image would be empty: give --wasm-layer, --file or --rootfs");
    let platform = platform(build);
    let config = config::of_image(build, &platform, &diff_ids);
    Ok((archive.add(media_type::CONFIG, config), layers))
}

/// What was asked for, else `wasip1/wasm` for wasm layers and this machine's platform for the rest.
fn platform(build: &Build) -> Platform {
    match &build.platform {
        Some(platform) => platform.clone(),
        None if build.wasm_layers.is_empty() => Platform::host(),
        None => Platform::wasip1(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::Read;
    use std::path::{Path, PathBuf};

    use serde_json::Value;

    use super::*;

    /// The smallest core module and the smallest component: a header and nothing else.
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn asked(wasm_layers: Vec<PathBuf>) -> Build {
        let layer_media_type = "application/wasm".into();
        let tag = "registry.example/app:1".into();
        Build { tag, wasm_layers, layer_media_type, ..Build::default() }
    }

    fn entries(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let read = |entry: std::io::Result<tar::Entry<&[u8]>>| {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (entry.path().unwrap().display().to_string(), bytes)
        };
        tar::Archive::new(archive).entries().unwrap().map(read).collect()
    }

    /// Manifest and config of a built image, found the way containerd finds them.
    fn opened(archive: &[u8]) -> (Value, Value) {
        let entries = entries(archive);
        let json = |name: &str| serde_json::from_slice::<Value>(&entries[name]).unwrap();
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            json(&format!("blobs/{}", digest.replace(':', "/")))
        };
        let manifest = blob(&json("index.json")["manifests"][0]);
        let config = blob(&manifest["config"]);
        (manifest, config)
    }

    #[test]
    fn a_file_makes_an_ordinary_image_for_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let app = file(dir.path(), "app.wasm", MODULE);
        let copy = format!("{}:/app.wasm", app.display()).parse().unwrap();
        let wanted =
            Build { files: vec![copy], entrypoint: vec!["/app.wasm".into()], ..asked(vec![]) };
        let (manifest, config) = opened(&build(&wanted).unwrap());
        assert_eq!(config["os"], "linux");
        assert_eq!(config["config"]["Entrypoint"][0], "/app.wasm");
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        assert_eq!(manifest["layers"][0]["mediaType"], media_type::LAYER);
    }

    #[test]
    fn wasm_layers_keep_their_order_and_are_not_counted_as_rootfs() {
        let dir = tempfile::tempdir().unwrap();
        let first = file(dir.path(), "z.wasm", COMPONENT);
        let second = file(dir.path(), "a.wasm", MODULE);
        let (manifest, config) = opened(&build(&asked(vec![first, second])).unwrap());
        assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([]));
        assert_eq!((&config["os"], &config["architecture"]), (&"wasip1".into(), &"wasm".into()));
        let digests: Vec<_> = manifest["layers"].as_array().unwrap().iter().collect();
        assert_eq!(digests[0]["digest"], crate::archive::digest(COMPONENT));
        assert_eq!(digests[1]["digest"], crate::archive::digest(MODULE));
        assert_eq!(digests[1]["mediaType"], "application/wasm");
    }

    #[test]
    fn an_artifact_has_the_wasm_config_and_one_layer() {
        let dir = tempfile::tempdir().unwrap();
        let app = file(dir.path(), "app.wasm", COMPONENT);
        let wanted = Build { artifact: true, ..asked(vec![app]) };
        let (manifest, config) = opened(&build(&wanted).unwrap());
        assert_eq!(manifest["config"]["mediaType"], media_type::WASM_CONFIG);
        assert_eq!(config["layerDigests"][0], manifest["layers"][0]["digest"]);
        assert_eq!(config["os"], "wasip2");
    }

    #[test]
    fn an_artifact_of_something_else_than_wasm_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let app = file(dir.path(), "app.wasm", b"hello");
        let error = build(&Build { artifact: true, ..asked(vec![app]) }).unwrap_err();
        assert!(error.to_string().contains("app.wasm is not WebAssembly"), "{error:#}");
    }

    #[test]
    fn two_builds_give_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let app = file(dir.path(), "app.wasm", MODULE);
        let labels = ["a=1", "b=2", "c=3"].map(|it| it.parse().unwrap()).to_vec();
        let wanted = Build { rootfs: Some(dir.path().into()), labels, ..asked(vec![app.clone()]) };
        let first = build(&wanted).unwrap();
        fs::write(&app, MODULE).unwrap();
        assert_eq!(first, build(&wanted).unwrap());
    }

    #[test]
    fn an_empty_image_is_refused() {
        let error = build(&asked(vec![])).unwrap_err();
        assert!(error.to_string().contains("--wasm-layer, --file or --rootfs"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = build(&asked(vec!["/no/such.wasm".into()])).unwrap_err();
        assert!(error.to_string().contains("/no/such.wasm"), "{error}");
    }
}
