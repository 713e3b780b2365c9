//! Finds out what a container runs, and has a guest compiled.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use sandbox::Workload;

use super::service::{Shared, blocking};
use crate::config::ContainerConfig;
use crate::errors::Error;
use crate::guests;

/// A workload, with its compiled code if it is a guest.
pub struct Found {
    /// For the zygote.
    pub workload: Workload,
    /// The sealed file with the code.
    pub code: Option<OwnedFd>,
}

/// The workload of a container whose root is mounted.
pub async fn find(
    shared: &Arc<Shared>,
    id: &str,
    config: &ContainerConfig,
) -> Result<Found, Error> {
    if config.is_sandbox() {
        return Ok(Found { workload: Workload::Pause, code: None });
    }
    let container = image::Container {
        containerd: Some(&shared.containerd),
        namespace: &shared.namespace,
        id,
        rootfs: config.rootfs(),
        args: config.args(),
        cwd: config.process().cwd(),
        env: config.env(),
        mounts: config.mounts(),
    };
    match image::resolve(&container).await? {
        image::Workload::Linux => Ok(Found { workload: Workload::Linux, code: None }),
        image::Workload::Wasm(component) => guest(shared, component, config).await,
    }
}

async fn guest(
    shared: &Arc<Shared>,
    component: image::Component,
    config: &ContainerConfig,
) -> Result<Found, Error> {
    let (shared, export) = (shared.clone(), component.export.clone());
    let compile = move || guests::compile(&shared.zygote, component.layers, component.export);
    let (world, code) = blocking(compile).await.map_err(|error| match error {
        Error::Guest(reason) => Error::Guest(format!("{}: {reason}", config.args().join(" "))),
        other => other,
    })?;
    let cwd = config.process().cwd().clone();
    let plan = engine::Plan::new(world, export, component.args, config.env(), cwd)?;
    Ok(Found { workload: Workload::Guest(guests::encode(&plan)), code: Some(code) })
}
