//! Update: changes the limits of a running container.

use std::sync::Arc;

use containerd_shim::api::{Empty, UpdateTaskRequest};
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use oci_spec::runtime::LinuxResources;
use sandbox::{Change, Kind};
use serde::Deserialize;
use serde_json::Value;

use crate::container::Container;
use crate::errors::Error;
use crate::pod::{Shared, blocking};

/// Type of the limits, as containerd names messages that are JSON (containerd, typeurl).
const RESOURCES: &str = "LinuxResources";

/// Runs Update. If the container has ended it answers NotFound, which containerd regards as success.
pub async fn update(shared: Arc<Shared>, request: UpdateTaskRequest) -> Result<Empty, Error> {
    let container = shared.container(&request.id)?;
    container.first().lifecycle().may_update()?;
    let (resources, json) = resources(request.resources.as_ref())?;
    if is_by_another(&container) {
        shared.change(&container, Change::Update(json)).await?;
    }
    blocking(move || set(&container, &resources)).await?;
    Ok(Empty::new())
}

/// Whether another process than the shim must set the limits of the cgroup: runc keeps a program's limits in its state, and the
/// library that calls systemd would leave threads and memory in the shim.
fn is_by_another(container: &Container) -> bool {
    container.kind() == Kind::Program || container.cgroup().by_systemd()
}

/// Limits as far as this shim knows the fields, and with all fields.
fn resources(any: Option<&Any>) -> Result<(LinuxResources, Value), Error> {
    let any = any.ok_or_else(|| Error::Resources("there are none in the request".into()))?;
    if !any.type_url.ends_with(RESOURCES) {
        return Err(Error::Resources(format!("they are of type {:?}", any.type_url)));
    }
    let unreadable = |error: serde_json::Error| Error::Resources(error.to_string());
    let all: Value = serde_json::from_slice(&any.value).map_err(unreadable)?;
    let resources = LinuxResources::deserialize(&all).map_err(unreadable)?;
    Ok((resources, all))
}

fn set(container: &Container, resources: &LinuxResources) -> Result<(), Error> {
    if !is_by_another(container) {
        container.cgroup().update(resources)?;
    }
    let limit = resources.memory().as_ref().and_then(|memory| memory.limit());
    let Some(limit) = limit.filter(|limit| *limit != 0) else { return Ok(()) };
    // A Linux container can have exec processes that are guests.
    for process in container.processes().into_iter().filter(|process| process.is_guest()) {
        // A process that is not made yet gets the limit at its start. The pid of one that is reaped may be reused.
        let Some(child) = process.child() else { continue };
        if !child.signal(0)? {
            continue;
        }
        // A negative limit is none. The kernel's own limit is in force by now, even if this fails: without CAP_SYS_RESOURCE a
        // process of another user does not get it.
        let passed = sandbox::rlimit::pass_memory_limit(child, u64::try_from(limit).ok());
        if let Err(error) = passed {
            log::warn!("container {}: {error}", container.id());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any(type_url: &str, json: &str) -> Any {
        Any { type_url: type_url.into(), value: json.into(), ..Default::default() }
    }

    #[test]
    fn what_containerd_encodes_is_read() {
        let type_url = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
        let json = r#"{"devices":[],"memory":{"limit":4096,"inTheFuture":[1]},"cpu":{"shares":2}}"#;
        let (resources, all) = resources(Some(&any(type_url, json))).expect("are read");
        assert_eq!(resources.memory().expect("memory").limit(), Some(4096));
        assert_eq!(all["memory"]["inTheFuture"][0], 1, "an unknown field is lost");
    }

    #[test]
    fn anything_else_is_refused_with_its_type_or_place() {
        let refusal = |any: Option<&Any>| resources(any).expect_err("refused").to_string();
        assert!(refusal(None).contains("none in the request"));
        assert!(refusal(Some(&any("other.Message", "{}"))).contains("other.Message"));
        let text = refusal(Some(&any("x/LinuxResources", r#"{"memory":7}"#)));
        assert!(text.contains("integer `7`"), "{text}");
        let text = refusal(Some(&any("x/LinuxResources", r#"{"memory":"#)));
        assert!(text.contains("line 1"), "{text}");
    }
}
