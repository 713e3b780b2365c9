//! Kill: sends a signal to one process, or to all. Processes of a paused container get it when they are resumed, except for
//! SIGKILL, which they get at once.

use std::sync::Arc;

use containerd_shim::api::{Empty, KillRequest};
use nix::libc::SIGKILL;

use crate::errors::Error;
use crate::pod::{Shared, blocking};

/// Runs Kill. If the process has ended it answers NotFound, which containerd regards as success.
pub async fn kill(shared: &Arc<Shared>, request: KillRequest) -> Result<Empty, Error> {
    let container = shared.container(&request.id)?;
    let process = container.process(&request.exec_id)?;
    if !sandbox::pidfd::is_signal(request.signal) {
        return Err(Error::Signal(request.signal));
    }
    let signal = request.signal as i32;
    if !request.exec_id.is_empty() {
        // A process that is being started can only be killed afterwards.
        drop(process.transition.lock().await);
    }
    process.lifecycle().may_kill()?;
    if signal == SIGKILL && request.exec_id.is_empty() {
        container.kill_is_asked();
    }
    if request.all && request.exec_id.is_empty() {
        return blocking(move || container.signal_all(signal).map(|()| Empty::new())).await;
    }
    process.signal(signal)?;
    if signal == SIGKILL {
        container.cgroup().thaw_for_kill();
    }
    Ok(Empty::new())
}
