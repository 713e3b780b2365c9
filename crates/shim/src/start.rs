//! `start`: makes the serving process of a Pod, or finds the one that serves it already.
//!
//! The socket listens before the serving process exists, so that containerd's first call waits in the
//! kernel rather than in a loop, and a Pod's second `start` finds it by connecting.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use containerd_shim::{Flags, StartOpts, cgroup};
use nix::fcntl::{Flock, FlockArg};
use sandbox::unwritable;

use crate::bootstrap;
use crate::config::ContainerConfig;
use crate::options::Options;

/// Where containerd 1.x reads the address after its own restart, in the bundle.
pub const ADDRESS_FILE: &str = "address";

/// Carries out the `start` action in the current folder, the bundle.
pub fn run(flags: &Flags) -> anyhow::Result<()> {
    let _span = trace::span("start");
    let (request, dialect) = bootstrap::read(flags)?;
    let bundle = std::env::current_dir().context("the bundle is gone")?;
    let config = ContainerConfig::read(&bundle)?;
    let address = request.socket_address(config.sandbox_id().unwrap_or(&request.id));
    // Before there is anything that the delete action would have to find by it.
    std::fs::write(ADDRESS_FILE, &address).context("write the address file")?;
    let Some(listener) = listen(socket_path(&address))? else {
        return bootstrap::reply(&address, dialect);
    };
    // The serving process inherits it, and so does what that forks at once.
    let protected = cgroup::adjust_oom_score(std::process::id())
        .context("raise the shim's oom_score_adj above containerd's");
    let served = protected.and_then(|()| serve(&request, &address, listener));
    let mut child = served.inspect_err(|_| remove(&address))?;
    bootstrap::reply(&address, dialect).inspect_err(|_| {
        // Nobody knows of it: it would serve for ever.
        let _ = child.kill();
        remove(&address);
    })
}

fn remove(address: &str) {
    // The error that is told is the one before.
    let _ = std::fs::remove_file(socket_path(address));
}

/// The path in a `unix://` address.
pub fn socket_path(address: &str) -> &Path {
    Path::new(address.strip_prefix("unix://").unwrap_or(address))
}

/// A listening socket, or none when somebody listens there. A socket whose owner is dead is replaced.
fn listen(path: &Path) -> anyhow::Result<Option<UnixListener>> {
    let context = || format!("listen on {}", path.display());
    let folder = path.parent().with_context(context)?;
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    // Two at once would both find a dead socket, and the second replace the first's.
    let folder = File::open(folder).with_context(context)?;
    let _one_at_a_time = Flock::lock(folder, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .with_context(context)?;
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

/// Executes this binary again, out of the containers' reach, with the listener as its standard input.
fn serve(request: &StartOpts, address: &str, listener: UnixListener) -> anyhow::Result<Child> {
    let _span = trace::span("execute the serving process");
    join_cgroup(request)?;
    let path = std::env::current_exe().context("find this binary")?;
    let shim = unwritable::program(&path)?;
    let mut command = Command::new(format!("/proc/self/fd/{}", shim.as_raw_fd()));
    command
        .arg0(path)
        .args(["-namespace", &request.namespace, "-id", &request.id])
        .args(["-address", &request.address, "-socket", address])
        .args(request.debug.then_some("-debug"))
        .env("TTRPC_ADDRESS", &request.ttrpc_address)
        .stdin(Stdio::from(OwnedFd::from(listener)))
        // What a process is not given of its stdio, it inherits.
        .stdout(unwritable::null()?)
        .stderr(unwritable::null()?)
        // Signals to containerd's process group are not for the Pods.
        .process_group(0);
    // Sockets that systemd gave containerd are not for the Pods either.
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
        command.env_remove(name);
    }
    command.spawn().context("execute the serving process")
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
