//! The `delete` action, which containerd runs after a shim has died, to remove what the shim left.

use std::io::Write;
use std::time::SystemTime;

use anyhow::Context;
use containerd_shim::Flags;
use containerd_shim::api::DeleteResponse;
use containerd_shim::protos::protobuf::Message;

use crate::events::timestamp;
use crate::lifecycle::KILLED;
use crate::start::{ADDRESS_FILE, socket_path};

/// Runs the `delete` action. The bundle is the working directory, or named by `-bundle`.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    let _span = trace::span("delete");
    let bundle = if flags.bundle.is_empty() {
        std::env::current_dir().context("the bundle is gone")?
    } else {
        flags.bundle.clone().into()
    };
    let destroyed = sandbox::destroy(&bundle, &flags.id);
    let unmounted = sandbox::rootfs::unmount(&bundle.join("rootfs"));
    // Containers of a Pod share the socket, so it is only removed if no shim listens on it.
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
        // Its end was not observed.
        exit_status: KILLED.into(),
        exited_at: Some(timestamp(SystemTime::now())).into(),
        ..Default::default()
    };
    std::io::stdout().write_all(&response.write_to_bytes()?).context("answer containerd")
}
