//! A Pod's annotations, from containerd's record of its sandbox.
//!
//! CRI stores a Pod's configuration, as kubelet sent it, in an extension of the sandbox's container (containerd,
//! `pkg/store/sandbox/metadata.go`; the same in 1.x and 2.x). The OCI spec of a container has only those annotations
//! that `pod_annotations` of the runtime handler names.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::{Store, Timeouts, query};
use crate::Error;

/// Extension of a sandbox's container that has CRI's metadata.
const EXTENSION: &str = "io.cri-containerd.sandbox.metadata";

/// Placeholder for the entrypoint in errors of calls. It is not shown.
const NO_ENTRYPOINT: &str = "";

/// CRI's versioned metadata. Only the fields that lead to the annotations are read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Versioned {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    config: Option<Config>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    annotations: HashMap<String, String>,
}

/// Returns the annotations of the Pod whose sandbox has this id. Returns no annotations if the record has no such
/// extension, because then a program other than CRI made the Pod.
///
/// # Errors
/// [`Error::Annotations`] if containerd does not answer, or the record cannot be read.
pub async fn annotations(
    socket: &Path,
    namespace: &str,
    sandbox: &str,
    timeouts: Timeouts,
) -> Result<HashMap<String, String>, Error> {
    let ask = async |store: Store| {
        let record = store.container(sandbox).await?.unwrap_or_default();
        let Some(extension) = record.extensions.get(EXTENSION) else { return Ok(HashMap::new()) };
        read(&extension.value).map_err(|error| store.failed(&format!("{EXTENSION}: {error}")))
    };
    query(socket, namespace, NO_ENTRYPOINT, timeouts, ask).await.map_err(|error| match error {
        Error::Containerd { socket, reason, .. } => Error::Annotations { socket, reason },
        other => other,
    })
}

fn read(metadata: &[u8]) -> serde_json::Result<HashMap<String, String>> {
    let versioned: Versioned = serde_json::from_slice(metadata)?;
    Ok(versioned.metadata.config.map(|config| config.annotations).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_are_read_from_cris_sandbox_metadata() {
        let metadata = br#"{"Version": "v1", "Metadata": {"ID": "p1", "RuntimeHandler": "wasmtime", "Config":
            {"metadata": {"name": "p"}, "annotations": {"wasmtime.shim/preinit": "true", "a": "b"}}}}"#;
        let found = read(metadata).expect("is read");
        assert_eq!(found.get("wasmtime.shim/preinit").map(String::as_str), Some("true"));
        let none = br#"{"Version": "v1", "Metadata": {"ID": "p1", "Config": {"metadata": {}}}}"#;
        assert_eq!(read(none).expect("is read"), HashMap::new());
        let damaged = read(b"{}").expect_err("is refused").to_string();
        assert!(damaged.contains("Metadata"), "{damaged}");
    }

    #[tokio::test]
    async fn a_missing_containerd_is_named_in_the_error() {
        let socket = Path::new("/nowhere/c.sock");
        let error = annotations(socket, "k8s.io", "p1", Timeouts::default()).await;
        let text = error.expect_err("is refused").to_string();
        assert!(
            text.starts_with("containerd at /nowhere/c.sock cannot be asked for the Pod's"),
            "{text}"
        );
    }
}
