//! The command line: what the packer can be asked to do.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use oci_spec::distribution::Reference;

use crate::config::Platform;

/// Packs WebAssembly guests as OCI images.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write an OCI image as a tar archive, ready for `ctr image import`
    Build(Box<Build>),
    /// Turn a core module of WASI 0.1 into a component of WASI 0.2
    Componentize(Convert),
    /// Turn WebAssembly text (.wat) into its binary form
    Wat(Convert),
}

/// An image to build.
///
/// Without `--wasm-layer` and `--artifact` it is an ordinary image: the files of `--rootfs` and
/// `--file` in one tar layer.
#[derive(Debug, Default, clap::Args)]
pub struct Build {
    /// Name and tag of the image, such as registry.example/team/app:1
    #[arg(short, long = "tag", value_name = "REF")]
    pub tag: String,

    /// The archive to write
    #[arg(short, long, value_name = "FILE.tar")]
    pub output: PathBuf,

    /// Platform of the image [default: wasip1/wasm with wasm layers, else linux and this machine's]
    #[arg(long, value_name = "OS/ARCH", conflicts_with = "artifact")]
    pub platform: Option<Platform>,

    /// A component or module that becomes a layer of its own; the first is the application
    #[arg(long = "wasm-layer", value_name = "FILE")]
    pub wasm_layers: Vec<PathBuf>,

    /// Media type of the wasm layers
    #[arg(long, value_name = "TYPE", default_value = "application/wasm")]
    pub layer_media_type: String,

    /// A file to put in the image's root file system
    #[arg(long = "file", value_name = "SRC:DEST")]
    pub files: Vec<FileCopy>,

    /// A folder whose contents become the image's root file system
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,

    /// One element of the entrypoint; repeat for more
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub entrypoint: Vec<String>,

    /// One element of the default arguments; repeat for more
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub cmd: Vec<String>,

    /// A variable of the environment
    #[arg(long = "env", value_name = "K=V")]
    pub env: Vec<KeyValue>,

    /// Who runs it: a user's name or number, with `:` and a group's where wanted
    #[arg(long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// A label of the image
    #[arg(long = "label", value_name = "K=V")]
    pub labels: Vec<KeyValue>,

    /// Make a CNCF Wasm OCI artifact: exactly one --wasm-layer and nothing that such a config lacks
    #[arg(long, conflicts_with_all = [
        "layer_media_type", "files", "rootfs", "entrypoint", "cmd", "env", "user", "labels",
    ])]
    pub artifact: bool,
}

impl Build {
    /// The image's name as containerd spells it, always with a tag.
    pub fn reference(&self) -> Result<Reference> {
        let reference: Reference = self.tag.parse().with_context(|| {
            format!("{:?} is not an image reference such as registry.example/app:1", self.tag)
        })?;
        ensure!(
            reference.digest().is_none(),
            "{:?} names a digest, but the digest is not known before the image is built: give a tag",
            self.tag
        );
        Ok(reference)
    }
}

/// A file to turn into another.
#[derive(Debug, clap::Args)]
pub struct Convert {
    /// The file to read
    pub input: PathBuf,

    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// `SRC:DEST`: a file of this machine and its place in the image, an absolute path.
#[derive(Clone, Debug, PartialEq)]
pub struct FileCopy {
    /// The file to read.
    pub source: PathBuf,
    /// Where it goes, without the leading slash.
    pub destination: PathBuf,
}

impl std::str::FromStr for FileCopy {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (source, destination) = text.rsplit_once(':').context("expected SRC:DEST")?;
        let path = destination.strip_prefix('/').context("DEST must be an absolute path")?;
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        ensure!(path.split('/').all(plain), "DEST must name a file, without `.` and `..`");
        Ok(Self { source: source.into(), destination: path.into() })
    }
}

/// `K=V`, where `V` may be empty and may hold further `=`.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyValue {
    /// What stands before the first `=`.
    pub key: String,
    /// What stands after it.
    pub value: String,
}

impl std::str::FromStr for KeyValue {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (key, value) = text.split_once('=').context("expected K=V")?;
        ensure!(!key.is_empty(), "expected K=V with a name before the `=`");
        Ok(Self { key: key.into(), value: value.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }

    #[test]
    fn a_file_copy_needs_an_absolute_destination() {
        let copy: FileCopy = "a:b/app.wasm:/bin/app.wasm".parse().unwrap();
        assert_eq!(copy.source, PathBuf::from("a:b/app.wasm"));
        assert_eq!(copy.destination, PathBuf::from("bin/app.wasm"));
        for bad in ["app.wasm", "app.wasm:app.wasm", "app.wasm:/", "app.wasm:/../x"] {
            assert!(bad.parse::<FileCopy>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_variable_may_be_empty_but_not_nameless() {
        let parse = |text: &str| text.parse::<KeyValue>().map(|it| (it.key, it.value)).ok();
        assert_eq!(parse("A=b=c"), Some(("A".into(), "b=c".into())));
        assert_eq!(parse("A="), Some(("A".into(), String::new())));
        assert_eq!(parse("A"), None);
        assert_eq!(parse("=b"), None);
    }

    #[test]
    fn an_artifact_takes_no_rootfs_and_no_entrypoint() {
        let line =
            "wasm-image build -t a.example/b:1 -o x --artifact --wasm-layer f --entrypoint f";
        assert!(Args::try_parse_from(line.split(' ')).is_err());
    }

    #[test]
    fn a_reference_must_be_well_formed_and_without_digest() {
        let named = |tag: &str| Build { tag: tag.into(), ..Build::default() }.reference();
        assert_eq!(named("a.example/b:1").unwrap().whole(), "a.example/b:1");
        assert_eq!(named("b").unwrap().whole(), "docker.io/library/b:latest");
        assert!(named("a.example/B:1").is_err());
        assert!(named(&format!("a.example/b@sha256:{}", "0".repeat(64))).is_err());
    }
}
