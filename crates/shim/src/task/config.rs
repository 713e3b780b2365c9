//! Configuration of a container, with all annotations of its Pod.
//!
//! containerd passes only those on that its configuration names: none on a stock node, and some if the configuration was
//! written by hand. A Pod that sets `profile` must not run without it because of that. So the Pod's record is always
//! read: once for a Pod, while its sandbox is made.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use plan::annotations::is_ours;

use crate::config::ContainerConfig;
use crate::errors::Error;
use crate::pod::Shared;

/// Reads the configuration of a bundle.
///
/// # Errors
/// [`Error::Config`], [`Error::Setting`], and as of [`annotations`].
pub async fn read(shared: &Arc<Shared>, bundle: &Path) -> Result<ContainerConfig, Error> {
    let mut config = ContainerConfig::read(bundle)?;
    let annotations = annotations(shared, &config).await?;
    config.annotate(annotations)?;
    Ok(config)
}

/// Annotations of the Pod for this runtime; none if there is no Pod of CRI.
///
/// # Errors
/// [`Error::Image`], if containerd does not answer.
pub async fn annotations(
    shared: &Arc<Shared>,
    config: &ContainerConfig,
) -> Result<HashMap<String, String>, Error> {
    let Some(sandbox) = config.may_lack_annotations_of() else { return Ok(HashMap::new()) };
    if config.is_sandbox() {
        // The sandbox needs none. Its containers are created soon, and will find them.
        let (shared, sandbox) = (shared.clone(), sandbox.to_owned());
        tokio::spawn(async move { drop(of_pod(&shared, &sandbox).await) });
        return Ok(HashMap::new());
    }
    of_pod(shared, sandbox).await
}

/// Annotations of the Pod, from containerd's record of its sandbox. containerd is asked once.
async fn of_pod(shared: &Shared, sandbox: &str) -> Result<HashMap<String, String>, Error> {
    let ask = async || {
        let _span = trace::span("ask for the Pod's annotations");
        let (containerd, namespace) = (&shared.containerd, &shared.namespace);
        let mut all = image::pod_annotations(containerd, namespace, sandbox).await?;
        all.retain(|key, _| is_ours(key));
        Ok(all)
    };
    shared.annotations.get_or_try_init(ask).await.cloned()
}
