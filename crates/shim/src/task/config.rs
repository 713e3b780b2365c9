//! Configuration of a container, with its Pod's annotations, even if containerd is not configured to pass them on.

use std::path::Path;
use std::sync::Arc;

use crate::annotations::Annotations;
use crate::config::ContainerConfig;
use crate::errors::Error;
use crate::pod::Shared;

/// Reads the configuration of a bundle.
///
/// # Errors
/// [`Error::Config`], and as of [`annotations`].
pub async fn read(shared: &Arc<Shared>, bundle: &Path) -> Result<ContainerConfig, Error> {
    let mut config = ContainerConfig::read(bundle)?;
    if let Some(annotations) = annotations(shared, &config).await? {
        config.annotate(annotations);
    }
    Ok(config)
}

/// Annotations of the Pod, if the configuration has none of them.
///
/// # Errors
/// [`Error::Image`] and [`Error::Setting`], if containerd must be asked for them.
pub async fn annotations(
    shared: &Arc<Shared>,
    config: &ContainerConfig,
) -> Result<Option<Annotations>, Error> {
    let Some(sandbox) = config.lacks_annotations_of() else { return Ok(None) };
    if config.is_sandbox() {
        // The sandbox needs none. Its containers are created soon, and will find them.
        let (shared, sandbox) = (shared.clone(), sandbox.to_owned());
        tokio::spawn(async move { drop(of_pod(&shared, &sandbox).await) });
        return Ok(None);
    }
    of_pod(shared, sandbox).await.map(Some)
}

/// Annotations of the Pod, from containerd's record of its sandbox. containerd is asked once.
async fn of_pod(shared: &Shared, sandbox: &str) -> Result<Annotations, Error> {
    let ask = async || {
        let _span = trace::span("ask for the Pod's annotations");
        let (containerd, namespace) = (&shared.containerd, &shared.namespace);
        let all = image::pod_annotations(containerd, namespace, sandbox).await?;
        Ok(Annotations::parse(&all)?)
    };
    shared.annotations.get_or_try_init(ask).await.cloned()
}
