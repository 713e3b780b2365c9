//! Manifests and indexes, as the shim reads them.

use oci_spec::image::Platform;

pub use rule::{Index, Manifest};

/// Returns the name of a platform: `linux/amd64` or `linux/arm/v7`.
pub fn platform(platform: &Platform) -> String {
    let variant = platform.variant().iter().map(|it| format!("/{it}")).collect::<String>();
    format!("{}/{}{variant}", platform.os(), platform.architecture())
}
