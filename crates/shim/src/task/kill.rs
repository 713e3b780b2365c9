//! Kill: a signal to one process, or to all.

use std::sync::Arc;

use containerd_shim::api::{Empty, KillRequest};

use super::service::{Shared, blocking};
use crate::errors::Error;

/// Carries out Kill. One that comes too late is NotFound, which containerd takes for done.
pub async fn kill(shared: &Arc<Shared>, request: KillRequest) -> Result<Empty, Error> {
    let container = shared.container(&request.id)?;
    let process = container.process(&request.exec_id)?;
    if !sandbox::pidfd::is_signal(request.signal) {
        return Err(Error::Signal(request.signal));
    }
    let signal = request.signal as i32;
    process.lifecycle().may_kill()?;
    if request.all && request.exec_id.is_empty() {
        return blocking(move || Ok(container.cgroup().signal(signal).map(|()| Empty::new())?))
            .await;
    }
    process.signal(signal).map(|()| Empty::new())
}
