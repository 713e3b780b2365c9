//! The platform of an image: operating system and architecture.

use anyhow::{Context, Result, ensure};

/// A platform with Go's names: `linux/amd64`, `wasip1/wasm`.
#[derive(Clone, Debug, PartialEq)]
pub struct Platform {
    /// `linux`, `wasip1`, …
    pub os: String,
    /// `amd64`, `wasm`, …
    pub architecture: String,
}

impl Platform {
    /// Returns Linux on this machine's architecture.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into() }
    }

    /// Returns the platform of a core module.
    pub fn wasip1() -> Self {
        Self { os: "wasip1".into(), architecture: "wasm".into() }
    }

    /// Returns the platform of a component of any version of WASI (TAG Runtime, "Wasm OCI Artifact").
    pub fn wasip2() -> Self {
        Self { os: "wasip2".into(), architecture: "wasm".into() }
    }
}

impl Platform {
    /// Returns whether the text names this platform. A variant of its architecture counts as well.
    pub fn is(&self, platform: &str) -> bool {
        let own = self.to_string();
        platform.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Returns whether this is a platform of wasm. containerd 2.3 and later unpack no files for it, because they only
    /// do so for the node's platform.
    pub fn is_wasm(&self) -> bool {
        self.architecture == "wasm"
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

impl std::str::FromStr for Platform {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (os, architecture) = text.split_once('/').context("expected OS/ARCH")?;
        let named = !os.is_empty() && !architecture.is_empty() && !architecture.contains('/');
        ensure!(named, "expected OS/ARCH, such as linux/amd64 or wasip1/wasm");
        Ok(Self { os: os.into(), architecture: architecture.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_has_two_parts() {
        let parse = |text: &str| text.parse::<Platform>().ok();
        assert_eq!(parse("wasip1/wasm"), Some(Platform::wasip1()));
        for bad in ["linux", "linux/", "/amd64", "linux/arm/v7"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_variant_is_of_its_platform() {
        let arm: Platform = "linux/arm".parse().unwrap();
        assert!(arm.is("linux/arm") && arm.is("linux/arm/v7"));
        assert!(!arm.is("linux/arm64") && !arm.is("linux"));
    }
}
