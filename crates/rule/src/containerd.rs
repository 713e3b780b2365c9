//! Predicts what a node's containerd does with an image through CRI before the shim is called: which entry of an index
//! it takes, and which layers it unpacks.
//!
//! The rules follow containerd's source: `images.Manifest` (the entry), `Unpacker.unpack` and `image.Unpack` (the
//! layers), and since 2.1 `localTransferService.pull`, by which CRI pulls, with the platforms from its plugin's
//! `configureUnpackPlatforms`.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::Descriptor;

use crate::document::{Config, Index, Manifest};
use crate::is_wasm;
use crate::platform::{self, Platform};

/// Releases of containerd that treat images differently. Each stands for all releases up to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Containerd {
    /// 1.6: an image must have a layer of files, or no layer at all.
    V1_6,
    /// 1.7: layers that are not files are ignored.
    V1_7,
    /// 2.0.
    V2_0,
    /// 2.1 and 2.2: CRI pulls with the transfer service, which only takes an entry for exactly the node's platform.
    V2_1,
    /// 2.3 and later: containerd unpacks no files for another system than the node's.
    V2_3,
}

impl FromStr for Containerd {
    type Err = &'static str;

    /// Parses `1.6`, `2.4` or `1.7.27`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut numbers = text.trim_start_matches('v').split('.').map(str::parse::<u32>);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(1)), Some(Ok(6))) => Ok(Self::V1_6),
            (Some(Ok(1)), Some(Ok(7))) => Ok(Self::V1_7),
            (Some(Ok(2)), Some(Ok(0))) => Ok(Self::V2_0),
            (Some(Ok(2)), Some(Ok(1 | 2))) => Ok(Self::V2_1),
            (Some(Ok(2)), Some(Ok(_))) => Ok(Self::V2_3),
            _ => Err("allowed is 1.6, 1.7, 2.0 or a later 2.x"),
        }
    }
}

impl fmt::Display for Containerd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1_6 => "1.6",
            Self::V1_7 => "1.7",
            Self::V2_0 => "2.0",
            Self::V2_1 => "2.1",
            Self::V2_3 => "2.3 or later",
        })
    }
}

/// A node on which an image is to run.
#[derive(Debug, Clone)]
pub struct Node {
    /// Operating system and processor.
    pub platform: Platform,
    /// Release of containerd.
    pub containerd: Containerd,
}

/// Reason why a node's containerd makes no container of an image, even if the shim could run it.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The index has no entry for the node's platform.
    #[error(
        "a node of {node} takes no image of the index, which has {has}: add one for {node} \
         (`--platform {node}`), or push the image by itself, without an index"
    )]
    NoPlatform {
        /// Platform of the node.
        node: String,
        /// Platforms of the index, as text.
        has: String,
    },
    /// Before 1.7: no layer is a layer of files.
    #[error(
        "containerd 1.6 refuses an image whose layers are all of a type such as {media_type}: ship the guest as a file \
         (`wasm-image build --file app.wasm:/app.wasm --entrypoint /app.wasm`)"
    )]
    NotFiles {
        /// Media type of a layer.
        media_type: String,
    },
    /// Layers of files have a type that only later releases know.
    #[error(
        "containerd {containerd} does not know layers of type {media_type}, which 2.0 and later unpack: use OCI's media \
         types (for buildx `oci-mediatypes=true`), or compress with gzip"
    )]
    NotKnown {
        /// Media type of the layer.
        media_type: String,
        /// Release on the node.
        containerd: Containerd,
    },
    /// The config lists another number of layers than the manifest.
    #[error(
        "containerd cannot unpack it: the config counts {diff_ids} layers of files (`rootfs.diff_ids`), \
         and the manifest has {layers}"
    )]
    Counts {
        /// Number in the config.
        diff_ids: usize,
        /// Number in the manifest.
        layers: usize,
    },
    /// An artifact has layers of files.
    #[error(
        "its config is of type {config}, and containerd unpacks files only for images: give it a config of type \
         application/vnd.oci.image.config.v1+json"
    )]
    Artifact {
        /// Media type of the config.
        config: String,
    },
    /// Since 2.3: the image has files for another system.
    #[error(
        "the image is for {image}, and since 2.3 the containerd of a node of {node} does not unpack its files: \
         build it for {node} (`--platform {node}`), or ship the guest as a wasm layer alone"
    )]
    Foreign {
        /// Platform of the image, from its config.
        image: String,
        /// Platform of the node.
        node: String,
    },
}

impl Node {
    /// Returns the entry of an index that containerd takes.
    ///
    /// # Errors
    /// [`Unusable::NoPlatform`].
    pub fn choose<'a>(&self, index: &'a Index) -> Result<&'a Descriptor, Unusable> {
        let chosen = platform::choose(&self.platform, index);
        // The transfer service only gets images for exactly the node's platform.
        let is_got = |entry: &&Descriptor| {
            self.containerd < Containerd::V2_1
                || Platform::of_entry(entry).is_none_or(|it| self.platform.rank(&it) == Some(0))
        };
        chosen.filter(is_got).ok_or_else(|| self.no_platform(index))
    }

    /// Checks whether containerd takes an entry of an index that does not give its platform. The entry's config
    /// decides.
    ///
    /// # Errors
    /// [`Unusable::NoPlatform`].
    pub fn accept(&self, index: &Index, config: &Config) -> Result<(), Unusable> {
        match self.platform.rank(&Platform::of_config(config)) {
            Some(_) => Ok(()),
            None => Err(self.no_platform(index)),
        }
    }

    fn no_platform(&self, index: &Index) -> Unusable {
        let platform = |entry: &Descriptor| Platform::of_entry(entry).map(|it| it.to_string());
        let all = index.manifests.iter().map(|it| platform(it).unwrap_or("no platform".into()));
        let mut has: Vec<String> = all.filter(|it| it != "unknown/unknown").collect();
        has.dedup();
        let has = if has.is_empty() { "none".into() } else { has.join(", ") };
        Unusable::NoPlatform { node: self.platform.to_string(), has }
    }

    /// Returns the layers whose files a container of the image has, the lowest first.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub fn unpack<'a>(
        &self,
        manifest: &'a Manifest,
        config: &Config,
    ) -> Result<Vec<&'a Descriptor>, Unusable> {
        let (files, others): (Vec<_>, Vec<_>) = manifest
            .layers
            .iter()
            .partition(|it| self.containerd.takes_for_files(it.media_type().as_ref()));
        let (diff_ids, layers) = (config.rootfs.diff_ids.len(), files.len());
        if layers > 0 && !manifest.is_image() {
            // containerd does not even fetch files of an artifact. Since 2.1 this is no error, unless the artifact's
            // config lists them.
            return match (diff_ids, self.containerd) {
                (0, Containerd::V2_1 | Containerd::V2_3) => Ok(vec![]),
                _ => Err(Unusable::Artifact { config: manifest.config.media_type().to_string() }),
            };
        }
        let is_newer =
            |it: &&&Descriptor| Containerd::V2_0.takes_for_files(it.media_type().as_ref());
        if let Some(layer) = others.iter().find(is_newer)
            && diff_ids != layers
        {
            let (media_type, containerd) = (layer.media_type().to_string(), self.containerd);
            return Err(Unusable::NotKnown { media_type, containerd });
        }
        if let (Containerd::V1_6, 0, Some(other)) = (self.containerd, layers, others.first()) {
            return Err(Unusable::NotFiles { media_type: other.media_type().to_string() });
        }
        if diff_ids != layers {
            return Err(Unusable::Counts { diff_ids, layers });
        }
        let image = Platform::of_config(config);
        if self.containerd >= Containerd::V2_3 && layers > 0 && !image.is_of_system(&self.platform)
        {
            let (image, node) = (image.to_string(), self.platform.to_string());
            return Err(Unusable::Foreign { image, node });
        }
        Ok(files)
    }
}

impl Containerd {
    /// Returns whether containerd treats a layer as files, by its media type (`images.IsLayerType`).
    fn takes_for_files(self, media_type: &str) -> bool {
        let docker = "application/vnd.docker.image.rootfs.";
        let base = media_type.split('+').next().unwrap_or_default();
        match base.strip_prefix(docker) {
            Some("diff.tar" | "diff.tar.gzip" | "foreign.diff.tar" | "foreign.diff.tar.gzip") => {
                true
            }
            Some("diff.tar.zstd") => self >= Containerd::V2_0,
            _ => media_type.starts_with("application/vnd.oci.image.layer."),
        }
    }
}

/// Returns the layers of a manifest that are neither files nor wasm. Nothing reads them.
pub fn ignored(manifest: &Manifest) -> impl Iterator<Item = &Descriptor> {
    let is_files =
        |layer: &Descriptor| Containerd::V2_3.takes_for_files(layer.media_type().as_ref());
    manifest.layers.iter().filter(move |it| !is_wasm(it) && !is_files(it))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    const FILES: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    const WASM: &str = "application/wasm";
    const IMAGE: &str = "application/vnd.oci.image.config.v1+json";

    const ALL: [Containerd; 5] =
        [Containerd::V1_6, Containerd::V1_7, Containerd::V2_0, Containerd::V2_1, Containerd::V2_3];

    fn node(containerd: Containerd) -> Node {
        Node { platform: Platform::new("linux", "amd64", ""), containerd }
    }

    fn descriptor(media_type: &str) -> Value {
        let digest = format!("sha256:{:064}", 0);
        json!({ "mediaType": media_type, "size": 1, "digest": digest })
    }

    /// Returns how many layers are unpacked, or the reason why none is.
    fn unpacked(
        containerd: Containerd,
        config_type: &str,
        platform: &str,
        layers: &[&str],
        diff_ids: usize,
    ) -> Result<usize, String> {
        let layers: Vec<_> = layers.iter().map(|it| descriptor(it)).collect();
        let manifest = json!({ "config": descriptor(config_type), "layers": layers });
        let (os, architecture) = platform.split_once('/').unwrap();
        let diff_ids = vec![""; diff_ids];
        let config = json!({
            "os": os, "architecture": architecture, "rootfs": { "diff_ids": diff_ids }
        });
        let (manifest, config) = (from_value(manifest).unwrap(), from_value(config).unwrap());
        let unpacked = node(containerd).unpack(&manifest, &config);
        unpacked.map(|it| it.len()).map_err(|error| error.to_string())
    }

    #[test]
    fn files_for_another_system_are_not_unpacked_since_2_3() {
        for containerd in &ALL[..4] {
            assert_eq!(unpacked(*containerd, IMAGE, "wasi/wasm", &[FILES], 1), Ok(1));
        }
        let refused = unpacked(Containerd::V2_3, IMAGE, "wasi/wasm", &[FILES], 1).unwrap_err();
        for words in ["for wasi/wasm", "since 2.3", "`--platform linux/amd64`"] {
            assert!(refused.contains(words), "{refused}");
        }
        for platform in ["linux/amd64", "linux/riscv64"] {
            assert_eq!(unpacked(Containerd::V2_3, IMAGE, platform, &[FILES], 1), Ok(1));
        }
        assert_eq!(unpacked(Containerd::V2_3, IMAGE, "wasip2/wasm", &[WASM], 0), Ok(0));
    }

    #[test]
    fn only_layers_of_files_are_counted() {
        for containerd in ALL {
            assert_eq!(unpacked(containerd, IMAGE, "linux/amd64", &[FILES, WASM], 1), Ok(1));
            let refused = unpacked(containerd, IMAGE, "linux/amd64", &[FILES, WASM], 2);
            assert!(refused.unwrap_err().contains("counts 2 layers of files"));
        }
    }

    #[test]
    fn docker_s_layers_of_zstd_are_known_since_2_0() {
        let docker = "application/vnd.docker.container.image.v1+json";
        let zstd = "application/vnd.docker.image.rootfs.diff.tar.zstd";
        for containerd in [Containerd::V1_6, Containerd::V1_7] {
            for layers in [[zstd].as_slice(), &[FILES, zstd]] {
                let count = layers.len();
                let refused = unpacked(containerd, docker, "linux/amd64", layers, count);
                let refused = refused.unwrap_err();
                assert!(refused.contains(&format!("does not know layers of type {zstd}")));
            }
        }
        assert_eq!(unpacked(Containerd::V2_0, docker, "linux/amd64", &[zstd], 1), Ok(1));
    }

    #[test]
    fn before_1_7_one_layer_has_to_be_of_files() {
        let refused = unpacked(Containerd::V1_6, IMAGE, "wasip2/wasm", &[WASM], 0);
        assert!(refused.unwrap_err().contains("are all of a type such as application/wasm"));
        assert_eq!(unpacked(Containerd::V1_6, IMAGE, "linux/amd64", &[], 0), Ok(0));
        assert_eq!(unpacked(Containerd::V1_7, IMAGE, "wasip2/wasm", &[WASM], 0), Ok(0));
    }

    #[test]
    fn files_of_an_artifact_are_not_unpacked() {
        let empty = "application/vnd.oci.empty.v1+json";
        for (containerd, diff_ids) in
            ALL.map(|it| (it, 1)).into_iter().chain([(Containerd::V2_0, 0)])
        {
            let refused =
                unpacked(containerd, empty, "linux/amd64", &[FILES], diff_ids).unwrap_err();
            assert!(refused.contains("its config is of type application/vnd.oci.empty.v1+json"));
        }
        for containerd in [Containerd::V2_1, Containerd::V2_3] {
            assert_eq!(unpacked(containerd, empty, "linux/amd64", &[FILES], 0), Ok(0));
        }
        assert_eq!(unpacked(Containerd::V1_7, empty, "linux/amd64", &[WASM], 0), Ok(0));
    }

    #[test]
    fn the_transfer_service_gets_the_very_platform_alone() {
        let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json");
        entry["platform"] = json!({ "os": "linux", "architecture": "386" });
        let index: Index = from_value(json!({ "manifests": [entry] })).unwrap();
        assert!(node(Containerd::V2_0).choose(&index).is_ok());
        let refused = node(Containerd::V2_1).choose(&index).unwrap_err().to_string();
        assert!(refused.contains("which has linux/386: add one for linux/amd64"), "{refused}");
    }

    #[test]
    fn a_version_is_one_of_those_that_differ() {
        for (text, version) in [
            ("1.6.20", Containerd::V1_6),
            ("v1.7", Containerd::V1_7),
            ("2.0", Containerd::V2_0),
            ("2.1.4", Containerd::V2_1),
            ("2.2", Containerd::V2_1),
            ("2.4.2", Containerd::V2_3),
        ] {
            assert_eq!(text.parse(), Ok(version));
        }
        for text in ["1.5", "3.0", "2", "", "latest"] {
            assert!(text.parse::<Containerd>().is_err(), "{text}");
        }
    }
}
