//! Start: releases a created container, or makes an exec process.

use std::sync::Arc;

use containerd_shim::api::{StartRequest, StartResponse};
use containerd_shim::protos::events::task::TaskStart;
use sandbox::{Kind, Request};

use super::exec;
use crate::container::Container;
use crate::errors::Error;
use crate::pod::{Caller, Shared, blocking};

/// Runs Start, and publishes it before the container's exit can be published. Start of an exec process that is still being
/// compiled at the deadline is refused.
pub async fn start(
    shared: Arc<Shared>,
    request: StartRequest,
    caller: Caller,
) -> Result<StartResponse, Error> {
    let container = shared.container(&request.id)?;
    if !request.exec_id.is_empty() {
        return exec::start(&shared, container, request.exec_id, &caller).await;
    }
    let _span = trace::span("Start");
    let _transition = container.first().transition.lock().await;
    let begun = container.first().begin_start()?;
    release(&shared, &container, &caller).await?;
    begun.succeeded();
    if container.kind() == Kind::Pause {
        // The Pod's first container is created next.
        shared.expect_join();
    }
    // Memory that was needed to make the container is not needed while it runs.
    sandbox::heap::trim();
    sandbox::stack::trim();
    let pid = container.first().raw_pid();
    shared.events.publish(TaskStart { container_id: request.id, pid, ..Default::default() });
    Ok(StartResponse { pid, ..Default::default() })
}

/// Releases the container. Only an OCI runtime and hooks need a process of their own for that.
async fn release(
    shared: &Arc<Shared>,
    container: &Container,
    caller: &Caller,
) -> Result<(), Error> {
    let bundle = container.bundle().to_owned();
    if container.kind() != Kind::Program && !container.has_poststart_hooks() {
        return blocking(move || Ok(sandbox::release(&bundle)?)).await;
    }
    let start = Request::Start { bundle, id: container.id().to_owned(), time: caller.time() };
    let shared = shared.clone();
    blocking(move || Ok(shared.zygote.call(&start).map(drop)?)).await
}
