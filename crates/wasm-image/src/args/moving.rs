//! Arguments of `wasm-image push`, `pull` and `copy`.

use std::path::PathBuf;

use super::{Apart, Format, Registry};
use crate::location::Location;

/// Image to send.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A push does not send what the registry already has, so repeat it if it was interrupted. It also sends the artifacts that
refer to the image (its bill of materials, signatures).

Examples:
  wasm-image push app.tar
  wasm-image push app.tar registry.example/you/app:2")]
pub struct Push {
    /// The archive (FILE.tar) or OCI image layout (DIR)
    #[arg(value_name = "FILE.tar|DIR")]
    pub source: PathBuf,

    /// Its name in the registry [default: its name in the archive or layout]
    #[arg(value_name = "REF")]
    pub target: Option<String>,

    /// The image's name or digest, if the archive or layout has several
    #[arg(long, value_name = "NAME")]
    pub image: Option<String>,

    #[command(flatten)]
    pub registry: Registry,

    #[command(flatten)]
    pub format: Format,
}

/// Image to fetch.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
All platforms are kept, unless you ask for one. If the output is a layout (DIR), an interrupted pull continues with what
is missing.

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

    /// Also fetch the artifacts that refer to the image: signatures, bills of materials
    #[arg(long)]
    pub referrers: bool,

    #[command(flatten)]
    pub registry: Registry,

    #[command(flatten)]
    pub format: Format,
}

/// Image to copy.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
FROM and TO are REF, FILE.tar, FILE.tgz or DIR (which must begin with `/` or `.`, or exist). TO may be `-` for standard
output. docker://REF, oci-archive:FILE and oci:DIR are unambiguous. The image keeps its digest.

Examples:
  wasm-image copy registry.example/you/app:1 mirror.example/you/app:1 --referrers
  wasm-image copy 127.0.0.1:5000/app:1 registry.example/you/app:1 --from-plain-http
  wasm-image copy app.tar oci:app")]
pub struct Copy {
    /// The source
    #[arg(value_name = "FROM")]
    pub source: Location,

    /// The destination
    #[arg(value_name = "TO")]
    pub target: Location,

    /// The image's name or digest, if FROM has several
    #[arg(long, value_name = "NAME")]
    pub image: Option<String>,

    /// Its name in an archive or layout [default: its present name]
    #[arg(short, long = "tag", value_name = "REF")]
    pub tag: Option<String>,

    #[command(flatten)]
    pub apart: Apart,

    /// Also copy the artifacts that refer to the image: signatures, bills of materials
    #[arg(long)]
    pub referrers: bool,

    #[command(flatten)]
    registry: Registry,

    #[command(flatten)]
    ends: Ends,

    #[command(flatten)]
    pub format: Format,
}

/// Options for the two registries. Common options apply to both.
#[derive(Debug, clap::Args)]
struct Ends {
    /// Use HTTP for the registry of FROM only
    #[arg(long)]
    from_plain_http: bool,

    /// Use HTTP for the registry of TO only
    #[arg(long)]
    to_plain_http: bool,

    /// Authorities to trust for FROM
    #[arg(long, value_name = "FILE.pem")]
    from_ca_file: Vec<PathBuf>,

    /// Authorities to trust for TO
    #[arg(long, value_name = "FILE.pem")]
    to_ca_file: Vec<PathBuf>,
}

impl Copy {
    /// Returns the options for the registry of FROM.
    pub fn from(&self) -> Registry {
        self.end(self.ends.from_plain_http, &self.ends.from_ca_file)
    }

    /// Returns the options for the registry of TO.
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
