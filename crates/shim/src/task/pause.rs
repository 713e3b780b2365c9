//! Pause and Resume: freeze and thaw all processes of a container.

use std::sync::Arc;

use containerd_shim::api::{Empty, PauseRequest, ResumeRequest};
use containerd_shim::protos::events::task::{TaskPaused, TaskResumed};
use sandbox::{Change, Kind};

use crate::errors::Error;
use crate::pod::{Shared, blocking};

/// Runs Pause, and publishes it.
pub async fn pause(shared: Arc<Shared>, request: PauseRequest) -> Result<Empty, Error> {
    let container = shared.container(&request.id)?;
    let _transition = container.first().transition.lock().await;
    container.first().lifecycle().pause()?;
    let freezing = container.clone();
    let frozen = match container.kind() {
        Kind::Program => shared.change(&container, Change::Pause).await,
        Kind::Pause | Kind::Guest => blocking(move || Ok(freezing.cgroup().freeze()?)).await,
    };
    if let Err(error) = frozen {
        // The OCI runtime may have been killed after it had frozen some.
        let _ = container.cgroup().thaw();
        container.first().lifecycle().resumed();
        return Err(error);
    }
    container.first().lifecycle().paused();
    shared.events.publish(TaskPaused { container_id: request.id, ..Default::default() });
    Ok(Empty::new())
}

/// Runs Resume, and publishes it.
pub async fn resume(shared: Arc<Shared>, request: ResumeRequest) -> Result<Empty, Error> {
    let container = shared.container(&request.id)?;
    let _transition = container.first().transition.lock().await;
    container.first().lifecycle().may_resume()?;
    let thawing = container.clone();
    match container.kind() {
        Kind::Program => shared.change(&container, Change::Resume).await?,
        Kind::Pause | Kind::Guest => blocking(move || Ok(thawing.cgroup().thaw()?)).await?,
    }
    container.first().lifecycle().resumed();
    shared.events.publish(TaskResumed { container_id: request.id, ..Default::default() });
    Ok(Empty::new())
}
