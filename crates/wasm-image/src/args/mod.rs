//! Defines the command line. [`build`] has the longest command, [`moving`] those that move an image, and [`values`] the
//! values of single options.

mod build;
mod moving;
mod values;

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

pub use build::{Build, tagged};
pub use moving::{Copy, Pull, Push};
pub use values::{FileCopy, KeyValue, Port};

use crate::location::Location;
use crate::platform::Platform;
pub use crate::registry::Options as Registry;

const EXIT_CODES: &str = "\
Examples:
  wasm-image build app.wasm -t registry.example/you/app:1 --push   # build and push
  wasm-image inspect app.wasm                                      # what is it, and would it run?
  wasm-image copy registry.example/you/app:1 mirror.example/app:1  # from registry to registry
  wasm-image convert registry.example/you/lib:1 -t registry.example/you/app:1 --push

Credentials are those of `docker login` and `podman login`, including credential helpers.

Exit codes:
  0  done
  1  failed: a file, a refusal by the registry, a server that is not a registry, or content that does not match its digest
  2  the command line was wrong
  3  no such image, blob or file
  4  the registry refuses the credentials, or the configured credentials cannot be read
  5  `inspect`, `compose`: this version of the shim cannot run the image
  6  the registry, or for `warm` containerd, could not be used after all retries (429, 5xx, no connection); try again later
  7  `policy check`: a node with this policy would not create a container";

/// Builds, moves and explains OCI images of WebAssembly guests.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXIT_CODES)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// The command to run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build an image, and write or push it
    Build(Box<Build>),
    /// Send an image from an archive or layout to a registry
    Push(Push),
    /// Fetch an image from a registry into an archive or layout
    Pull(Pull),
    /// Copy an image between registries, archives and layouts
    Copy(Copy),
    /// Turn an artifact (as of `wkg oci push`), or an image for wasm with ordinary layers, into an image that runs
    Convert(Convert),
    /// Describe an image or .wasm file: what it is, what it needs, and whether it would run
    Inspect(Inspect),
    /// Compare Pods with a node's policy for guests
    #[command(subcommand)]
    Policy(Policy),
    /// Make the node compile an image before its first container
    Warm(Warm),
    /// Compose several components into one, as the node does with an image that has them as layers
    Compose(Compose),
    /// Turn a core module of WASI 0.1 into a component of WASI 0.2
    Componentize(Turn),
    /// Turn WebAssembly text (.wat) into its binary form
    Wat(Turn),
    /// Write man pages and completions, for packages
    #[command(hide = true)]
    Pages(pages::Pages),
}

/// Format of a command's report.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Format {
    /// Format of the report on standard output
    #[arg(long = "format", value_enum, default_value_t)]
    pub kind: Kind,
}

/// A format of reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, ValueEnum)]
pub enum Kind {
    /// Text to be read by people
    #[default]
    Text,
    /// One JSON document
    Json,
}

/// Destinations of an image that is made. At least one must be given.
#[derive(Debug, Default, clap::Args)]
#[group(required = true, multiple = true)]
pub struct Destination {
    /// The archive (FILE.tar, FILE.tgz, or `-` for standard output) or OCI image layout (DIR) to write
    #[arg(short, long, value_name = "FILE.tar|DIR")]
    pub output: Option<PathBuf>,

    /// Push the image to the registry that its name begins with
    #[arg(long)]
    pub push: bool,
}

/// Selects one image of an index.
#[derive(Debug, Default, clap::Args)]
pub struct Apart {
    /// Take only the image for this platform from an index; it has a digest of its own
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<Platform>,
}

/// An artifact or image to convert.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Layers stay as they are. An artifact becomes an image whose Pods need no `command`. An image for a platform of wasm
with ordinary layers, as `FROM scratch` and `COPY app.wasm /` make it with `--platform wasi/wasm`, becomes one for the
node's platform, because containerd 2.3 and later unpack files for no other.

Examples:
  wasm-image convert registry.example/you/lib:1 -t registry.example/you/app:1 --push
  wasm-image convert registry.example/you/app:1 -t registry.example/you/app:2 --platform linux/arm64 --push
  wasm-image convert lib.tar -t registry.example/you/app:1 -o app.tar --entrypoint /app.wasm")]
pub struct Convert {
    /// The artifact or image: REF, FILE.tar or DIR
    #[arg(value_name = "FROM")]
    pub source: Location,

    /// Name and tag of the image
    #[arg(short, long = "tag", value_name = "REF")]
    pub tag: String,

    #[command(flatten)]
    pub destination: Destination,

    /// Platform of the image; repeat for an index
    /// [default: wasip2/wasm or wasip1/wasm for an artifact, otherwise this machine's]
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    pub platforms: Vec<Platform>,

    /// One element of the entrypoint; repeat for more [default: the image's, or /NAME.wasm from its name]
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub entrypoint: Vec<String>,

    /// An environment variable
    #[arg(long = "env", value_name = "K=V")]
    pub env: Vec<KeyValue>,

    #[command(flatten)]
    pub registry: Registry,

    #[command(flatten)]
    pub format: Format,
}

/// What to inspect.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exits with 5 if this version of the shim cannot run it, so that CI can stop there.

Examples:
  wasm-image inspect app.wasm
  wasm-image inspect registry.example/you/app:1 --format json | jq .guests[0].imports")]
pub struct Inspect {
    /// An image (REF, FILE.tar or DIR), or a .wasm or .wat file
    #[arg(value_name = "REF|FILE")]
    pub what: String,

    /// The image's name or digest, if there are several
    #[arg(long, value_name = "NAME")]
    pub image: Option<String>,

    /// The platform of the node that is to run it [default: Linux on this machine's processor]
    #[arg(long, value_name = "OS/ARCH")]
    pub node: Option<rule::Platform>,

    /// The version of the node's containerd
    #[arg(long, value_name = "VERSION", default_value = "2.4")]
    pub containerd: rule::Containerd,

    #[command(flatten)]
    pub registry: Registry,

    #[command(flatten)]
    pub format: Format,
}

/// Commands about a node's policy.
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Say whether a node would create the containers of a Pod, and what their guests would be granted
    Check(Check),
}

/// What to check.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads Pods, and the Pod templates of Deployments and other workloads. Every container is checked as a guest, because only
its image says whether it is one. Exits with 7 if a container would be refused, so that CI can stop there. A policy that
does not parse is an error (1).

Examples:
  wasm-image policy check pod.yaml --policy node.toml
  kustomize build . | wasm-image policy check - --policy node.toml --images")]
pub struct Check {
    /// Manifests in YAML or JSON, or - for standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,

    /// The node's file; by default, that of a node without one
    #[arg(long, value_name = "FILE.toml")]
    pub policy: Option<PathBuf>,

    /// The namespace of Pods that name none
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub namespace: String,

    /// Read what each image needs from its registry
    #[arg(long)]
    pub images: bool,

    #[command(flatten)]
    pub registry: Registry,

    #[command(flatten)]
    pub format: Format,
}

/// What to compose.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The first component is the application. Each import must be provided by a component that exports an interface of the
same name and a compatible version, or else by the host. Components that nothing imports from are left out. Exits with
5 if the node could not compose them: nothing provides an import, two components do, or they import from each other in
a circle.

Examples:
  wasm-image compose app.wasm db.wasm log.wasm -o whole.wasm
  wasm-image compose registry.example/you/app:1 -o whole.wasm")]
pub struct Compose {
    /// Components (.wasm or .wat), the application first; or one image (REF, FILE.tar or DIR) with such layers
    #[arg(value_name = "APP.wasm|REF", required = true)]
    pub what: Vec<String>,

    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    /// The image's name or digest, if there are several
    #[arg(long, value_name = "NAME")]
    pub image: Option<String>,

    #[command(flatten)]
    pub registry: Registry,

    #[command(flatten)]
    pub format: Format,
}

/// What to compile ahead.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Asks the node's containerd to create a container of the image, which makes the shim compile it, and removes the
container without starting it. The image must be on the node. Run this command there as root, in an init step or in a
DaemonSet that mounts /run/containerd.

Examples:
  wasm-image warm registry.example/you/app:1
  wasm-image warm registry.example/you/app:1 --address /run/other/containerd.sock")]
pub struct Warm {
    /// The image's name on the node
    #[arg(value_name = "REF")]
    pub image: String,

    /// containerd's socket; by default the first one that exists of containerd, k3s and RKE2, k0s, and MicroK8s
    #[arg(long, value_name = "SOCKET", env = "CONTAINERD_ADDRESS")]
    pub address: Option<PathBuf>,

    /// containerd's namespace; by default that of Kubernetes
    #[arg(long, value_name = "NAME", default_value = "k8s.io")]
    pub namespace: String,

    /// The snapshotter that has the image's files, if it has any
    #[arg(long, value_name = "NAME", default_value = "overlayfs")]
    pub snapshotter: String,

    #[command(flatten)]
    pub format: Format,
}

/// A file to convert.
#[derive(Debug, clap::Args)]
pub struct Turn {
    /// The file to read
    pub input: PathBuf,

    /// The file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
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
    fn an_artifact_takes_no_rootfs_and_no_entrypoint() {
        for option in ["--entrypoint f", "--rootfs d", "--user 1", "--expose 80"] {
            let line = format!("wasm-image build f -t a.example/b:1 -o x --artifact {option}");
            assert!(Args::try_parse_from(line.split(' ')).is_err(), "{option}");
        }
    }

    #[test]
    fn an_image_goes_somewhere() {
        let parse = |line: &str| Args::try_parse_from(line.split(' ')).is_ok();
        assert!(!parse("wasm-image build f -t a.example/b:1"));
        assert!(parse("wasm-image build f -t a.example/b:1 -o x --push"));
    }
}
