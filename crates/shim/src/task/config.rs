//! A container's config, with what its Pod's annotations set also where containerd was not told to pass them on.

use std::path::Path;
use std::sync::Arc;

use crate::annotations::Annotations;
use crate::config::ContainerConfig;
use crate::errors::Error;
use crate::pod::Shared;

/// Reads the config of a bundle.
///
/// # Errors
/// [`Error::Config`], and those of [`annotations`].
pub async fn read(shared: &Arc<Shared>, bundle: &Path) -> Result<ContainerConfig, Error> {
    let mut config = ContainerConfig::read(bundle)?;
    if let Some(annotations) = annotations(shared, &config).await? {
        config.annotate(annotations);
    }
    Ok(config)
}

/// What the Pod's annotations set, where the config has none of them.
///
/// # Errors
/// Where containerd has to be asked for them, [`Error::Image`] and [`Error::Setting`].
pub async fn annotations(
    shared: &Arc<Shared>,
    config: &ContainerConfig,
) -> Result<Option<Annotations>, Error> {
    let Some(sandbox) = config.lacks_annotations_of() else { return Ok(None) };
    if config.is_sandbox() {
        // Nothing is set for it. Its containers come soon, and then it is known.
        let (shared, sandbox) = (shared.clone(), sandbox.to_owned());
        tokio::spawn(async move { drop(of_pod(&shared, &sandbox).await) });
        return Ok(None);
    }
    of_pod(shared, sandbox).await.map(Some)
}

/// What the annotations of the Pod set, as containerd has them of its sandbox: asked for once.
async fn of_pod(shared: &Shared, sandbox: &str) -> Result<Annotations, Error> {
    let ask = async || {
        let _span = trace::span("ask for the Pod's annotations");
        let (containerd, namespace) = (&shared.containerd, &shared.namespace);
        let all = image::pod_annotations(containerd, namespace, sandbox).await?;
        Ok(Annotations::parse(&all)?)
    };
    shared.annotations.get_or_try_init(ask).await.cloned()
}
