//! `wasm-image push`, `pull` and `copy`.

use std::path::PathBuf;

use super::{Apart, Format, Registry};
use crate::place::Place;

/// An image to send.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What the registry has already is not sent again: a push that was cut short is just repeated. What refers to the image
(its bill of materials, signatures) is sent with it.

Examples:
  wasm-image push app.tar
  wasm-image push app.tar registry.example/you/app:2")]
pub struct Push {
    /// The archive (FILE.tar) or OCI image layout (DIR)
    #[arg(value_name = "FILE.tar|DIR")]
    pub source: PathBuf,

    /// Its name in the registry [default: the one it has in the archive or layout]
    #[arg(value_name = "REF")]
    pub target: Option<String>,

    /// Which image, where the archive or layout has several: its name or digest
    #[arg(long, value_name = "NAME")]
    pub image: Option<String>,

    #[command(flatten)]
    pub registry: Registry,

    #[command(flatten)]
    pub format: Format,
}

/// An image to get.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
All platforms are kept, unless one is asked for. Into a layout (DIR), a pull that was cut short goes on with what is
missing.

Examples:
  wasm-image pull registry.example/you/app:1 -o app.tar
  wasm-image pull registry.example/you/app:1 -o - | ctr images import -
  wasm-image pull registry.example/you/app@sha256:0123… -o app/")]
pub struct Pull {
    /// The image, by tag or digest
    #[arg(value_name = "REF")]
    pub source: String,

    /// The archive (FILE.tar, FILE.tgz, or `-` for standard output) or OCI image layout (DIR) to write
    #[arg(short, long, value_name = "FILE.tar|DIR")]
    pub output: PathBuf,

    #[command(flatten)]
    pub apart: Apart,

    /// Get what refers to the image as well: signatures, bills of materials
    #[arg(long)]
    pub referrers: bool,

    #[command(flatten)]
    pub registry: Registry,

    #[command(flatten)]
    pub format: Format,
}

/// An image to copy.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A place is REF, FILE.tar, FILE.tgz or DIR (which begins with `/` or `.`, or is there), and TO may be `-`, standard
output; docker://REF, oci-archive:FILE and oci:DIR leave no doubt. The image keeps its digest.

Examples:
  wasm-image copy registry.example/you/app:1 mirror.example/you/app:1 --referrers
  wasm-image copy 127.0.0.1:5000/app:1 registry.example/you/app:1 --from-plain-http
  wasm-image copy app.tar oci:app")]
pub struct Copy {
    /// Where it is
    #[arg(value_name = "FROM")]
    pub source: Place,

    /// Where to put it
    #[arg(value_name = "TO")]
    pub target: Place,

    /// Which image, where FROM has several: its name or digest
    #[arg(long, value_name = "NAME")]
    pub image: Option<String>,

    /// Its name in an archive or layout [default: the one it has]
    #[arg(short, long = "tag", value_name = "REF")]
    pub tag: Option<String>,

    #[command(flatten)]
    pub apart: Apart,

    /// Copy what refers to the image as well: signatures, bills of materials
    #[arg(long)]
    pub referrers: bool,

    #[command(flatten)]
    registry: Registry,

    #[command(flatten)]
    ends: Ends,

    #[command(flatten)]
    pub format: Format,
}

/// How one of two registries is reached; what is said of both is for both.
#[derive(Debug, clap::Args)]
struct Ends {
    /// Speak HTTP with the registry of FROM alone
    #[arg(long)]
    from_plain_http: bool,

    /// Speak HTTP with the registry of TO alone
    #[arg(long)]
    to_plain_http: bool,

    /// Authorities to trust as FROM's
    #[arg(long, value_name = "FILE.pem")]
    from_ca_file: Vec<PathBuf>,

    /// Authorities to trust as TO's
    #[arg(long, value_name = "FILE.pem")]
    to_ca_file: Vec<PathBuf>,
}

impl Copy {
    /// How the registry of FROM is reached.
    pub fn from(&self) -> Registry {
        self.end(self.ends.from_plain_http, &self.ends.from_ca_file)
    }

    /// How the registry of TO is reached.
    pub fn to(&self) -> Registry {
        self.end(self.ends.to_plain_http, &self.ends.to_ca_file)
    }

    fn end(&self, plain_http: bool, ca_file: &[PathBuf]) -> Registry {
        let mut end = self.registry.clone();
        end.plain_http |= plain_http;
        end.ca_file.extend_from_slice(ca_file);
        end
    }
}
