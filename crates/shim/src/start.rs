//! `start`: makes the serving process of a Pod, or finds the one that serves it already.
//!
//! The socket listens before the serving process exists, so that containerd's first call waits in the
//! kernel rather than in a loop, and a Pod's second `start` finds it by connecting.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use containerd_shim::{Flags, StartOpts, cgroup};

use crate::bootstrap;
use crate::config::ContainerConfig;
use crate::options::Options;

/// Where containerd 1.x reads the address after its own restart, in the bundle.
pub const ADDRESS_FILE: &str = "address";

/// Carries out the `start` action in the current folder, the bundle.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    let (request, dialect) = bootstrap::read(flags)?;
    let bundle = std::env::current_dir().context("the bundle is gone")?;
    let config = ContainerConfig::read(&bundle)?;
    let address = request.socket_address(config.sandbox_id().unwrap_or(&request.id));
    if let Some(listener) = listen(socket_path(&address))? {
        serve(&request, &address, listener)?;
    }
    std::fs::write(ADDRESS_FILE, &address).context("write the address file")?;
    bootstrap::reply(&address, dialect)
}

/// The path in a `unix://` address.
pub fn socket_path(address: &str) -> &Path {
    Path::new(address.strip_prefix("unix://").unwrap_or(address))
}

/// A listening socket, or none when somebody listens there. A socket whose owner is dead is replaced.
fn listen(path: &Path) -> anyhow::Result<Option<UnixListener>> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let context = || format!("listen on {}", path.display());
    match UnixListener::bind(path) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            if UnixStream::connect(path).is_ok() {
                return Ok(None);
            }
            std::fs::remove_file(path).with_context(context)?;
            UnixListener::bind(path).with_context(context).map(Some)
        }
        other => other.with_context(context).map(Some),
    }
}

/// Executes this binary again, with the listener as its standard input.
fn serve(request: &StartOpts, address: &str, listener: UnixListener) -> anyhow::Result<()> {
    join_cgroup(request)?;
    let shim = std::env::current_exe().context("find this binary")?;
    let mut command = Command::new(shim);
    command
        .args(["-namespace", &request.namespace, "-id", &request.id])
        .args(["-address", &request.address, "-socket", address])
        .args(request.debug.then_some("-debug"))
        .env("TTRPC_ADDRESS", &request.ttrpc_address)
        .stdin(Stdio::from(OwnedFd::from(listener)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Signals to containerd's process group are not for the Pods.
        .process_group(0);
    let child = command.spawn().context("execute the serving process");
    if child.is_err() {
        let _ = std::fs::remove_file(socket_path(address));
    }
    let child = child?;
    cgroup::adjust_oom_score(child.id())
        .context("raise the shim's oom_score_adj above containerd's")
}

/// This process joins, and what it executes is born there (runtime option `ShimCgroup`).
fn join_cgroup(request: &StartOpts) -> anyhow::Result<()> {
    let cgroup = Options::parse(request.extensions.first())?.shim_cgroup;
    if cgroup.is_empty() {
        return Ok(());
    }
    cgroup::add_task_to_cgroup(&cgroup, std::process::id())
        .with_context(|| format!("join ShimCgroup {cgroup:?} of the runtime options"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_live_socket_is_shared_and_a_dead_one_replaced() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("s/socket");
        let first = listen(&path).expect("listens").expect("is the first");
        assert!(listen(&path).expect("connects").is_none());
        drop(first);
        assert!(listen(&path).expect("replaces").is_some());
    }
}
