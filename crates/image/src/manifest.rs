//! Chooses among what an image's JSON names, without I/O (OCI image specification, "Image Index"
//! and "Image Manifest").

use std::collections::HashMap;

use oci_spec::image::{Arch, Descriptor, ImageIndex, ImageManifest, Os, Platform};
use provided::WASM_LAYERS;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::errors::within_limit;
use crate::{Error, limits};

/// Indexes: OCI's, and Docker's name for the same.
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// Manifests of one image: OCI's, and Docker's name for the same.
const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// Configs of images that are run: OCI's, and Docker's name for the same.
pub const IMAGE_CONFIGS: [&str; 2] =
    ["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"];

/// What is read of an image's config (OCI image specification, "Image Configuration").
#[derive(Deserialize)]
pub struct Config {
    config: Option<Execution>,
}

#[derive(Deserialize)]
struct Execution {
    #[serde(rename = "ExposedPorts")]
    exposed_ports: Option<HashMap<String, IgnoredAny>>,
}

impl Config {
    /// The lowest TCP port that it exposes: their order is not that in which they were written down.
    pub fn exposed_port(&self) -> Option<u16> {
        let ports = self.config.as_ref()?.exposed_ports.as_ref()?.keys();
        let tcp = ports.filter_map(|port| port.strip_suffix("/tcp").unwrap_or(port).parse().ok());
        tcp.filter(|port| *port > 0).min()
    }
}

/// What content is, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Of [`ImageIndex`]'s form.
    Index,
    /// Of [`ImageManifest`]'s form.
    Manifest,
    /// No image that can have wasm layers.
    Other,
}

/// Tells an index from a manifest.
pub fn kind(media_type: &str) -> Kind {
    match media_type {
        _ if INDEXES.contains(&media_type) => Kind::Index,
        _ if MANIFESTS.contains(&media_type) => Kind::Manifest,
        _ => Kind::Other,
    }
}

/// An index's entries, the ones to prefer first: for wasm, for this machine, for none in particular,
/// for other machines. Which of them containerd pulled is for its store to say.
pub fn by_preference(index: &ImageIndex) -> Vec<&Descriptor> {
    let mut entries: Vec<_> = index.manifests().iter().filter(|it| !is_attestation(it)).collect();
    entries.sort_by_key(|entry| entry.platform().as_ref().map_or(2, rank));
    entries
}

fn rank(platform: &Platform) -> u8 {
    match (platform.os(), platform.architecture()) {
        _ if is_wasm(platform) => 0,
        (os, architecture) if *os == Os::Linux && *architecture == Arch::default() => 1,
        _ => 3,
    }
}

/// `wasip1/wasm` and later ones, `wasi/wasm` as it was called before, and whatever is put before
/// `/wasm` next.
fn is_wasm(platform: &Platform) -> bool {
    let os = platform.os().to_string();
    *platform.architecture() == Arch::Wasm || os == "wasi" || os.starts_with("wasip")
}

/// BuildKit puts an image's provenance beside it, for the platform `unknown/unknown`.
fn is_attestation(entry: &Descriptor) -> bool {
    let os = entry.platform().as_ref().map(|platform| platform.os().to_string());
    os.as_deref() == Some("unknown")
}

/// The layers that are wasm, in order; none for an ordinary image.
///
/// # Errors
/// [`Error::TooManyLayers`], [`Error::TooLarge`].
pub fn wasm_layers(manifest: &ImageManifest) -> Result<Vec<&Descriptor>, Error> {
    let layers = manifest.layers().iter();
    let layers: Vec<_> =
        layers.filter(|layer| WASM_LAYERS.contains(&layer.media_type().as_ref())).collect();
    let (count, limit) = (layers.len(), limits::LAYERS);
    if count > limit {
        return Err(Error::TooManyLayers { count, limit });
    }
    let bytes = layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size()));
    within_limit("the image", bytes)?;
    Ok(layers)
}

/// What a layer is called: by its title, or its digest.
pub fn name(layer: &Descriptor) -> String {
    let title = layer.annotations().as_ref().and_then(|it| it.get(provided::LAYER_TITLE));
    provided::layer_name(title.map(String::as_str), layer.digest().as_ref())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_lowest_tcp_port_is_the_one_that_is_exposed() {
        let exposed = |ports: Value| {
            let config = json!({ "config": { "ExposedPorts": ports } });
            serde_json::from_value::<Config>(config).unwrap().exposed_port()
        };
        assert_eq!(exposed(json!({ "9090/tcp": {}, "80/udp": {}, "443": {} })), Some(443));
        assert_eq!(exposed(json!({ "8000-8010/tcp": {}, "0/tcp": {}, "x": {} })), None);
        assert_eq!(exposed(Value::Null), None);
        assert_eq!(serde_json::from_value::<Config>(json!({})).unwrap().exposed_port(), None);
    }

    fn descriptor(media_type: &str, size: u64) -> Value {
        json!({ "mediaType": media_type, "size": size, "digest": format!("sha256:{size:064}") })
    }

    /// The sizes of an index's entries by preference; the first entry has size 0, the second 1.
    fn order(platforms: &[Option<(&str, &str)>]) -> Vec<u64> {
        let mut manifests = Vec::new();
        for (size, platform) in platforms.iter().enumerate() {
            let mut entry = descriptor(MANIFESTS[0], size as u64);
            if let Some((os, architecture)) = platform {
                entry["platform"] = json!({ "os": os, "architecture": architecture });
            }
            manifests.push(entry);
        }
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        let index: ImageIndex = serde_json::from_value(index).unwrap();
        by_preference(&index).into_iter().map(Descriptor::size).collect()
    }

    fn manifest(layers: &[Value]) -> ImageManifest {
        let config = descriptor("application/vnd.oci.image.config.v1+json", 1);
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        serde_json::from_value(manifest).unwrap()
    }

    #[test]
    fn wasm_is_preferred_to_this_machine_and_this_machine_to_others() {
        let here = Arch::default().to_string();
        let here = Some(("linux", here.as_str()));
        let other = Some(("linux", "riscv64"));
        for wasm in [("wasip1", "wasm"), ("wasip2", "wasm"), ("wasi", "wasm"), ("js", "wasm")] {
            assert_eq!(order(&[other, None, here, Some(wasm)]), [3, 2, 1, 0], "{wasm:?}");
        }
        assert_eq!(order(&[Some(("windows", "amd64")), here]), [1, 0]);
    }

    #[test]
    fn the_only_entry_is_taken_whatever_its_platform() {
        assert_eq!(order(&[Some(("linux", "s390x"))]), [0]);
        assert_eq!(order(&[None]), [0]);
        assert_eq!(order(&[]), [0; 0]);
    }

    #[test]
    fn entries_alike_keep_the_order_of_the_index_and_attestations_are_left_out() {
        let wasm = Some(("wasip1", "wasm"));
        assert_eq!(order(&[Some(("unknown", "unknown")), wasm, wasm]), [1, 2]);
    }

    #[test]
    fn only_wasm_layers_are_taken_and_keep_their_order() {
        let manifest = manifest(&[
            descriptor("application/vnd.oci.image.layer.v1.tar+gzip", 2),
            descriptor(WASM_LAYERS[3], 3),
            descriptor("application/wasm+gzip", 6),
            descriptor(WASM_LAYERS[2], 7),
            descriptor(WASM_LAYERS[0], 4),
            descriptor("application/vnd.in-toto+json", 5),
            descriptor(WASM_LAYERS[1], 1),
        ]);
        let sizes: Vec<_> =
            wasm_layers(&manifest).unwrap().into_iter().map(Descriptor::size).collect();
        assert_eq!(sizes, [3, 7, 4, 1]);
    }

    #[test]
    fn layers_that_are_too_many_or_together_too_large_are_refused() {
        let small = descriptor(WASM_LAYERS[0], 8);
        let half = descriptor(WASM_LAYERS[0], limits::WASM_BYTES / 2);
        let refusal = |layers: &[Value]| wasm_layers(&manifest(layers)).unwrap_err();
        assert!(wasm_layers(&manifest(&[half.clone(), half.clone()])).is_ok());
        assert!(matches!(refusal(&[half.clone(), half, small.clone()]), Error::TooLarge { .. }));
        let huge = descriptor(WASM_LAYERS[0], u64::MAX);
        assert!(matches!(refusal(&[huge.clone(), huge]), Error::TooLarge { .. }));
        let many = vec![small; limits::LAYERS + 1];
        assert!(matches!(refusal(&many), Error::TooManyLayers { .. }));
    }

    #[test]
    fn an_index_is_told_from_a_manifest_by_its_media_type() {
        assert!(INDEXES.iter().all(|it| kind(it) == Kind::Index));
        assert!(MANIFESTS.iter().all(|it| kind(it) == Kind::Manifest));
        assert_eq!(kind("application/json"), Kind::Other);
    }
}
