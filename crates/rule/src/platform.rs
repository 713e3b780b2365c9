//! Compares platforms as containerd does, and chooses the entry of an index that containerd takes.

use std::fmt;
use std::str::FromStr;

use oci_spec::image::{Arch, Descriptor, Os};

use crate::document::{Config, Index};

/// Operating system, processor and variant, in containerd's normal form (`Normalize` of its package `platforms`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: String,
}

impl Platform {
    /// Makes a platform from its parts. An empty system means Linux, as for containerd on a node.
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let (os, architecture) = (os.to_lowercase(), architecture.to_lowercase());
        let os = if os.is_empty() { "linux".into() } else { os };
        let variant = variant.to_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
            ("i386", _) => ("386", ""),
            ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
            ("x86_64" | "x86-64", variant) => ("amd64", variant),
            ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
            ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) => ("arm", "v7"),
            ("armel", _) => ("arm", "v6"),
            ("arm", "" | "7") => ("arm", "v7"),
            ("arm", "5") => ("arm", "v5"),
            ("arm", "6") => ("arm", "v6"),
            ("arm", "8") => ("arm", "v8"),
            other => other,
        };
        Self { os, architecture: architecture.into(), variant: variant.into() }
    }

    /// Returns Linux on this machine's processor.
    pub fn here() -> Self {
        Self::new("linux", std::env::consts::ARCH, "")
    }

    /// Returns the platform in an image's config.
    pub fn of_config(config: &Config) -> Self {
        Self::new(&config.os, &config.architecture, &config.variant)
    }

    /// Returns the platform of an index's entry, if the entry gives one.
    pub fn of_entry(entry: &Descriptor) -> Option<Self> {
        let platform = entry.platform().as_ref()?;
        let variant = platform.variant().as_deref().unwrap_or_default();
        Some(Self::new(&platform.os().to_string(), &platform.architecture().to_string(), variant))
    }

    /// Returns the platforms whose images a node of this platform runs, the preferred ones first (`platforms.Only`).
    fn vector(&self) -> Vec<Self> {
        let version = self.variant.trim_start_matches('v').parse::<u32>();
        let with = |architecture: &str, version: u32| {
            Self::new(&self.os, architecture, &format!("v{version}"))
        };
        let mut vector = vec![self.clone()];
        match self.architecture.as_str() {
            "amd64" => {
                vector.extend((1..version.unwrap_or(1)).rev().map(|it| with("amd64", it)));
                vector.push(Self::new(&self.os, "386", ""));
            }
            "arm" => vector.extend((5..version.unwrap_or(0)).rev().map(|it| with("arm", it))),
            // A 64-bit processor runs programs for 32-bit processors of any version.
            "arm64" => vector.extend((5..9).rev().map(|it| with("arm", it))),
            _ => {}
        }
        vector
    }

    /// Returns whether both have the same operating system.
    pub fn is_of_system(&self, other: &Self) -> bool {
        self.os == other.os
    }

    /// Returns how much a node of this platform prefers an image of that platform (0 is most), or `None` if the node
    /// never takes it.
    pub fn rank(&self, image: &Self) -> Option<usize> {
        self.vector().iter().position(|it| it == image)
    }
}

impl FromStr for Platform {
    type Err = &'static str;

    /// Parses `linux/arm64` or `linux/arm/v7`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split('/').collect::<Vec<_>>().as_slice() {
            parts if parts.iter().any(|it| it.is_empty()) => {}
            [os, architecture] => return Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => return Ok(Self::new(os, architecture, variant)),
            _ => {}
        }
        Err("allowed is OS/ARCH or OS/ARCH/VARIANT, such as linux/arm64 or linux/arm/v7")
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// Returns the entry of an index that containerd's CRI takes on a node of that platform (`images.Manifest`): the
/// preferred one of those for the platform, otherwise the first that gives no platform.
pub fn choose<'a>(node: &Platform, index: &'a Index) -> Option<&'a Descriptor> {
    let rank = |entry: &&Descriptor| match Platform::of_entry(entry) {
        Some(platform) => node.rank(&platform),
        None => Some(usize::MAX),
    };
    index.manifests.iter().filter(|it| rank(it).is_some()).min_by_key(rank)
}

/// Returns an index's entries in the order in which to look for the image of a Pod on a node of that platform: first
/// the one that CRI takes, then by preference. A node that pulled the first has no other, unless somebody imported it.
pub fn by_choice<'a>(node: &Platform, index: &'a Index) -> Vec<&'a Descriptor> {
    let chosen = choose(node, index);
    let others = by_preference(index).into_iter();
    chosen.into_iter().chain(others.filter(|it| Some(*it) != chosen)).collect()
}

/// Returns an index's entries by preference: those for wasm, for this machine, without a platform, and for other
/// machines. containerd's store shows which of them was pulled.
///
/// It is meant for containers for which nothing records the entry that they were made from, such as those of `ctr run`.
pub fn by_preference(index: &Index) -> Vec<&Descriptor> {
    let mut entries: Vec<_> = index.manifests.iter().filter(|it| !is_attestation(it)).collect();
    entries.sort_by_key(|entry| entry.platform().as_ref().map_or(2, preference));
    entries
}

fn preference(platform: &oci_spec::image::Platform) -> u8 {
    match (platform.os(), platform.architecture()) {
        _ if is_wasm(platform) => 0,
        (os, architecture) if *os == Os::Linux && *architecture == Arch::default() => 1,
        _ => 3,
    }
}

/// Returns whether a platform is `wasip1/wasm` or a later one, `wasi/wasm` (the former name), or any future name before
/// `/wasm`.
fn is_wasm(platform: &oci_spec::image::Platform) -> bool {
    let os = platform.os().to_string();
    *platform.architecture() == Arch::Wasm || os == "wasi" || os.starts_with("wasip")
}

/// Returns whether an entry is an attestation. BuildKit stores an image's provenance beside it, for the platform
/// `unknown/unknown`.
fn is_attestation(entry: &Descriptor) -> bool {
    let os = entry.platform().as_ref().map(|platform| platform.os().to_string());
    os.as_deref() == Some("unknown")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Makes an index of entries for these platforms. The first has size 0, the second 1, and so on.
    fn index(platforms: &[Option<&str>]) -> Index {
        let mut manifests = Vec::new();
        for (size, platform) in platforms.iter().enumerate() {
            let digest = format!("sha256:{size:064}");
            let media_type = "application/vnd.oci.image.manifest.v1+json";
            let mut entry = json!({ "mediaType": media_type, "size": size, "digest": digest });
            if let Some(platform) = platform {
                let parts: Vec<_> = platform.split('/').collect();
                entry["platform"] = json!({ "os": parts[0], "architecture": parts[1] });
                if let Some(variant) = parts.get(2) {
                    entry["platform"]["variant"] = Value::from(*variant);
                }
            }
            manifests.push(entry);
        }
        serde_json::from_value(json!({ "manifests": manifests })).unwrap()
    }

    fn chosen(node: &str, platforms: &[&str]) -> Option<u64> {
        let platforms: Vec<_> =
            platforms.iter().map(|it| Some(*it).filter(|it| !it.is_empty())).collect();
        choose(&node.parse().unwrap(), &index(&platforms)).map(Descriptor::size)
    }

    #[test]
    fn of_an_index_the_node_s_platform_is_taken_and_what_it_runs_as_well() {
        assert_eq!(chosen("linux/amd64", &["wasip2/wasm", "linux/arm64", "linux/amd64"]), Some(2));
        assert_eq!(chosen("linux/amd64", &["linux/386", "linux/amd64/v1"]), Some(1));
        assert_eq!(chosen("linux/amd64", &["linux/386", "linux/amd64/v3"]), Some(0));
        assert_eq!(chosen("linux/amd64/v3", &["linux/amd64", "linux/amd64/v2"]), Some(1));
        assert_eq!(chosen("linux/arm64", &["linux/arm/v6", "linux/arm", "linux/amd64"]), Some(1));
        assert_eq!(chosen("linux/arm64", &["linux/arm/v6", "linux/aarch64/v8"]), Some(1));
        assert_eq!(chosen("linux/arm/v6", &["linux/arm/v7", "linux/arm/v5"]), Some(1));
    }

    #[test]
    fn of_an_index_without_the_node_s_platform_none_is_taken() {
        assert_eq!(chosen("linux/amd64", &["wasi/wasm", "unknown/unknown"]), None);
        assert_eq!(chosen("linux/amd64", &[]), None);
    }

    #[test]
    fn an_entry_that_says_no_platform_comes_last() {
        assert_eq!(chosen("linux/amd64", &["", "linux/386", "wasi/wasm"]), Some(1));
        assert_eq!(chosen("linux/amd64", &["wasi/wasm", "", ""]), Some(1));
    }

    #[test]
    fn a_platform_has_two_or_three_parts() {
        for (text, written) in [
            ("linux/x86_64", "linux/amd64"),
            ("Linux/ARM64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("wasip2/wasm", "wasip2/wasm"),
        ] {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), written);
        }
        for text in ["linux", "linux/", "/amd64", "linux/arm/v7/x", ""] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    fn order(platforms: &[Option<&str>]) -> Vec<u64> {
        by_preference(&index(platforms)).into_iter().map(Descriptor::size).collect()
    }

    #[test]
    fn wasm_is_preferred_to_this_machine_and_this_machine_to_others() {
        let here = format!("linux/{}", Arch::default());
        let (here, other) = (Some(here.as_str()), Some("linux/riscv64"));
        for wasm in ["wasip1/wasm", "wasip2/wasm", "wasi/wasm", "js/wasm"] {
            assert_eq!(order(&[other, None, here, Some(wasm)]), [3, 2, 1, 0], "{wasm}");
        }
        assert_eq!(order(&[Some("windows/amd64"), here]), [1, 0]);
    }

    #[test]
    fn for_a_pod_the_entry_that_cri_takes_comes_before_wasm() {
        let index = index(&[Some("wasip1/wasm"), Some("linux/arm64"), Some("linux/amd64")]);
        let order = |node: &str| -> Vec<u64> {
            let node = node.parse().unwrap();
            by_choice(&node, &index).into_iter().map(Descriptor::size).collect()
        };
        assert_eq!(order("linux/arm64")[..2], [1, 0]);
        assert_eq!(order("linux/amd64")[..2], [2, 0]);
        assert_eq!(order("linux/s390x")[0], 0);
    }

    #[test]
    fn the_only_entry_is_taken_whatever_its_platform() {
        assert_eq!(order(&[Some("linux/s390x")]), [0]);
        assert_eq!(order(&[None]), [0]);
        assert_eq!(order(&[]), [0; 0]);
    }

    #[test]
    fn entries_alike_keep_the_order_of_the_index_and_attestations_are_left_out() {
        let wasm = Some("wasip1/wasm");
        assert_eq!(order(&[Some("unknown/unknown"), wasm, wasm]), [1, 2]);
    }
}
