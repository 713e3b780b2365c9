//! Builds an image in a layout, as the command line describes it.
//!
//! An image has one of three forms, all of which containerd meets in practice: an ordinary image with the guest in its
//! root file system, an image with wasm layers, and the CNCF Wasm OCI artifact. [`guest`] reads the wasm, [`layer`]
//! packs a root file system, [`config`] writes the JSON that describes an image, and [`index`] that of several images.

pub mod config;
pub mod guest;
pub mod index;
pub mod layer;

use anyhow::{Result, bail, ensure};
use oci_spec::image::Descriptor;
use serde_json::{Value, json};

use crate::args::Build;
use crate::platform::Platform;
use crate::store::{Layout, blob, compressed};
use guest::Guest;

/// Media types that this program writes, besides those that the user gives.
pub mod media_type {
    /// An index of images.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// An image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// The config of an image.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// A layer of files.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// The config of an artifact.
    pub const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
}

/// Layers in their order, and their digests for the config of the image.
#[derive(Debug, Default)]
struct Content {
    layers: Vec<Descriptor>,
    counted: config::Layers,
}

/// Puts the image that `build` describes into a layout. The same input gives the same bytes.
pub fn build(build: &Build, layout: &Layout) -> Result<Descriptor> {
    let guests: Vec<Guest> =
        build.components.iter().map(|path| Guest::read(path)).collect::<Result<_>>()?;
    guest::fit(&guests)?;
    if build.artifact {
        return artifact(build, &guests, layout);
    }
    let content = content(build, &guests, layout)?;
    let platforms = match build.platforms.as_slice() {
        [] => vec![platform(&guests, &content)],
        given => given.to_vec(),
    };
    let entrypoint = match (build.entrypoint.as_slice(), guests.as_slice()) {
        ([], [first, ..]) => vec![first.entrypoint()],
        (given, _) => given.to_vec(),
    };
    let image = |platform: &Platform| {
        let config = config::of_image(build, &entrypoint, platform, &content.counted);
        let config = layout.add(media_type::CONFIG, &config)?;
        manifest(layout, &config, &content.layers, config::map(&build.annotations))
    };
    index::of(layout, &platforms, config::map(&build.annotations), image)
}

/// Adds a manifest. Empty annotations are left out.
pub fn manifest(
    layout: &Layout,
    config: &Descriptor,
    layers: &[Descriptor],
    annotations: Value,
) -> Result<Descriptor> {
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::MANIFEST,
        "config": config,
        "layers": layers,
    });
    if annotations.as_object().is_some_and(|it| !it.is_empty()) {
        manifest["annotations"] = annotations;
    }
    layout.add(media_type::MANIFEST, manifest.to_string().as_bytes())
}

/// Builds a CNCF Wasm OCI artifact, whose config lists the imports and exports of the one layer.
fn artifact(build: &Build, guests: &[Guest], layout: &Layout) -> Result<Descriptor> {
    let [guest] = guests else {
        bail!("an artifact has exactly one component or module, but {} were given", guests.len());
    };
    let mut layer = layout.add(&build.layer_media_type, &guest.wasm)?;
    // File name for tools that download artifacts. Without it they write no file.
    entitle(&mut layer, guest.entrypoint().trim_start_matches('/'));
    let config = config::of_artifact(&guest.wasm, layer.digest().as_ref())?;
    let config = layout.add(media_type::WASM_CONFIG, &config)?;
    manifest(layout, &config, &[layer], config::map(&build.annotations))
}

/// Sets the name of a layer.
pub fn entitle(layer: &mut Descriptor, title: &str) {
    let mut annotations = layer.annotations().clone().unwrap_or_default();
    annotations.insert(provided::LAYER_TITLE.to_owned(), title.to_owned());
    layer.set_annotations(Some(annotations));
}

/// Makes the layers: at most one tar layer with the root file system, then the wasm layers.
fn content(build: &Build, guests: &[Guest], layout: &Layout) -> Result<Content> {
    let mut content = Content::default();
    if build.rootfs.is_some() || !build.files.is_empty() {
        let tar = layer::pack(build.rootfs.as_deref(), &build.files)?;
        content.counted.rootfs.push(blob::digest(&tar));
        content.layers.push(add(build, layout, media_type::LAYER, &tar)?);
    }
    for guest in guests {
        let mut layer = add(build, layout, &build.layer_media_type, &guest.wasm)?;
        if guests.len() > 1 {
            entitle(&mut layer, &guest.name());
        }
        content.counted.wasm.push(layer.digest().to_string());
        content.layers.push(layer);
    }
    let nothing = "the image would be empty: give a .wasm file, --file or --rootfs";
    ensure!(!content.layers.is_empty(), nothing);
    Ok(content)
}

/// Adds a layer, compressed if that is asked for.
fn add(build: &Build, layout: &Layout, media_type: &str, bytes: &[u8]) -> Result<Descriptor> {
    match build.compress {
        true => {
            let media_type = format!("{media_type}{}", compressed::SUFFIX);
            layout.add(&media_type, &compressed::zstd(bytes)?)
        }
        false => layout.add(media_type, bytes),
    }
}

/// Returns the default platform. An image with files is for the node's platform, because containerd unpacks files for
/// no other; this machine's platform is taken for it. Otherwise the application decides: `wasip2/wasm` for a component,
/// `wasip1/wasm` for a module.
fn platform(guests: &[Guest], content: &Content) -> Platform {
    match guests {
        [application, ..] if content.counted.rootfs.is_empty() => application.platform(),
        _ => Platform::host(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use serde_json::Value;

    use super::*;

    /// The smallest core module and the smallest component: only a header.
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

    /// Returns manifest and config of the image that is built.
    fn built(asked: &Build) -> (Value, Value) {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let json = |blob: &Descriptor| -> Value {
            serde_json::from_slice(&layout.read(blob, 1 << 20).unwrap()).unwrap()
        };
        let manifest = json(&build(asked, &layout).unwrap());
        let config: Descriptor = serde_json::from_value(manifest["config"].clone()).unwrap();
        (manifest, json(&config))
    }

    fn refusal(asked: &Build) -> String {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
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
        let digests =
            [0, 1].map(|at| manifest["layers"][at]["digest"].as_str().unwrap().to_owned());
        let label = &config["config"]["Labels"][provided::LAYERS_LABEL];
        assert_eq!(*label, blob::chain_id(&digests));
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
        assert_eq!(manifest["layers"][0]["annotations"][provided::LAYER_TITLE], "app.wasm");
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
    fn files_are_for_the_node_s_platform_whether_or_not_there_are_wasm_layers() {
        let dir = tempfile::tempdir().unwrap();
        let app = file(dir.path(), "app.wasm", COMPONENT);
        let css = file(dir.path(), "site.css", b"");
        let files = vec![format!("{}:/site.css", css.display()).parse().unwrap()];
        let (_, config) = built(&Build { files: files.clone(), ..asked(vec![app.clone()]) });
        assert_eq!(config["os"], "linux");
        let platforms = vec![Platform::wasip2()];
        let (_, config) = built(&Build { files, platforms, ..asked(vec![app]) });
        assert_eq!(config["os"], "wasip2", "who asks for it has it");
    }

    #[test]
    fn several_platforms_are_an_index_of_images_with_the_same_layers() {
        let dir = tempfile::tempdir().unwrap();
        let app = file(dir.path(), "app.wasm", COMPONENT);
        let platforms = ["linux/amd64", "linux/arm64"].map(|it| it.parse().unwrap()).to_vec();
        let wanted = Build { platforms: platforms.clone(), ..asked(vec![app.clone()]) };
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::create(directory.path()).unwrap();
        let json = |blob: &Descriptor| -> Value {
            serde_json::from_slice(&layout.read(blob, 1 << 20).unwrap()).unwrap()
        };
        let made = build(&wanted, &layout).unwrap();
        assert_eq!(made.media_type().as_ref(), media_type::INDEX);
        let index = json(&made);
        let mut layers = Vec::new();
        for (entry, platform) in index["manifests"].as_array().unwrap().iter().zip(&platforms) {
            assert_eq!(entry["platform"]["architecture"], platform.architecture);
            let manifest = json(&serde_json::from_value(entry.clone()).unwrap());
            let config = json(&serde_json::from_value(manifest["config"].clone()).unwrap());
            assert_eq!(
                (&config["os"], &config["architecture"]),
                (&"linux".into(), &platform.architecture.clone().into())
            );
            layers.push(manifest["layers"].clone());
        }
        assert_eq!(layers.len(), 2);
        assert_eq!(layers[0], layers[1]);
        let twice = Build { platforms: [&platforms[..1]; 2].concat(), ..asked(vec![app]) };
        assert!(refusal(&twice).contains("linux/amd64 twice"));
    }

    #[test]
    fn compressed_layers_say_so_and_count_as_what_they_unpack_to() {
        let dir = tempfile::tempdir().unwrap();
        let app = file(dir.path(), "app.wasm", MODULE);
        let files = vec![format!("{}:/app.wasm", app.display()).parse().unwrap()];
        let plain = Build { files, ..asked(vec![app]) };
        let diff_ids = |config: &Value| config["rootfs"]["diff_ids"].clone();
        let (_, before) = built(&plain);
        let (manifest, after) = built(&Build { compress: true, ..plain });
        assert_eq!(diff_ids(&before), diff_ids(&after));
        let kind = |at: usize| manifest["layers"][at]["mediaType"].clone();
        assert_eq!(kind(0), "application/vnd.oci.image.layer.v1.tar+zstd");
        assert_eq!(kind(1), "application/wasm+zstd");
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
