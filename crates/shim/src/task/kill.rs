//! Kill: a signal to the first process, or to all. To those of a paused container it comes when they go on; SIGKILL
//! at once.

use std::sync::Arc;

use containerd_shim::api::{Empty, KillRequest};
use nix::libc::SIGKILL;

use super::service::{Shared, blocking};
use crate::errors::Error;
use crate::lifecycle::Refusal;

/// Carries out Kill. One that comes too late is NotFound, which containerd takes for done.
pub async fn kill(shared: &Arc<Shared>, request: KillRequest) -> Result<Empty, Error> {
    let container = shared.container(&request.id, &request.exec_id)?;
    if !sandbox::pidfd::is_signal(request.signal) {
        return Err(Error::Signal(request.signal));
    }
    let signal = request.signal as i32;
    container.lifecycle().may_kill()?;
    if request.all {
        return blocking(move || {
            container.cgroup().signal(signal)?;
            if signal == SIGKILL {
                container.cgroup().thaw_for_kill();
            }
            Ok(Empty::new())
        })
        .await;
    }
    if container.process().signal(signal)? {
        if signal == SIGKILL {
            container.cgroup().thaw_for_kill();
        }
        Ok(Empty::new())
    } else {
        Err(Refusal::Finished.into())
    }
}
