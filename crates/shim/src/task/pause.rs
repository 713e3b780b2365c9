//! Pause and Resume: all processes of a container stop where they are, and go on.

use std::sync::Arc;

use containerd_shim::api::{Empty, PauseRequest, ResumeRequest};
use containerd_shim::protos::events::task::{TaskPaused, TaskResumed};

use super::service::{Shared, blocking};
use crate::errors::Error;

/// Carries out Pause, and tells of it.
pub async fn pause(shared: Arc<Shared>, request: PauseRequest) -> Result<Empty, Error> {
    let container = shared.container(&request.id)?;
    let _alone = container.first().starting.lock().await;
    container.first().lifecycle().may_pause()?;
    container.first().lifecycle().pausing();
    let freezing = container.clone();
    if let Err(error) = blocking(move || Ok(freezing.cgroup().freeze()?)).await {
        container.first().lifecycle().resumed();
        return Err(error);
    }
    container.first().lifecycle().paused();
    shared.events.publish(TaskPaused { container_id: request.id, ..Default::default() });
    Ok(Empty::new())
}

/// Carries out Resume, and tells of it.
pub async fn resume(shared: Arc<Shared>, request: ResumeRequest) -> Result<Empty, Error> {
    let container = shared.container(&request.id)?;
    let _alone = container.first().starting.lock().await;
    container.first().lifecycle().may_resume()?;
    let thawing = container.clone();
    blocking(move || Ok(thawing.cgroup().thaw()?)).await?;
    container.first().lifecycle().resumed();
    shared.events.publish(TaskResumed { container_id: request.id, ..Default::default() });
    Ok(Empty::new())
}
