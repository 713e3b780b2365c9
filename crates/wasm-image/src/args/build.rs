//! Arguments of `wasm-image build`.

use std::path::PathBuf;

use oci_client::Reference;

use super::values::{FileCopy, KeyValue, Port};
use super::{Destination, Format, Registry};
use crate::errors::Error;
use crate::location;
use crate::platform::Platform;

/// Examples in the output of `--help`.
pub const EXAMPLES: &str = "\
Examples:
  A component to a registry; a Pod needs no `command`:
      wasm-image build app.wasm -t registry.example/you/app:1 --push
  To an archive for `ctr image import`, or a directory (OCI image layout):
      wasm-image build app.wasm -t registry.example/you/app:1 -o app.tar
      wasm-image build app.wasm -t registry.example/you/app:1 -o app/
  Compressed, and with a bill of materials beside it:
      wasm-image build app.wasm -t registry.example/you/app:1 --compress --sbom --push
  With settings, and files in an ordinary layer, for two kinds of nodes:
      wasm-image build app.wasm -t registry.example/you/app:1 --push \\
          --env LOG=info --expose 8080 --user 1000 --workdir /data --file site.css:/www/site.css \\
          --platform linux/amd64 --platform linux/arm64
  The CNCF Wasm artifact, as `wkg oci push` makes it (its Pods need a `command`):
      wasm-image build app.wasm -t registry.example/you/app:1 --artifact --push
  An ordinary image for this machine's platform, with the guest as a file:
      wasm-image build -t registry.example/you/app:1 -o app.tar --file app.wasm:/app.wasm --entrypoint /app.wasm

The same input gives the same image, byte for byte.";

/// An image to build.
///
/// Without a `.wasm` file it is an ordinary image with the files of `--rootfs` and `--file` in one tar layer.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Build {
    /// Components or modules (.wasm, or .wat), each a layer of its own; the first is the application
    #[arg(value_name = "APP.wasm")]
    pub components: Vec<PathBuf>,

    /// Name and tag of the image, such as registry.example/team/app:1
    #[arg(short, long = "tag", value_name = "REF")]
    pub tag: String,

    #[command(flatten)]
    pub destination: Destination,

    /// Platform of the image; repeat for an index
    /// [default: this machine's with --file or --rootfs, because containerd unpacks files for no other; otherwise wasip2/wasm for a component, wasip1/wasm for a module]
    #[arg(
        long = "platform",
        value_name = "OS/ARCH",
        value_delimiter = ',',
        conflicts_with = "artifact"
    )]
    pub platforms: Vec<Platform>,

    /// Media type of the wasm layers
    #[arg(long, value_name = "TYPE", default_value = "application/wasm")]
    pub layer_media_type: String,

    /// Compress the layers with Zstandard (application/wasm+zstd, tar+zstd); this shim runs them, others may not
    #[arg(long, conflicts_with_all = ["artifact", "layer_media_type"])]
    pub compress: bool,

    /// A file to put in the image's root file system
    #[arg(long = "file", value_name = "SRC:DEST")]
    pub files: Vec<FileCopy>,

    /// A directory whose contents become the image's root file system
    #[arg(long, value_name = "DIR")]
    pub rootfs: Option<PathBuf>,

    /// One element of the entrypoint; repeat for more [default: /APP.wasm]
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub entrypoint: Vec<String>,

    /// One element of the default arguments; repeat for more
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub cmd: Vec<String>,

    /// An environment variable
    #[arg(long = "env", value_name = "K=V")]
    pub env: Vec<KeyValue>,

    /// The user that runs the image: a name or number, optionally with `:` and a group's
    #[arg(long, value_name = "USER[:GROUP]")]
    pub user: Option<String>,

    /// The working directory
    #[arg(long, value_name = "DIR")]
    pub workdir: Option<String>,

    /// A port that the guest listens on
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    pub expose: Vec<Port>,

    /// A label of the image
    #[arg(long = "label", value_name = "K=V")]
    pub labels: Vec<KeyValue>,

    /// An annotation of the image's manifest
    #[arg(long = "annotation", value_name = "K=V")]
    pub annotations: Vec<KeyValue>,

    /// Make a bill of materials (CycloneDX) that refers to the image, from the metadata in its WebAssembly: tools, and
    /// crates if it was built by `cargo auditable`
    #[arg(long)]
    pub sbom: bool,

    /// Make a CNCF Wasm OCI artifact: exactly one .wasm, and no option that such a config cannot express
    #[arg(long, conflicts_with_all = [
        "layer_media_type", "files", "rootfs", "entrypoint", "cmd", "env", "user", "workdir", "expose", "labels",
    ])]
    pub artifact: bool,

    #[command(flatten)]
    pub registry: Registry,

    #[command(flatten)]
    pub format: Format,
}

impl Build {
    /// Returns the image's name as containerd spells it, always with a tag.
    pub fn reference(&self) -> Result<Reference, Error> {
        tagged(&self.tag)
    }
}

/// Parses the name of an image to be made.
///
/// # Errors
/// [`Error::Usage`].
pub fn tagged(name: &str) -> Result<Reference, Error> {
    let reference = location::reference(name)?;
    match reference.digest() {
        None => Ok(reference),
        Some(_) => Err(Error::Usage(format!(
            "{name:?} names a digest, but the digest is not known before the image is built: give a tag"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_must_be_well_formed_and_without_digest() {
        assert_eq!(tagged("a.example/b:1").unwrap().whole(), "a.example/b:1");
        assert_eq!(tagged("b").unwrap().whole(), "docker.io/library/b:latest");
        assert!(tagged("a.example/B:1").is_err());
        assert!(tagged(&format!("a.example/b@sha256:{}", "0".repeat(64))).is_err());
    }
}
