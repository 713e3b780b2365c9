//! Kill: a signal to one process, or to all. To those of a paused container it comes when they go on; SIGKILL at
//! once.

use std::sync::Arc;

use containerd_shim::api::{Empty, KillRequest};
use nix::libc::SIGKILL;

use crate::errors::Error;
use crate::pod::{Shared, blocking};

/// Carries out Kill. One that comes too late is NotFound, which containerd takes for done.
pub async fn kill(shared: &Arc<Shared>, request: KillRequest) -> Result<Empty, Error> {
    let container = shared.container(&request.id)?;
    let process = container.process(&request.exec_id)?;
    if !sandbox::pidfd::is_signal(request.signal) {
        return Err(Error::Signal(request.signal));
    }
    let signal = request.signal as i32;
    if !request.exec_id.is_empty() {
        // One that is being started can be killed once it is.
        drop(process.transition.lock().await);
    }
    process.lifecycle().may_kill()?;
    if request.all && request.exec_id.is_empty() {
        return blocking(move || container.signal_all(signal).map(|()| Empty::new())).await;
    }
    process.signal(signal)?;
    if signal == SIGKILL {
        container.cgroup().thaw_for_kill();
    }
    Ok(Empty::new())
}
