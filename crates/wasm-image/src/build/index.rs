//! Builds an image for several platforms (OCI image specification, "Image Index").

use std::collections::HashSet;

use anyhow::Result;
use oci_spec::image::Descriptor;
use serde_json::{Value, json};

use super::media_type;
use crate::errors::Error;
use crate::platform::Platform;
use crate::store::Layout;

/// Returns the image that `image` makes for one platform, or an index of the images for several.
///
/// # Errors
/// [`Error::Usage`] if a platform is given twice, and the errors of `image`.
pub fn of(
    layout: &Layout,
    platforms: &[Platform],
    annotations: Value,
    image: impl Fn(&Platform) -> Result<Descriptor>,
) -> Result<Descriptor> {
    if let [platform] = platforms {
        return image(platform);
    }
    let (mut manifests, mut seen) = (Vec::new(), HashSet::new());
    for platform in platforms {
        if !seen.insert(platform.to_string()) {
            return Err(Error::Usage(format!("--platform names {platform} twice")).into());
        }
        let made = image(platform)?;
        manifests.push(json!({
            "mediaType": made.media_type(),
            "digest": made.digest(),
            "size": made.size(),
            "platform": { "architecture": platform.architecture, "os": platform.os },
        }));
    }
    let media_type = media_type::INDEX;
    let mut index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
    if annotations.as_object().is_some_and(|it| !it.is_empty()) {
        index["annotations"] = annotations;
    }
    layout.add(media_type, index.to_string().as_bytes())
}
