//! A Pod's annotations, from containerd's record of its sandbox.
//!
//! CRI keeps a Pod's configuration, as kubelet sent it, in an extension of the sandbox's container (containerd,
//! `pkg/store/sandbox/metadata.go`; the same in 1.x and 2.x). The OCI spec of a container has only those annotations
//! that `pod_annotations` of the runtime handler names.

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use super::{Patience, Store, asked};
use crate::Error;

/// The extension of a sandbox's container that has its metadata.
const EXTENSION: &str = "io.cri-containerd.sandbox.metadata";

/// What the error of a call names in place of an entrypoint; it is not shown.
const NOTHING: &str = "";

/// The metadata, versioned, and of all that is in it the annotations alone.
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

/// The annotations of the Pod whose sandbox has that id. None where containerd has no such record: the Pod was made by
/// another program than CRI.
///
/// # Errors
/// [`Error::Annotations`] when containerd does not answer, or the record cannot be read.
pub async fn annotations(
    socket: &Path,
    namespace: &str,
    sandbox: &str,
    patience: Patience,
) -> Result<HashMap<String, String>, Error> {
    let ask = async |store: Store| {
        let record = store.container(sandbox).await?.unwrap_or_default();
        let Some(extension) = record.extensions.get(EXTENSION) else { return Ok(HashMap::new()) };
        read(&extension.value).map_err(|error| store.failed(&format!("{EXTENSION}: {error}")))
    };
    asked(socket, namespace, NOTHING, patience, ask).await.map_err(|error| match error {
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
    fn the_annotations_are_found_among_what_cri_keeps() {
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
    async fn a_containerd_that_is_not_there_is_told_as_such() {
        let socket = Path::new("/nowhere/c.sock");
        let error = annotations(socket, "k8s.io", "p1", Patience::default()).await;
        let text = error.expect_err("is refused").to_string();
        assert!(
            text.starts_with("containerd at /nowhere/c.sock cannot be asked for the Pod's"),
            "{text}"
        );
    }
}
