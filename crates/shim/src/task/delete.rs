//! Delete: removes what a container left: processes, cgroup, mounts and state.

use std::sync::Arc;

use containerd_shim::api::{DeleteRequest, DeleteResponse};
use containerd_shim::protos::events::task::TaskDelete;
use nix::libc::SIGKILL;

use super::exec;
use crate::container::Container;
use crate::errors::Error;
use crate::events::timestamp;
use crate::lifecycle::State;
use crate::pod::{Shared, blocking};

/// Runs Delete, and publishes it.
pub async fn delete(shared: Arc<Shared>, request: DeleteRequest) -> Result<DeleteResponse, Error> {
    let container = shared.settled(&request.id).await?;
    if !request.exec_id.is_empty() {
        return exec::delete(&container, &request.exec_id).await;
    }
    let first = container.first();
    first.lifecycle().may_delete()?;
    let state = first.lifecycle().state();
    if matches!(state, State::Created | State::Starting) {
        first.signal(SIGKILL)?;
    }
    let exit = first.wait().await;
    first.read_to_the_end().await;
    clean(&shared, &container).await?;
    shared.forget(&request.id)?;
    shared.end_if_asked();
    let pid = first.raw_pid();
    let exited_at = timestamp(exit.at);
    shared.events.publish(TaskDelete {
        container_id: request.id,
        pid,
        exit_status: exit.code.into(),
        exited_at: Some(exited_at.clone()).into(),
        ..Default::default()
    });
    Ok(DeleteResponse {
        pid,
        exit_status: exit.code.into(),
        exited_at: Some(exited_at).into(),
        ..Default::default()
    })
}

async fn clean(shared: &Arc<Shared>, container: &Arc<Container>) -> Result<(), Error> {
    let (shared, container) = (shared.clone(), container.clone());
    blocking(move || {
        let destroyed = shared.zygote.destroy(container.bundle(), container.id());
        // This is done even if the rest failed.
        let unmounted = sandbox::rootfs::unmount(container.rootfs());
        if let Some(warning) = destroyed? {
            log::warn!("container {}: {warning}", container.id());
        }
        Ok(unmounted?)
    })
    .await
}
