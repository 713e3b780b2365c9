//! `delete`: what containerd runs after a shim has died, to take away what it left.

use std::io::Write;
use std::time::SystemTime;

use anyhow::Context;
use containerd_shim::Flags;
use containerd_shim::api::DeleteResponse;
use containerd_shim::protos::protobuf::Message;

use crate::events::timestamp;
use crate::start::{ADDRESS_FILE, socket_path};

/// What is told of a container whose own end nobody saw: killed (128 + SIGKILL).
const KILLED: u32 = 137;

/// Carries out the `delete` action: the bundle is the current folder, or what `-bundle` names.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    let _span = trace::span("delete");
    let bundle = if flags.bundle.is_empty() {
        std::env::current_dir().context("the bundle is gone")?
    } else {
        flags.bundle.clone().into()
    };
    let destroyed = sandbox::destroy(&bundle, &flags.id);
    let unmounted = sandbox::rootfs::unmount(&bundle.join("rootfs"));
    // Containers of a Pod share the socket: only a dead one's is removed.
    if let Ok(address) = std::fs::read_to_string(bundle.join(ADDRESS_FILE))
        && std::os::unix::net::UnixStream::connect(socket_path(&address)).is_err()
    {
        let _ = std::fs::remove_file(socket_path(&address));
    }
    if let Some(warning) = destroyed? {
        eprintln!("{warning}");
    }
    unmounted?;
    let response = DeleteResponse {
        exit_status: KILLED,
        exited_at: Some(timestamp(SystemTime::now())).into(),
        ..Default::default()
    };
    std::io::stdout().write_all(&response.write_to_bytes()?).context("answer containerd")
}
