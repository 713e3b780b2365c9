//! From what was asked on the command line to an image in a layout.
//!
//! Three forms are known, and containerd meets all three in the wild: an ordinary image with the
//! guest in its root file system, an image with wasm layers, and the CNCF Wasm OCI artifact. [`guest`] reads the wasm,
//! [`layer`] packs a root file system, [`config`] writes the JSON that describes the image.

pub mod config;
pub mod guest;
mod layer;

use anyhow::{Result, bail, ensure};
use oci_spec::image::Descriptor;
use serde_json::json;

use crate::args::Build;
use crate::store::Layout;
use config::Platform;
use guest::Guest;

/// Media types this program writes, beside those of its caller.
pub mod media_type {
    /// Of an image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// Of an image's config.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Of a layer with files.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// Of an artifact's config.
    pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
}

/// What the manifest names.
struct Contents {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// Puts the image described by `build` into a layout: the same bytes for the same input.
pub fn build(build: &Build, layout: &Layout) -> Result<Descriptor> {
    let guests: Vec<Guest> =
        build.components.iter().map(|path| Guest::read(path)).collect::<Result<_>>()?;
    guest::fit(&guests)?;
    let contents = match build.artifact {
        true => artifact(build, &guests, layout)?,
        false => image(build, &guests, layout)?,
    };
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": contents.config,
        "layers": contents.layers,
    });
    if !build.annotations.is_empty() {
        manifest["annotations"] = config::map(&build.annotations);
    }
    layout.add(media_type::MANIFEST, manifest.to_string().as_bytes())
}

/// A CNCF Wasm OCI artifact: its config says what the one layer imports and exports.
fn artifact(build: &Build, guests: &[Guest], layout: &Layout) -> Result<Contents> {
    let [guest] = guests else {
        bail!("an artifact has exactly one component or module, but {} were given", guests.len());
    };
    let layer = layout.add(&build.layer_media_type, &guest.wasm)?;
    let config = config::of_artifact(&guest.wasm, layer.digest().as_ref())?;
    Ok(Contents { config: layout.add(media_type::WASM_CONFIG, &config)?, layers: vec![layer] })
}

/// An image: at most one tar layer with the root file system, then the wasm layers.
fn image(build: &Build, guests: &[Guest], layout: &Layout) -> Result<Contents> {
    let mut layers = Vec::new();
    if build.rootfs.is_some() || !build.files.is_empty() {
        let tar = layer::pack(build.rootfs.as_deref(), &build.files)?;
        layers.push(layout.add(media_type::LAYER, &tar)?);
    }
    let digests = |layers: &[Descriptor]| layers.iter().map(|it| it.digest().to_string()).collect();
    let files = layers.len();
    for guest in guests {
        let mut layer = layout.add(&build.layer_media_type, &guest.wasm)?;
        if guests.len() > 1 {
            let title = (provided::LAYER_TITLE.to_owned(), guest.name());
            layer.set_annotations(Some([title].into()));
        }
        layers.push(layer);
    }
    ensure!(!layers.is_empty(), "the image would be empty: give a .wasm file, --file or --rootfs");
    let platform = build.platform.clone().unwrap_or_else(|| platform(guests));
    let entrypoint = match (build.entrypoint.as_slice(), guests) {
        ([], [first, ..]) => vec![first.entrypoint()],
        (given, _) => given.to_vec(),
    };
    let (rootfs, wasm) = layers.split_at(files);
    let counted = config::Layers { rootfs: digests(rootfs), wasm: digests(wasm) };
    let config = config::of_image(build, &entrypoint, &platform, &counted);
    Ok(Contents { config: layout.add(media_type::CONFIG, &config)?, layers })
}

/// By the application's form: `wasip2/wasm` for a component, `wasip1/wasm` for a module, this machine's without either.
fn platform(guests: &[Guest]) -> Platform {
    guests.first().map_or_else(Platform::host, |application| application.platform())
}

#[cfg(test)]
mod tests {
    use std::fs;
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

    fn asked(components: Vec<PathBuf>) -> Build {
        let layer_media_type = "application/wasm".into();
        let tag = "registry.example/app:1".into();
        Build { tag, components, layer_media_type, ..Build::default() }
    }

    /// Manifest and config of the image that is built.
    fn built(asked: &Build) -> (Value, Value) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        let json = |blob: &Descriptor| -> Value {
            serde_json::from_slice(&layout.read(blob, 1 << 20).unwrap()).unwrap()
        };
        let manifest = json(&build(asked, &layout).unwrap());
        let config: Descriptor = serde_json::from_value(manifest["config"].clone()).unwrap();
        (manifest, json(&config))
    }

    fn refusal(asked: &Build) -> String {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        format!("{:#}", build(asked, &layout).unwrap_err())
    }

    #[test]
    fn a_file_makes_an_ordinary_image_for_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let app = file(dir.path(), "app.wasm", MODULE);
        let copy = format!("{}:/app.wasm", app.display()).parse().unwrap();
        let wanted =
            Build { files: vec![copy], entrypoint: vec!["/app.wasm".into()], ..asked(vec![]) };
        let (manifest, config) = built(&wanted);
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
        let (manifest, config) = built(&asked(vec![first, second]));
        assert_eq!(config["rootfs"]["diff_ids"], serde_json::json!([]));
        for (at, digest) in config["layerDigests"].as_array().unwrap().iter().enumerate() {
            assert_eq!(*digest, manifest["layers"][at]["digest"]);
        }
        assert_eq!((&config["os"], &config["architecture"]), (&"wasip2".into(), &"wasm".into()));
        assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/z.wasm"]));
        let digests: Vec<_> = manifest["layers"].as_array().unwrap().iter().collect();
        assert_eq!(digests[0]["digest"], crate::store::blob::digest(COMPONENT));
        assert_eq!(digests[1]["digest"], crate::store::blob::digest(MODULE));
        assert_eq!(digests[1]["mediaType"], "application/wasm");
        assert_eq!(digests[1]["annotations"][provided::LAYER_TITLE], "a.wasm");
    }

    #[test]
    fn an_artifact_has_the_wasm_config_and_one_layer() {
        let dir = tempfile::tempdir().unwrap();
        let app = file(dir.path(), "app.wasm", COMPONENT);
        let wanted = Build { artifact: true, ..asked(vec![app]) };
        let (manifest, config) = built(&wanted);
        assert_eq!(manifest["config"]["mediaType"], media_type::WASM_CONFIG);
        assert_eq!(config["layerDigests"][0], manifest["layers"][0]["digest"]);
        assert_eq!(config["os"], "wasip2");
    }

    #[test]
    fn a_module_s_image_is_for_wasip1_and_a_given_entrypoint_stays() {
        let dir = tempfile::tempdir().unwrap();
        let app = file(dir.path(), "app.wasm", MODULE);
        let (_, config) = built(&Build { entrypoint: vec!["app".into()], ..asked(vec![app]) });
        assert_eq!((&config["os"], &config["architecture"]), (&"wasip1".into(), &"wasm".into()));
        assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["app"]));
    }

    #[test]
    fn text_is_packed_in_its_binary_form() {
        let dir = tempfile::tempdir().unwrap();
        let app = file(dir.path(), "app.wat", b"(component)");
        let (manifest, config) = built(&asked(vec![app]));
        assert_eq!(manifest["layers"][0]["digest"], crate::store::blob::digest(COMPONENT));
        assert_eq!(config["config"]["Entrypoint"][0], "/app.wasm");
    }

    #[test]
    fn what_is_no_webassembly_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (bytes, reason) in [
            (b"hello".as_slice(), "it is not WebAssembly: it begins with \"hello\""),
            (b"\x7fELF\x02", "it is native code"),
            (b"(module (func", "it is not valid WebAssembly text"),
            (b"", "it is empty"),
        ] {
            let app = file(dir.path(), "app.wasm", bytes);
            let text = refusal(&asked(vec![app]));
            assert!(text.contains("app.wasm") && text.contains(reason), "{text}");
        }
    }

    #[test]
    fn two_builds_give_the_same_digest() {
        let dir = tempfile::tempdir().unwrap();
        let app = file(dir.path(), "app.wasm", MODULE);
        let labels = ["a=1", "b=2", "c=3"].map(|it| it.parse().unwrap()).to_vec();
        let wanted = Build { rootfs: Some(dir.path().into()), labels, ..asked(vec![app.clone()]) };
        let first = built(&wanted);
        fs::write(&app, MODULE).unwrap();
        assert_eq!(first, built(&wanted));
    }

    #[test]
    fn an_empty_image_is_refused() {
        assert!(refusal(&asked(vec![])).contains("give a .wasm file, --file or --rootfs"));
    }

    #[test]
    fn a_missing_file_is_named() {
        assert!(refusal(&asked(vec!["/no/such.wasm".into()])).contains("/no/such.wasm"));
    }
}
