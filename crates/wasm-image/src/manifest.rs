//! Manifests and indexes, as the shim reads them.

use oci_spec::image::Platform;

pub use rule::{Index, Manifest};

/// What a platform is called: `linux/amd64`, `linux/arm/v7`.
pub fn platform(platform: &Platform) -> String {
    let variant = platform.variant().iter().map(|it| format!("/{it}")).collect::<String>();
    format!("{}/{}{variant}", platform.os(), platform.architecture())
}
